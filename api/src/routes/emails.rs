//! `/dev/crm/emails`: sent and queued emails, and an operator's decisions about them.

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::error::Reason;
use shared::mail::{self, Email, WholeEmail};
use shared::query::Columns;

use crate::AppState;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::lists;
use crate::respond::write::Write;
use crate::respond::{Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let emails = [
        Operation::get("/emails", list).named("list", "List emails").lists::<Email>(&mail::LIST),
        Operation::get("/emails/{emailId}", read)
            .named("get", "Get an email")
            .about("Includes its headers and bodies, with the links that authorize their recipient.")
            .shows_secret()
            .reads::<WholeEmail>(),
        Operation::post("/emails/{emailId}/resend", resend)
            .named("resend", "Resend an email")
            .about(
                "Only for an email that is `unknown` or `bounced`; otherwise returns 409. Resending an `unknown` email \
                 may deliver two copies, which have the same Message-ID. Nothing is sent to a suppressed address, and bulk \
                 email leaves only in the workspace's sending window.",
            )
            .conflicts([Reason::WrongState])
            .shows_secret()
            .returns_record::<WholeEmail>(200, "The queued email."),
        Operation::post("/emails/{emailId}/mark-sent", mark_sent)
            .named("markSent", "Mark an email as sent")
            .about(
                "Only for an email that is `unknown`, once the mail server's log shows that it accepted the email; \
                 otherwise returns 409.",
            )
            .conflicts([Reason::WrongState])
            .shows_secret()
            .returns_record::<WholeEmail>(200, "The email, marked as sent."),
    ];
    tagged("Emails", emails)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Email>(&state, caller.workspace_id, (&mail::LIST, Columns::plain(mail::COLUMNS)), None, &uri, query)
        .await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let email = mail::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&email)?.into_response())
}

async fn resend(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(
                async move { Ok(Reply::record(&mail::resend(connection, actor, id).await?)?.notifying(mail::QUEUE)) },
            )
        })
        .await
}

async fn mark_sent(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&mail::mark_sent(connection, actor, id).await?) })
        })
        .await
}
