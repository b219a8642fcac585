//! `/dev/crm/emails/preview`: renders an email without sending it.

use shared::mail::templates::Rendered;
use shared::workflows::preview::{self, Server};

use crate::AppState;
use crate::extract::{JsonObject, NoQuery};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::write::Write;
use crate::respond::{Reply, Result};
use axum::extract::State;

pub(crate) fn operations() -> Vec<Operation> {
    let preview = Operation::post("/emails/preview", preview)
        .named("preview", "Preview an email")
        .about(
            "Renders a template of the settings, or one that is not saved yet, with example values, with a lead or a \
             customer, or with your own values. Nothing is sent. A template that could not be saved is rejected.",
        )
        .refers()
        .takes("EmailPreview".to_owned(), preview::preview_schema())
        .returns::<Rendered>(200, "The rendered email.");
    tagged("Emails", [preview])
}

async fn preview(
    State(state): State<AppState>,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
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
