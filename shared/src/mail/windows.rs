//! Sending windows: the hours and days on which a workspace sends bulk email.
//!
//! An email outside of its window waits in the outbox until the window opens. The window is computed when the
//! email is written, when it is leased, and once more before it is sent, from the present settings: an email
//! may have become late because workers or the mail server were down.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Datelike, Days as DayCount, LocalResult, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Leased;
use crate::error::Result;
use crate::values::Field;
use crate::values::dates::{instant_of, zone};
use crate::values::hours::{Days, Hours};

/// How many days an opening is searched for. The longest wait is for one day of the week whose hours a clock
/// change skips.
const DAYS_AHEAD: u64 = 21;

/// The hours and days on which emails leave, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The hours; `None` is the whole day.
    pub hours: Option<Hours>,
    /// The days on which the hours begin; `None` is every day.
    pub days: Option<Days>,
    /// The time zone of the workspace.
    pub zone: Tz,
}

impl Window {
    /// The same window in the time zone of a recipient, if it is known.
    fn in_zone(mut self, name: Option<&str>) -> Self {
        self.zone = name.and_then(|name| zone(name).ok()).unwrap_or(self.zone);
        self
    }

    /// Whether emails leave at this time.
    pub fn is_open(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.zone).naive_local();
        let (today, time) = (local.date(), local.time());
        let Some(hours) = self.hours else { return self.has(today) };
        match hours.cross_midnight() {
            false => self.has(today) && hours.from <= time && time < hours.to,
            true => (self.has(today) && hours.from <= time) || (self.has(before(today)) && time < hours.to),
        }
    }

    fn has(&self, date: NaiveDate) -> bool {
        self.days.as_ref().is_none_or(|days| days.contain(date.weekday()))
    }

    /// The first time from `at` on at which emails leave.
    pub fn next_opening(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        if self.is_open(at) {
            return at;
        }
        let today = at.with_timezone(&self.zone).date_naive();
        let dates = (0..DAYS_AHEAD).filter_map(|days| today.checked_add_days(DayCount::new(days)));
        let opens = |opening: &DateTime<Utc>| *opening > at && self.is_open(*opening);
        let found = dates.flat_map(|date| self.openings(date)).find(opens);
        // No zone skips the same hours each week; if one did, the email would be considered again then.
        found.unwrap_or(at + chrono::Duration::days(1))
    }

    /// The instants at which the hours of a date may begin. A clock change may skip the local time, which is then
    /// the instant of the change, or repeat it.
    fn openings(&self, date: NaiveDate) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let local = date.and_time(self.hours.map_or_else(Default::default, |hours| hours.from));
        let (first, second) = match self.zone.from_local_datetime(&local) {
            LocalResult::Ambiguous(first, second) => (first.to_utc(), Some(second.to_utc())),
            LocalResult::Single(_) | LocalResult::None => (instant_of(local, self.zone), None),
        };
        std::iter::once(first).chain(second)
    }
}

fn before(date: NaiveDate) -> NaiveDate {
    date.pred_opt().unwrap_or(date)
}

/// The windows of several workspaces; those without one send at any time.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<Uuid, Window>);

#[derive(FromRow)]
struct Row {
    workspace_id: Uuid,
    hours: Option<String>,
    days: Option<Json<Days>>,
    zone: Option<String>,
}

impl Windows {
    /// Reads the windows of these workspaces.
    pub async fn read(connection: &mut PgConnection, workspaces: &[Uuid]) -> Result<Self> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT workspace_id, fields->>'send_between' AS hours, fields->'send_on' AS days, fields->>'time_zone' AS zone
             FROM settings
             WHERE workspace_id = ANY ($1) AND (fields ? 'send_between' OR fields ? 'send_on')",
        )
        .bind(workspaces)
        .fetch_all(connection)
        .await?;
        Ok(Self(rows.into_iter().map(|row| (row.workspace_id, row.window())).collect()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The window of a workspace for a recipient in this time zone.
    pub fn of(&self, workspace_id: Uuid, time_zone: Option<&str>) -> Option<Window> {
        self.0.get(&workspace_id).map(|window| window.clone().in_zone(time_zone))
    }
}

impl Row {
    fn window(self) -> Window {
        Window {
            hours: self.hours.and_then(|hours| Hours::from_text(&hours).ok()),
            days: self.days.map(|Json(days)| days),
            zone: self.zone.and_then(|name| zone(&name).ok()).unwrap_or(Tz::UTC),
        }
    }
}

/// Returns the leased emails that may leave now, each with its window, and the number of those that wait for
/// theirs to open.
pub(super) async fn divide(connection: &mut PgConnection, mut emails: Vec<Leased>) -> Result<(Vec<Leased>, usize)> {
    let bulk = emails.iter().filter(|email| email.content.event.is_bulk());
    let workspaces: HashSet<Uuid> = bulk.map(|email| email.workspace_id).collect();
    if workspaces.is_empty() {
        return Ok((emails, 0));
    }
    let windows = Windows::read(connection, &workspaces.into_iter().collect::<Vec<_>>()).await?;
    if windows.is_empty() {
        return Ok((emails, 0));
    }
    for email in emails.iter_mut().filter(|email| email.content.event.is_bulk()) {
        email.window = windows.of(email.workspace_id, email.to_time_zone.as_deref());
    }
    let (open, closed): (Vec<Leased>, Vec<Leased>) =
        emails.into_iter().partition(|email| email.may_leave(email.leased_at()));
    let waiting: Vec<(&Leased, DateTime<Utc>)> =
        closed.iter().map(|email| (email, email.next_opening(email.leased_at()))).collect();
    wait_until(connection, waiting).await?;
    Ok((open, closed.len()))
}

/// Hands a leased email back whose window closed before it was sent; it waits for the next opening.
pub async fn wait_for_window(connection: &mut PgConnection, email: &Leased, now: DateTime<Utc>) -> Result<()> {
    wait_until(connection, vec![(email, email.next_opening(now))]).await
}

async fn wait_until(connection: &mut PgConnection, mut waiting: Vec<(&Leased, DateTime<Utc>)>) -> Result<()> {
    waiting.sort_unstable_by_key(|(email, _)| email.lease());
    for waiting in waiting.chunk_by(|(one, _), (other, _)| one.workspace_id == other.workspace_id) {
        sqlx::query(
            "UPDATE emails SET lease_until = NULL, run_at = waiting.opens_at, opens_at = waiting.opens_at
             FROM unnest($2::uuid[], $3::integer[], $4::timestamptz[]) AS waiting (id, attempt, opens_at)
             WHERE emails.workspace_id = $1 AND emails.id = waiting.id AND emails.attempt = waiting.attempt",
        )
        .persistent(false)
        .bind(waiting[0].0.workspace_id)
        .bind(waiting.iter().map(|(email, _)| email.id).collect::<Vec<_>>())
        .bind(waiting.iter().map(|(email, _)| email.attempt).collect::<Vec<_>>())
        .bind(waiting.iter().map(|(_, opens_at)| *opens_at).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Makes the emails due that wait for a window, because the window was changed. Those for which the new one is
/// closed wait again as soon as they are leased.
pub async fn reconsider(connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
    // Rows are locked in the order of their ids, so that two statements cannot deadlock.
    sqlx::query(
        "UPDATE emails SET run_at = now(), opens_at = NULL
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM emails
             WHERE workspace_id = $1 AND state IN ('queued', 'deferred') AND lease_until IS NULL
                 AND run_at > now() AND run_at = opens_at
             ORDER BY id FOR UPDATE
         ))",
    )
    .bind(workspace_id)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
