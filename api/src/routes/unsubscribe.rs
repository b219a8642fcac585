//! `/unsubscribe/{token}`: where the readers of bulk mails say that they want no more of them.
//!
//! The link is in the mail and in its `List-Unsubscribe` header (RFC 8058): a `GET` changes nothing,
//! since programs that look for danger follow links, and a `POST` does it, whether a person presses the
//! button or a mail program sends `List-Unsubscribe=One-Click`. The signed link says all there is to
//! say, so what the body holds does not matter, and again changes nothing.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::json;
use shared::mail::action_urls::Action;
use shared::mail::suppressions::{self, Reason};
use shared::mail::{self, Addressee};
use shared::platform::db::Transaction;
use shared::platform::signed_links::Signer;
use sqlx::PgConnection;
use utoipa::openapi::ObjectBuilder;
use uuid::Uuid;

use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;
use crate::{AppState, pages};

pub(crate) fn operations() -> Vec<Operation> {
    let one_click = parameters::one_of(["One-Click"]);
    let unsubscribe = [
        Operation::page("/unsubscribe/{token}", show)
            .named("showUnsubscribe", "The page with the button; changes nothing")
            .shows("The page."),
        Operation::form("/unsubscribe/{token}", unsubscribe)
            .named("unsubscribe", "Send no further mails to the mail's address")
            .about("By the button, or in one click by a mail program (RFC 8058). Again changes nothing.")
            .takes_any_form(ObjectBuilder::new().property("List-Unsubscribe", one_click))
            .shows("It is done."),
    ];
    tagged("Pages", unsubscribe)
}

/// Whom a link is for; `None` for a link that leads nowhere.
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
    let Some((workspace_id, _, Addressee { email, sender })) = addressee(&mut connection, &token).await? else {
        return pages::unknown_link();
    };
    if suppressions::suppressed(&mut connection, workspace_id, &[email.key()]).await?.contains(&email.key()) {
        return done(email.as_ref(), &sender);
    }
    pages::page(StatusCode::OK, "Unsubscribe", "unsubscribe", &json!({ "email": email, "sender": sender }))
}

async fn unsubscribe(State(state): State<AppState>, Path(token): Path<String>) -> Result {
    let mut step = Transaction::begin(&state.pool).await?;
    let Some((workspace_id, id, Addressee { email, sender })) = addressee(&mut step, &token).await? else {
        step.rollback().await?;
        return pages::unknown_link();
    };
    suppressions::add(&mut step, workspace_id, &email, Reason::Unsubscribed, Some(id)).await?;
    step.commit().await?;
    done(email.as_ref(), &sender)
}

fn done(email: &str, sender: &str) -> Result {
    let text = format!("{sender} sends no further mails to {email}.");
    pages::message(StatusCode::OK, "You are unsubscribed", &text)
}
