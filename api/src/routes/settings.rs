//! `/dev/crm/settings`

use axum::extract::State;
use axum::response::IntoResponse;
use shared::accounts::scopes::Scope;
use shared::accounts::settings::{self, Settings};

use crate::AppState;
use crate::extract::{JsonObject, NoQuery};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let settings = [
        Operation::get("/settings", read)
            .needs(Scope::Settings)
            .named("get", "Get the workspace's settings")
            .about("Fields that were not set have the server's defaults.")
            .reads::<Settings>(),
        Operation::put("/settings", update)
            .needs(Scope::Settings)
            .named("update", "Update the workspace's settings")
            .about(
                "Changes only the given fields, and within `templates` only the given parts. `null` restores the \
                 default. `nurture_sequence` is replaced as a whole; a step sent with its `id` keeps it, and a lead \
                 receives each step at most once. A template with a syntax error, or with a variable that its emails \
                 do not have, is rejected with the line.",
            )
            .takes("SettingsUpdate".to_owned(), settings::update_schema())
            .returns_record::<Settings>(200, "All settings after the update."),
    ];
    tagged("Settings", settings)
}

async fn read(State(state): State<AppState>, caller: Caller, _: NoQuery) -> Result {
    let settings = settings::get(&mut *state.connection().await?, caller.workspace_id).await?;
    Ok(Reply::record(&settings)?.into_response())
}

async fn update(
    State(state): State<AppState>,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let condition = write.condition.clone();
    write
        .run(&bytes, move |connection, actor| {
            let (state, object, condition) = (state.clone(), object.clone(), condition.clone());
            Box::pin(async move {
                let mail = &state.settings.mail;
                Reply::record(&settings::update(connection, actor, object, &condition, mail).await?)
            })
        })
        .await
}
