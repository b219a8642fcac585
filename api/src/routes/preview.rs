//! `/dev/crm/emails/preview`: what a mail would look like.

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
        .named("previewEmail", "See what a mail would look like")
        .about(
            "Nothing is sent. A template of the settings, or one that is not saved yet, is filled in with an example, \
             with a lead or a customer, or with values of your own. One that cannot be saved is refused alike.",
        )
        .problems([404])
        .takes("EmailPreview".to_owned(), preview::preview_schema())
        .returns::<Rendered>(200, "The mail.");
    tagged("Settings", [preview])
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
