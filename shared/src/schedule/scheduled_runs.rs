//! Scheduled runs, once per workspace and local date.
//!
//! Every worker checks each minute. [`due`] depends on the time alone, and the row of the scheduled run,
//! written in the transaction that enqueues the job, decides which worker starts it. So it does not
//! matter how many workers check, how late, or how often they restart.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::accounts::settings::Overrides;
use crate::error::Result;
use crate::queue::{self, Job, NewJob, Payload};

/// How many days scheduled runs are kept.
pub const KEPT_DAYS: i32 = 400;

/// The schedule of a workspace's nightly run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The local time.
    pub at: NaiveTime,
    /// The time zone.
    pub zone: Tz,
    /// The start of the schedule: earlier slots do not count.
    pub since: DateTime<Utc>,
}

/// The latest date whose slot has passed by `now` and whose run was not started yet, where `last` is the
/// latest date whose run was started. If several runs were missed, only the latest is made up.
pub fn due(now: DateTime<Utc>, schedule: &Schedule, last: Option<NaiveDate>) -> Option<NaiveDate> {
    let today = today(now, schedule.zone);
    // The slot of a date may be after the end of the date, see `slot`, so the latest may be an earlier date.
    let dates = [Some(today), today.checked_sub_days(Days::new(1)), today.checked_sub_days(Days::new(2))];
    let has_passed = |date: &NaiveDate| slot(*date, schedule).is_some_and(|slot| schedule.since <= slot && slot <= now);
    dates.into_iter().flatten().find(has_passed).filter(|date| last.is_none_or(|last| *date > last))
}

/// The dates whose slots passed since `since`, up to `now`, and in any case the latest one, which is
/// the only one that would be made up.
fn passed(schedule: &Schedule, since: DateTime<Utc>, now: DateTime<Utc>) -> Vec<NaiveDate> {
    let since = since.max(schedule.since).max(now - TimeDelta::days(KEPT_DAYS.into()));
    let first = today(since, schedule.zone).checked_sub_days(Days::new(1));
    let dates = first.unwrap_or_default().iter_days().take_while(|date| *date <= today(now, schedule.zone));
    let has_passed = |date: &NaiveDate| slot(*date, schedule).is_some_and(|slot| since <= slot && slot <= now);
    let mut passed: Vec<NaiveDate> = dates.filter(has_passed).collect();
    passed.extend(due(now, schedule, passed.last().copied()));
    passed
}

/// The local date of the workspace.
pub fn today(now: DateTime<Utc>, zone: Tz) -> NaiveDate {
    now.with_timezone(&zone).date_naive()
}

/// The first instant of a local date at or after the scheduled time; `None` for a date that the time zone
/// skips. If a clock change skips the scheduled time, the slot is right after the change; if the time occurs
/// twice, the slot is the first.
fn slot(date: NaiveDate, schedule: &Schedule) -> Option<DateTime<Utc>> {
    const LONGEST_GAP_MINUTES: i64 = 25 * 60;
    let wanted = date.and_time(schedule.at);
    let instant = (0..=LONGEST_GAP_MINUTES)
        .find_map(|minutes| schedule.zone.from_local_datetime(&(wanted + TimeDelta::minutes(minutes))).earliest())?;
    let just_before = instant - TimeDelta::nanoseconds(1);
    let is_there = instant.date_naive() == date || just_before.date_naive() == date;
    is_there.then(|| instant.to_utc())
}

/// What the schedule of a workspace depends on.
#[derive(FromRow)]
struct ScheduleRow {
    id: Uuid,
    created_at: DateTime<Utc>,
    fields: Option<Json<Overrides>>,
    last: Option<NaiveDate>,
}

/// The workspaces in which a run of this kind is due, each with the date of the run.
pub async fn due_workspaces(
    connection: &mut PgConnection,
    kind: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(Uuid, NaiveDate)>> {
    let mut due = Vec::new();
    for workspace in schedules(connection, kind).await? {
        due.extend(self::due(now, &workspace.schedule(), workspace.last).map(|date| (workspace.id, date)));
    }
    Ok(due)
}

/// Records that the runs of this kind whose time passed between `since` and `now` were started, in
/// every workspace. Returns the number of runs.
pub async fn set_aside(
    connection: &mut PgConnection,
    kind: &str,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<u64> {
    let mut set_aside = 0;
    for workspace in schedules(connection, kind).await? {
        let recorded = sqlx::query(
            "INSERT INTO scheduled_runs (workspace_id, kind, date, job_id)
             SELECT $1, $2, date, $3 FROM unnest($4::date[]) AS passed (date) ON CONFLICT DO NOTHING",
        )
        .bind(workspace.id)
        .bind(kind)
        // They have no job.
        .bind(Uuid::nil())
        .bind(passed(&workspace.schedule(), since, now))
        .execute(&mut *connection)
        .await?;
        set_aside += recorded.rows_affected();
    }
    Ok(set_aside)
}

impl ScheduleRow {
    fn schedule(&self) -> Schedule {
        let settings = self.fields.as_ref().map(|Json(set)| set.clone()).unwrap_or_default().settings();
        Schedule { at: settings.nightly_at.get(), zone: settings.time_zone.get(), since: self.created_at }
    }
}

async fn schedules(connection: &mut PgConnection, kind: &str) -> Result<Vec<ScheduleRow>> {
    Ok(sqlx::query_as(
        "SELECT workspaces.id, workspaces.created_at, settings.fields, runs.last
         FROM workspaces
         LEFT JOIN settings ON settings.workspace_id = workspaces.id
         LEFT JOIN (
             -- Runs of earlier days do not matter.
             SELECT workspace_id, max(date) AS last FROM scheduled_runs
             WHERE kind = $1 AND date > current_date - 5 GROUP BY workspace_id
         ) AS runs ON runs.workspace_id = workspaces.id",
    )
    .bind(kind)
    .fetch_all(connection)
    .await?)
}

/// Starts the run of a date, unless it was already started. Returns the job of the run and whether it is
/// new. Needs a transaction, which records the run and enqueues its job.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if the run is so old that its job was deleted.
pub async fn begin<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    date: NaiveDate,
    payload: &P,
) -> Result<(Job, bool)> {
    let job_id = Uuid::now_v7();
    // A concurrent caller waits here until this transaction has committed, and then finds the row.
    let inserted = sqlx::query(
        "INSERT INTO scheduled_runs (workspace_id, kind, date, job_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(workspace_id)
    .bind(P::KIND)
    .bind(date)
    .bind(job_id)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 1 {
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
            // 02:30 does not exist in this night; 03:00 is the first instant after it.
            ("2026-03-29", "02:30", Europe::Berlin, Some("2026-03-29T01:00:00Z")),
            // 02:30 occurs twice in this night.
            ("2026-10-25", "02:30", Europe::Berlin, Some("2026-10-25T00:30:00Z")),
            // The hour after midnight is skipped.
            ("2010-09-10", "00:30", Africa::Cairo, Some("2010-09-09T22:00:00Z")),
            // The whole day is skipped.
            ("2011-12-30", "02:00", Pacific::Apia, None),
            ("2011-12-31", "02:00", Pacific::Apia, Some("2011-12-30T12:00:00Z")),
        ] {
            assert_eq!(slot_at(day, at, zone), instant.map(time), "{day} {at} {zone}");
        }
    }

    #[test]
    fn of_several_missed_runs_only_the_latest_is_made_up() {
        let nightly = schedule("02:00:00", chrono_tz::UTC);
        let now = time("2026-11-25T12:00:00Z");
        assert_eq!(due(now, &nightly, Some(date("2026-11-20"))), Some(date("2026-11-25")));
        assert_eq!(due(now, &nightly, Some(date("2026-11-25"))), None);
        assert_eq!(due(time("2026-11-25T01:59:59Z"), &nightly, Some(date("2026-11-24"))), None);
        assert_eq!(due(time("2026-11-25T01:59:59Z"), &nightly, Some(date("2026-11-23"))), Some(date("2026-11-24")));
    }

    #[test]
    fn the_runs_of_a_lost_time_are_those_whose_slots_passed_in_it() {
        let nightly = schedule("02:00:00", chrono_tz::UTC);
        let passed = |since: &str, now: &str| passed(&nightly, time(since), time(now));
        let days = |days: &[&str]| days.iter().map(|day| date(day)).collect::<Vec<_>>();
        let lost = passed("2026-11-23T02:00:01Z", "2026-11-25T02:00:00Z");
        assert_eq!(lost, days(&["2026-11-24", "2026-11-25"]));
        // The night before was perhaps begun after the backup.
        assert_eq!(passed("2026-11-25T03:00:00Z", "2026-11-25T04:00:00Z"), days(&["2026-11-25"]));
    }

    #[test]
    fn slots_before_the_workspace_was_created_are_not_made_up() {
        let nightly = Schedule { since: time("2026-11-25T10:00:00Z"), ..schedule("02:00:00", chrono_tz::UTC) };
        assert_eq!(due(time("2026-11-25T12:00:00Z"), &nightly, None), None);
        assert_eq!(due(time("2026-11-26T02:00:00Z"), &nightly, None), Some(date("2026-11-26")));
    }

    #[test]
    fn changing_the_time_or_zone_does_not_repeat_a_run() {
        let later = schedule("23:00:00", chrono_tz::UTC);
        assert_eq!(due(time("2026-11-25T23:30:00Z"), &later, Some(date("2026-11-25"))), None);
        let west = schedule("02:00:00", chrono_tz::America::Los_Angeles);
        assert_eq!(due(time("2026-11-25T12:00:00Z"), &west, Some(date("2026-11-25"))), None);
    }

    #[test]
    fn slots_of_twenty_years_are_in_order_in_every_zone() {
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
