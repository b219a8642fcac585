//! `/unsubscribe/{token}`: recipients unsubscribe from bulk email.
//!
//! The link is in the email and in its `List-Unsubscribe` header (RFC 8058). A `GET` changes
//! nothing, because security scanners follow links. A `POST` unsubscribes, sent by the page's
//! button or by an email program as `List-Unsubscribe=One-Click`. The signed link identifies the
//! email, so the body is ignored. Repeating the request changes nothing.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::json;
use shared::events::{Actor, ActorKind};
use shared::mail::action_urls::Action;
use shared::mail::suppressions::{self, NewSuppression, Reason};
use shared::mail::{self, Addressee, Event};
use shared::platform::db::Transaction;
use shared::platform::signed_links::Signer;
use shared::values::{self, Field};
use sqlx::PgConnection;
use utoipa::openapi::ObjectBuilder;
use uuid::Uuid;

use crate::http::observe::RequestId;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;
use crate::{AppState, pages};

pub(crate) fn operations() -> Vec<Operation> {
    let one_click = parameters::one_of(["One-Click"]);
    let unsubscribe = [
        Operation::page("/unsubscribe/{token}", show)
            .named("showUnsubscribe", "Show the unsubscribe page")
            .about("Changes nothing.")
            .shows("The page with the button, or a confirmation if the address is unsubscribed already."),
        Operation::form("/unsubscribe/{token}", unsubscribe)
            .named("unsubscribe", "Unsubscribe the email's address")
            .about("Sent by the page's button, or by an email program in one click (RFC 8058). Repeating it changes nothing.")
            .takes_any_form(ObjectBuilder::new().property("List-Unsubscribe", one_click))
            .shows("The confirmation."),
    ];
    tagged("Pages", unsubscribe)
}

/// The recipient that a link belongs to; `None` for an invalid link.
async fn addressee(connection: &mut PgConnection, token: &str) -> shared::Result<Option<(Uuid, Uuid, Addressee)>> {
    let signer = Signer::load(connection).await?;
    let Some((workspace_id, id)) = Action::Unsubscribe.verify(&signer, token) else { return Ok(None) };
    match mail::addressee(connection, workspace_id, id).await {
        Ok(addressee) => Ok(Some((workspace_id, id, addressee))),
        Err(shared::Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn show(State(state): State<AppState>, Path(token): Path<String>) -> Result {
    let mut connection = state.connection().await?;
    let Some((workspace_id, _, Addressee { email, sender, .. })) = addressee(&mut connection, &token).await? else {
        return pages::unknown_link();
    };
    let suppressed = suppressions::suppressed(&mut connection, workspace_id, Event::Nurture, &[email.key()]).await?;
    if suppressed.contains(&email.key()) {
        return done(email.as_ref(), &sender);
    }
    pages::page(StatusCode::OK, "Unsubscribe", "unsubscribe", &json!({ "email": email, "sender": sender }))
}

async fn unsubscribe(
    State(state): State<AppState>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Path(token): Path<String>,
) -> Result {
    let mut transaction = Transaction::begin(&state.pool).await?;
    let Some((workspace_id, id, Addressee { email, sender, record_id })) = addressee(&mut transaction, &token).await?
    else {
        transaction.rollback().await?;
        return pages::unknown_link();
    };
    let unsubscribed = NewSuppression::new(&email, Reason::Unsubscribed);
    let unsubscribed = NewSuppression {
        email_id: Some(id),
        request_id: values::RequestId::from_text(&request_id).ok(),
        ..unsubscribed
    };
    let (kind, id) = (ActorKind::Customer, record_id.unwrap_or(id));
    let actor = Actor { workspace_id, kind, id, request_id: Some(request_id) };
    suppressions::add(&mut transaction, &actor, &unsubscribed).await?;
    transaction.commit().await?;
    done(email.as_ref(), &sender)
}

fn done(email: &str, sender: &str) -> Result {
    let text = format!("{sender} will no longer send emails to {email}.");
    pages::message(StatusCode::OK, "You are unsubscribed", &text)
}
