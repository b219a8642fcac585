//! The clock: what runs by itself, once for each workspace and local date.
//!
//! Every worker looks each minute. What is due is told by [`due`] from the time alone, and the row
//! of the slot, written in the transaction that enqueues the job, decides who begins it. So it does
//! not matter how many workers look, how late, or how often they were started again.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::accounts::settings::Overrides;
use crate::error::Result;
use crate::queue::{self, Job, NewJob, Payload};

/// When a workspace wants its nightly run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The local time.
    pub at: NaiveTime,
    /// Where that is.
    pub zone: Tz,
    /// The time from which slots count: those before it were nobody's.
    pub since: DateTime<Utc>,
}

/// The latest date whose slot has come by `now` and was not begun, if `last` is the latest that was.
/// Of several that were missed only that one is made up.
pub fn due(now: DateTime<Utc>, schedule: &Schedule, last: Option<NaiveDate>) -> Option<NaiveDate> {
    let today = today(now, schedule.zone);
    // The slot of a date may come after its end, see `slot`, so the day before may be the latest.
    let dates = [Some(today), today.checked_sub_days(Days::new(1)), today.checked_sub_days(Days::new(2))];
    let came = |date: &NaiveDate| slot(*date, schedule).is_some_and(|slot| schedule.since <= slot && slot <= now);
    dates.into_iter().flatten().find(came).filter(|date| last.is_none_or(|last| *date > last))
}

/// The date where the workspace is.
pub fn today(now: DateTime<Utc>, zone: Tz) -> NaiveDate {
    now.with_timezone(&zone).date_naive()
}

/// The first instant of a local date at or after the scheduled time; `None` for a date that a zone
/// has left out. A time that is left out by a change of the clocks is made up right after it, and of
/// a time that comes twice it is the first.
fn slot(date: NaiveDate, schedule: &Schedule) -> Option<DateTime<Utc>> {
    const LONGEST_GAP_MINUTES: i64 = 25 * 60;
    let wanted = date.and_time(schedule.at);
    let instant = (0..=LONGEST_GAP_MINUTES)
        .find_map(|minutes| schedule.zone.from_local_datetime(&(wanted + TimeDelta::minutes(minutes))).earliest())?;
    let just_before = instant - TimeDelta::nanoseconds(1);
    let is_there = instant.date_naive() == date || just_before.date_naive() == date;
    is_there.then(|| instant.to_utc())
}

/// A workspace as the clock sees it.
#[derive(FromRow)]
struct Clocked {
    id: Uuid,
    created_at: DateTime<Utc>,
    fields: Option<Json<Overrides>>,
    last: Option<NaiveDate>,
}

/// The workspaces in which a run of this kind is due, each with its date.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn due_workspaces(
    connection: &mut PgConnection,
    kind: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, NaiveDate)>> {
    let clocked: Vec<Clocked> = sqlx::query_as(
        "SELECT workspaces.id, workspaces.created_at, settings.fields, runs.last
         FROM workspaces
         LEFT JOIN settings ON settings.workspace_id = workspaces.id
         LEFT JOIN (
             -- Those of earlier days decide nothing.
             SELECT workspace_id, max(date) AS last FROM scheduled_runs
             WHERE kind = $1 AND date > current_date - 5 GROUP BY workspace_id
         ) AS runs ON runs.workspace_id = workspaces.id",
    )
    .bind(kind)
    .fetch_all(connection)
    .await?;
    let mut due = Vec::new();
    for workspace in clocked {
        let settings = workspace.fields.map(|Json(set)| set).unwrap_or_default().settings();
        let schedule =
            Schedule { at: settings.nightly_at.get(), zone: settings.time_zone.get(), since: workspace.created_at };
        due.extend(self::due(now, &schedule, workspace.last).map(|date| (workspace.id, date)));
    }
    Ok(due)
}

/// Begins the run of a date, unless it was begun: the job of it, and whether it is new. Needs a
/// transaction: the run is noted and its job enqueued in one.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away;
/// [`Error::NotFound`](crate::Error::NotFound) if it was begun so long ago that its job is gone.
pub async fn begin<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    date: NaiveDate,
    payload: &P,
) -> Result<(Job, bool)> {
    let job_id = Uuid::now_v7();
    // Whoever comes second waits here until the first has committed, and then finds its row.
    let taken = sqlx::query(
        "INSERT INTO scheduled_runs (workspace_id, kind, date, job_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(workspace_id)
    .bind(P::KIND)
    .bind(date)
    .bind(job_id)
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() == 1 {
        let job = NewJob::new(workspace_id, payload)?.id(job_id);
        return Ok((queue::enqueue(connection, job).await?, true));
    }
    let existing =
        sqlx::query_scalar("SELECT job_id FROM scheduled_runs WHERE workspace_id = $1 AND kind = $2 AND date = $3")
            .bind(workspace_id)
            .bind(P::KIND)
            .bind(date)
            .fetch_one(&mut *connection)
            .await?;
    Ok((queue::get(connection, workspace_id, existing).await?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(at: &str, zone: Tz) -> Schedule {
        Schedule { at: at.parse().unwrap(), zone, since: time("2000-01-01T00:00:00Z") }
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn slot_at(day: &str, at: &str, zone: Tz) -> Option<DateTime<Utc>> {
        slot(date(day), &schedule(&format!("{at}:00"), zone))
    }

    #[test]
    fn a_slot_is_the_first_instant_of_its_date_at_or_after_the_time() {
        use chrono_tz::{Africa, Europe, Pacific, UTC};
        for (day, at, zone, instant) in [
            ("2026-11-25", "02:00", UTC, Some("2026-11-25T02:00:00Z")),
            ("2026-11-25", "00:00", Europe::Berlin, Some("2026-11-24T23:00:00Z")),
            // 02:30 does not exist in this night, 03:00 is the first instant behind it.
            ("2026-03-29", "02:30", Europe::Berlin, Some("2026-03-29T01:00:00Z")),
            // 02:30 exists twice in this one.
            ("2026-10-25", "02:30", Europe::Berlin, Some("2026-10-25T00:30:00Z")),
            // The hour after midnight is left out.
            ("2010-09-10", "00:30", Africa::Cairo, Some("2010-09-09T22:00:00Z")),
            // The whole day is left out.
            ("2011-12-30", "02:00", Pacific::Apia, None),
            ("2011-12-31", "02:00", Pacific::Apia, Some("2011-12-30T12:00:00Z")),
        ] {
            assert_eq!(slot_at(day, at, zone), instant.map(time), "{day} {at} {zone}");
        }
    }

    #[test]
    fn what_was_missed_is_made_up_once_for_the_latest_date_only() {
        let nightly = schedule("02:00:00", chrono_tz::UTC);
        let now = time("2026-11-25T12:00:00Z");
        assert_eq!(due(now, &nightly, Some(date("2026-11-20"))), Some(date("2026-11-25")));
        assert_eq!(due(now, &nightly, Some(date("2026-11-25"))), None);
        assert_eq!(due(time("2026-11-25T01:59:59Z"), &nightly, Some(date("2026-11-24"))), None);
        assert_eq!(due(time("2026-11-25T01:59:59Z"), &nightly, Some(date("2026-11-23"))), Some(date("2026-11-24")));
    }

    #[test]
    fn slots_before_the_workspace_was_made_are_not_made_up() {
        let nightly = Schedule { since: time("2026-11-25T10:00:00Z"), ..schedule("02:00:00", chrono_tz::UTC) };
        assert_eq!(due(time("2026-11-25T12:00:00Z"), &nightly, None), None);
        assert_eq!(due(time("2026-11-26T02:00:00Z"), &nightly, None), Some(date("2026-11-26")));
    }

    #[test]
    fn another_time_or_zone_does_not_run_a_date_again() {
        let later = schedule("23:00:00", chrono_tz::UTC);
        assert_eq!(due(time("2026-11-25T23:30:00Z"), &later, Some(date("2026-11-25"))), None);
        let west = schedule("02:00:00", chrono_tz::America::Los_Angeles);
        assert_eq!(due(time("2026-11-25T12:00:00Z"), &west, Some(date("2026-11-25"))), None);
    }

    #[test]
    fn every_date_of_twenty_years_has_its_slot_in_order_wherever_it_is() {
        for zone in [chrono_tz::Africa::Cairo, chrono_tz::America::Sao_Paulo, chrono_tz::Australia::Lord_Howe] {
            for at in ["00:00:00", "00:30:00", "02:15:00", "23:59:00"] {
                let schedule = schedule(at, zone);
                let dates = date("2006-01-01").iter_days().take(20 * 365);
                let slots: Vec<DateTime<Utc>> = dates.map(|date| slot(date, &schedule).unwrap()).collect();
                assert!(slots.is_sorted_by(|before, after| before < after), "{zone} {at}");
            }
        }
    }
}
