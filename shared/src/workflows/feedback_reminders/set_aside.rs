//! Sets aside the reminders that fell due.

use std::collections::HashMap;

use chrono::TimeDelta;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Open, Would, open_requests};
use crate::accounts::settings;
use crate::crm::feedback::{Feedback, FeedbackStatus};
use crate::error::Result;
use crate::mail::Event;
use crate::platform::db;
use crate::records::history::Actor;
use crate::records::{self, RecordType};
use crate::values::Time;
use crate::workflows::set_aside::SetAside;

/// Records that the customers of a page of open requests were reminded whenever a reminder fell due
/// by `now`.
pub async fn set_aside(
    connection: &mut PgConnection,
    actor: &Actor,
    cursor: Option<(Time, Uuid)>,
    now: Time,
) -> Result<(Vec<SetAside>, Option<(Time, Uuid)>)> {
    let workspace_id = actor.workspace_id;
    db::plan_afresh(connection).await?;
    let settings = settings::get(connection, workspace_id).await?;
    let wait = TimeDelta::days(settings.feedback_reminder_after_days.into());
    let after = cursor.unwrap_or((Time::UNIX_EPOCH, Uuid::nil()));
    let requests = open_requests(connection, workspace_id, after, now).await?;
    let Some(next) = requests.last().map(|last| (last.created_at, last.id)) else { return Ok((Vec::new(), None)) };
    let due: HashMap<Uuid, (Open, Vec<Time>)> = requests
        .into_iter()
        // The request's own email may have left from the other database.
        .map(|request| Open { mailed: true, ..request })
        .map(|request| (request.id, due_reminders(request, wait, now)))
        .filter(|(_, (_, times))| !times.is_empty())
        .collect();
    let ids: Vec<Uuid> = due.keys().copied().collect();
    let (mut set_aside, mut changed) = (Vec::new(), Vec::new());
    for before in records::lock::<Feedback>(connection, workspace_id, &ids).await? {
        let Some((request, times)) = due.get(&before.id).filter(|_| before.status == FeedbackStatus::Requested) else {
            continue;
        };
        set_aside.extend(times.iter().map(|at| SetAside {
            event: Event::FeedbackReminder,
            record_type: RecordType::Feedback,
            record_id: before.id,
            email: request.email.clone(),
            due_at: *at,
        }));
        let Open { reminders, last_reminder_at, .. } = *request;
        let mut after = Feedback { reminders, last_reminder_at, ..before.clone() };
        records::mark_changed(&before, &mut after, now);
        changed.push((before, after));
    }
    records::update_all(connection, actor, &changed).await?;
    Ok((set_aside, Some(next)))
}

/// The times at which reminders fell due if each was sent at once, and the request after them.
fn due_reminders(mut request: Open, wait: TimeDelta, now: Time) -> (Open, Vec<Time>) {
    let mut times = Vec::new();
    loop {
        let verdict = request.verdict(wait, now);
        if verdict.would != Would::Remind {
            return (request, times);
        }
        times.push(verdict.at);
        request.reminders += 1;
        request.last_reminder_at = Some(verdict.at);
    }
}
