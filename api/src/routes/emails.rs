//! `/dev/crm/emails`: what was or will be sent, and what an operator decides about it.

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::error::Reason;
use shared::mail::{self, Email, WholeEmail};

use crate::AppState;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::lists;
use crate::respond::write::Write;
use crate::respond::{Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let emails = [
        Operation::get("/emails", list)
            .named("listEmails", "List what was or will be sent")
            .lists::<Email>(&mail::LIST),
        Operation::get("/emails/{emailId}", read)
            .named("getEmail", "Get a mail with its head and bodies")
            .reads::<WholeEmail>(),
        Operation::post("/emails/{emailId}/resend", resend)
            .named("resendEmail", "Send a mail again")
            .about(
                "For a mail that is `unknown` or `bounced`; any other is a 409. Whoever sends an `unknown` one again \
                 decides that rather two copies arrive than none. Both have the same Message-ID. To an address that \
                 is suppressed nothing is sent.",
            )
            .conflicts([Reason::WrongState])
            .returns_record::<WholeEmail>(200, "The mail, which is queued."),
        Operation::post("/emails/{emailId}/mark-sent", mark_sent)
            .named("markEmailSent", "Say that a mail was sent")
            .about(
                "For a mail that is `unknown`, when the server's log shows that it has taken it; any other is a 409.",
            )
            .conflicts([Reason::WrongState])
            .returns_record::<WholeEmail>(200, "The mail, which is sent."),
    ];
    tagged("Emails", emails)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Email>(&state, caller.workspace_id, (&mail::LIST, mail::COLUMNS), None, &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let email = mail::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&email)?.into_response())
}

async fn resend(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move {
                Ok(Reply::record(&mail::resend(connection, actor.workspace_id, id).await?)?.notifying(mail::QUEUE))
            })
        })
        .await
}

async fn mark_sent(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&mail::mark_sent(connection, actor.workspace_id, id).await?) })
        })
        .await
}
