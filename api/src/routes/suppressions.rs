//! `/dev/crm/suppressions`: addresses to which a workspace sends no email.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use shared::accounts::scopes::Scope;
use shared::crm::suppressions::{self, Suppression};
use shared::error::Reason;
use shared::mail::suppressions::Added;
use shared::records::{Fields, Record};

use super::records;
use crate::AppState;
use crate::extract::{JsonObject, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let suppressions = [
        Operation::get("/suppressions", list)
            .needs(Scope::EmailsRead)
            .named("list", "List suppressions")
            .lists::<Suppression>(const { &Suppression::LIST }),
        Operation::get("/suppressions/export", records::export::<Suppression>)
            .needs(Scope::EmailsRead)
            .named("export", "Export suppressions as CSV")
            .exports::<Suppression>(),
        Operation::post("/suppressions", create)
            .needs(Scope::Workflows)
            .shows_existing(Scope::EmailsRead)
            .named("create", "Suppress an address")
            .about(
                "Queued emails that the suppression covers are not sent. Addresses are compared by their normal form. A \
                 suppression of the address with the scope `marketing` gets the scope `all` if you ask for it, and is \
                 returned with 200. Returns 409 for an address that is suppressed already, as widely or more.",
            )
            .takes("SuppressionCreate".to_owned(), suppressions::create_schema())
            .conflicts([Reason::Taken])
            .returns_record::<Suppression>(201, "The created suppression.")
            .returns_record::<Suppression>(200, "The suppression of the address, with its wider scope."),
        Operation::get("/suppressions/{suppressionId}", read)
            .needs(Scope::EmailsRead)
            .named("get", "Get a suppression")
            .reads::<Suppression>(),
        Operation::delete("/suppressions/{suppressionId}", delete)
            .needs(Scope::Workflows)
            .named("delete", "Remove a suppression")
            .about(
                "Emails that were not sent because of it stay unsent. If the address is suppressed for another reason \
                 too, it has a suppression for that reason then.",
            )
            .deletes(),
    ];
    tagged("Suppressions", suppressions)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let how = (const { &Suppression::LIST }, Suppression::columns());
    lists::answer::<Suppression>(&state, caller.workspace_id, how, None, &uri, query).await
}

async fn create(write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    write
        .run(&bytes, move |connection, actor| {
            let object = object.clone();
            Box::pin(async move {
                let (suppression, added) = suppressions::create(connection, actor, object).await?;
                let reply = Reply::created(format!("/dev/crm/suppressions/{}", suppression.id), &suppression)?;
                Ok(if added == Added::Widened { reply.status(StatusCode::OK) } else { reply })
            })
        })
        .await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let suppression = suppressions::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&suppression)?.into_response())
}

async fn delete(Path(id): Path, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                suppressions::delete(connection, actor, id, &condition).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}
