//! `/dev/crm/sessions`: the sessions of people who are signed in to the console.

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::accounts::api_keys;
use shared::accounts::scopes::Scope;
use shared::accounts::sessions::{self, Session};
use shared::query::Columns;

use crate::AppState;
use crate::extract::{NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let sessions = [
        Operation::get("/sessions", list)
            .needs(Scope::Keys)
            .named("list", "List sessions")
            .lists::<Session>(&sessions::LIST),
        Operation::get("/sessions/{sessionId}", read)
            .needs(Scope::Keys)
            .named("get", "Get a session")
            .reads::<Session>(),
        Operation::delete("/sessions/{sessionId}", end)
            .needs(Scope::Keys)
            .named("end", "End a session")
            .about(
                "Signs the person out: the next request in the session is rejected, and its streams end within two \
                 seconds. The key of the session stays valid. A key ends only sessions of keys whose scopes are all \
                 among its own.",
            )
            .deletes(),
    ];
    tagged("Sessions", sessions)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let list = (&sessions::LIST, Columns::plain(sessions::COLUMNS));
    lists::answer::<Session>(&state, caller.workspace_id, list, None, &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let session = sessions::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&session)?.into_response())
}

async fn end(caller: Caller, Path(id): Path, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                let session = sessions::get(connection, actor.workspace_id, id).await?;
                let key = api_keys::get(connection, actor.workspace_id, session.key_id).await?;
                caller.scopes.must(key.scopes)?;
                condition.check(&session)?;
                sessions::end(connection, actor, id).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}
