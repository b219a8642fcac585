//! `/dev/crm/emails/preview` and `/dev/crm/emails/test`: an email as it looks, and as it arrives.

use shared::accounts::scopes::{Scope, Scopes};
use shared::error::Reason;
use shared::mail::templates::Rendered;
use shared::mail::{self, WholeEmail};
use shared::values::json_body::Object;
use shared::workflows::preview::{self, Server};

use crate::extract::{JsonObject, NoQuery};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;
use crate::{AppState, CRM};
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
    let test = Operation::post("/emails/test", test)
        .needs(Scope::EmailsRead)
        .needs(Scope::Workflows)
        .named("test", "Send a test of an email")
        .about(
            "Renders an email like a preview, and sends it to a user of the workspace, with `[Test]` before its subject. \
             Its links lead nowhere. Nobody else gets it: a lead or a customer only lends it their name. Returns 409 if the \
             user's address is suppressed.",
        )
        .refers()
        .takes("EmailTest".to_owned(), preview::test_schema())
        .conflicts([Reason::Suppressed])
        .shows_secret()
        .returns_created::<WholeEmail>("The queued email.");
    tagged("Emails", [preview, test])
}

async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    may_read(&caller, &object)?;
    write
        .run(&bytes, move |connection, actor| {
            let (state, object) = (state.clone(), object.clone());
            Box::pin(async move {
                Reply::json(&preview::preview(connection, actor.workspace_id, server(&state), object).await?)
            })
        })
        .await
}

async fn test(
    State(state): State<AppState>,
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    may_read(&caller, &object)?;
    write
        .run(&bytes, move |connection, actor| {
            let (state, object) = (state.clone(), object.clone());
            Box::pin(async move {
                let email = preview::test(connection, actor, server(&state), object).await?;
                let place = format!("{CRM}/emails/{}", email.email.id);
                Ok(Reply::created(place, &email)?.notifying(mail::QUEUE))
            })
        })
        .await
}

/// The process's settings that emails need.
fn server(state: &AppState) -> Server<'_> {
    Server { public_url: &state.settings.public_url, mail: &state.settings.mail }
}

/// Checks that the key may read the record that an email is about.
fn may_read(caller: &Caller, body: &Object) -> Result<()> {
    if body.names("lead_id") || body.names("customer_id") {
        caller.must(Scopes::of(&[Scope::RecordsRead]))?;
    }
    Ok(())
}
