//! Sets aside the requests that wait to be emailed.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{RequestFeedback, mailed};
use crate::error::Result;
use crate::events::Actor;
use crate::mail::Event;
use crate::queue::{self, Payload, Reporting};
use crate::records::RecordType;
use crate::values::{Email, Time};
use crate::workflows::set_aside::SetAside;

/// How many requests a page has.
const PAGE: i64 = 1_000;
/// The error of a cancelled job.
const REASON: &str = "email was released with --lost-since: another database may have sent this request";

/// Cancels a page of the jobs that would email a request. A caller who knows that a customer was not
/// asked can retry the job.
pub async fn set_aside(
    connection: &mut PgConnection,
    actor: &Actor,
    _: Option<()>,
) -> Result<(Vec<SetAside>, Option<()>)> {
    let workspace_id = actor.workspace_id;
    let cancelled = queue::cancel_kind(connection, workspace_id, RequestFeedback::KIND, REASON, PAGE).await?;
    let (jobs, cancelled): (Vec<Uuid>, Vec<Uuid>) = cancelled.into_iter().unzip();
    queue::report_end(connection, actor.workspace_id, Some(actor), &jobs, |_| Reporting::End).await?;
    let mailed = mailed(connection, workspace_id, &cancelled).await?;
    let requests: Vec<(Uuid, Email, Time)> = sqlx::query_as(
        "SELECT feedback.id, customers.email, feedback.requested_at FROM feedback
         JOIN customers ON customers.workspace_id = feedback.workspace_id AND customers.id = feedback.customer_id
         WHERE feedback.workspace_id = $1 AND feedback.id = ANY ($2) AND feedback.status = 'requested'",
    )
    .bind(workspace_id)
    .bind(&cancelled)
    .fetch_all(connection)
    .await?;
    let unsent = requests.into_iter().filter(|(id, ..)| !mailed.contains(id));
    let set_aside = unsent.map(|(record_id, email, due_at)| SetAside {
        event: Event::FeedbackRequest,
        record_type: RecordType::Feedback,
        record_id,
        email,
        due_at,
    });
    Ok((set_aside.collect(), (!cancelled.is_empty()).then_some(())))
}
