//! `/dev/crm/emails`: sent and queued emails, and an operator's decisions about them.

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::accounts::scopes::Scope;
use shared::error::Reason;
use shared::mail::{self, Email, WholeEmail};
use shared::query::Columns;

use crate::AppState;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let emails = [
        Operation::get("/emails", list)
            .needs(Scope::EmailsRead)
            .named("list", "List emails")
            .lists::<Email>(&mail::LIST),
        Operation::get("/emails/{emailId}", read)
            .needs(Scope::EmailsRead)
            .named("get", "Get an email")
            .about("Includes its headers and bodies, with the links that authorize their recipient.")
            .shows_secret()
            .reads::<WholeEmail>(),
        Operation::post("/emails/{emailId}/resend", resend)
            .needs(Scope::Workflows)
            .shows_records(Scope::EmailsRead)
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
            .needs(Scope::Workflows)
            .shows_records(Scope::EmailsRead)
            .named("markSent", "Mark an email as sent")
            .about(
                "Only for an email that is `unknown`, once the mail server's log shows that it accepted the email; \
                 otherwise returns 409.",
            )
            .conflicts([Reason::WrongState])
            .shows_secret()
            .returns_record::<WholeEmail>(200, "The email, marked as sent."),
        Operation::post("/emails/{emailId}/cancel", cancel)
            .needs(Scope::Workflows)
            .shows_records(Scope::EmailsRead)
            .named("cancel", "Cancel an email")
            .about(
                "Only for an email that waits, `queued` or `deferred`; otherwise returns 409. It is not sent any more, and \
                 what caused it causes no other email: a cancelled step of nurture counts as received. A request for \
                 feedback can be sent again.",
            )
            .conflicts([Reason::WrongState])
            .shows_secret()
            .returns_record::<WholeEmail>(200, "The cancelled email."),
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

async fn cancel(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&mail::cancel(connection, actor, id).await?) })
        })
        .await
}
