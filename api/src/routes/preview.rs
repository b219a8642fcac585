//! `/dev/crm/emails/preview`: renders an email without sending it.

use shared::accounts::scopes::{Scope, Scopes};
use shared::mail::templates::Rendered;
use shared::workflows::preview::{self, Server};

use crate::AppState;
use crate::extract::{JsonObject, NoQuery};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::write::Write;
use crate::respond::{Reply, Result};
use axum::extract::State;

pub(crate) fn operations() -> Vec<Operation> {
    let preview = Operation::post("/emails/preview", preview)
        .needs(Scope::EmailsRead)
        .named("preview", "Preview an email")
        .about(
            "Renders a template of the settings, or one that is not saved yet, with example values, with a lead or a \
             customer, or with your own values. Nothing is sent. A template that could not be saved is rejected. \
             With a lead or a customer, it also needs the scope `records:read`.",
        )
        .refers()
        .takes("EmailPreview".to_owned(), preview::preview_schema())
        .returns::<Rendered>(200, "The rendered email.");
    tagged("Emails", [preview])
}

async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    if object.names("lead_id") || object.names("customer_id") {
        caller.must(Scopes::of(&[Scope::RecordsRead]))?;
    }
    write
        .run(&bytes, move |connection, actor| {
            let (state, object) = (state.clone(), object.clone());
            Box::pin(async move {
                let server = Server { public_url: &state.settings.public_url, mail: &state.settings.mail };
                Reply::json(&preview::preview(connection, actor.workspace_id, server, object).await?)
            })
        })
        .await
}
