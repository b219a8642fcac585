//! Dealing with the slots of schedules that are due.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::model::{CatchUp, Overlap, Schedule, schedule_columns};
use super::nightly::Nightly;
use super::runs::{self, Key, Of, Open, RunStatus};
use super::work::Work;
use crate::error::{Error, Result};
use crate::events::{Actor, ActorKind};
use crate::platform::db::{Among, Savepoint};
use crate::queue::{self, Job, NewJob};
use crate::values::Time;
use crate::values::cron::Slot;

/// A slot that is not started within this time counts as missed.
const PATIENCE: TimeDelta = TimeDelta::minutes(1);
/// The most missed slots that are run, or listed, and the most jobs of a schedule that wait for their turn.
const MOST: usize = 100;
/// How often a schedule whose jobs wait for their turn is looked at: after a tenth of the time that they have waited,
/// within these bounds.
const SOONEST: TimeDelta = TimeDelta::seconds(1);
const LATEST: TimeDelta = TimeDelta::seconds(30);
const OVERLAPS: &str = "an earlier job of the schedule had not ended";
const TOO_MANY: &str = "100 earlier jobs of the schedule had not ended";

#[derive(FromRow)]
struct Next {
    workspace_id: Uuid,
    id: Uuid,
    wait_s: f64,
}

/// The schedules that are due, and the next one that will be.
pub const DUE: &str = "
    SELECT workspace_id, id, 0::double precision AS wait_s FROM (
        SELECT workspace_id, id FROM schedules WHERE due_at <= now() AND coalesce(workspace_id <> ALL ($2), true)
            AND ($3::uuid[] IS NULL OR workspace_id = ANY ($3))
        ORDER BY due_at LIMIT $1
    ) AS due
    UNION ALL
    SELECT workspace_id, id, extract(epoch FROM due_at - now())::double precision FROM (
        SELECT workspace_id, id, due_at FROM schedules WHERE due_at > now() AND coalesce(workspace_id <> ALL ($2), true)
            AND ($3::uuid[] IS NULL OR workspace_id = ANY ($3))
        ORDER BY due_at LIMIT 1
    ) AS next";

/// The schedules that are due, each with its workspace, earliest first and at most so many; and how long until the
/// next one is. Those of suspended workspaces wait.
pub async fn due(
    connection: &mut PgConnection,
    most: i64,
    suspended: &[Uuid],
) -> Result<(Vec<(Uuid, Uuid)>, Option<Duration>)> {
    let mut among = Among::new();
    let next: Vec<Next> = loop {
        let next = sqlx::query_as(DUE).bind(most).bind(suspended).bind(among.workspaces());
        let next = next.fetch_all(&mut *connection).await.map_err(Error::from);
        if let Some(next) = among.accept(connection, next).await? {
            break next;
        }
    };
    let wait = next.iter().map(|next| next.wait_s).find(|wait| *wait > 0.0);
    let due = next.iter().filter(|next| next.wait_s <= 0.0).map(|next| (next.workspace_id, next.id)).collect();
    Ok((due, wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok())))
}

/// A job that a schedule started.
#[derive(Debug, Clone)]
pub struct Started {
    /// The slot.
    pub slot: Time,
    /// The job.
    pub job: Job,
}

/// Deals with the slots of a schedule that have passed. Returns the started jobs, or `None` if the schedule is not due
/// any more, or if another worker deals with it. Needs a transaction; `now` is the database's time.
pub async fn start(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    now: Time,
) -> Result<Option<Vec<Started>>> {
    let schedule: Option<Schedule> = sqlx::query_as(concat!(
        "SELECT ",
        schedule_columns!(),
        " FROM schedules WHERE workspace_id = $1 AND id = $2 AND due_at <= $3 FOR UPDATE SKIP LOCKED"
    ))
    .bind(workspace_id)
    .bind(id)
    .bind(now)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(schedule) = schedule else { return Ok(None) };
    let open = runs::open(connection, workspace_id, id).await?;
    let mut round = Round { connection, workspace_id, now, schedule, open, started: Vec::new() };
    let slots = round.passed();
    for slot in &slots {
        round.deal_with(*slot, Some(slot) == slots.last()).await?;
    }
    round.let_begin().await?;
    round.save(slots.last()).await?;
    Ok(Some(round.started))
}

/// The slots of one schedule that are dealt with in one transaction.
struct Round<'a> {
    connection: &'a mut PgConnection,
    workspace_id: Uuid,
    now: Time,
    schedule: Schedule,
    /// The unfinished jobs, oldest first.
    open: Vec<Open>,
    started: Vec<Started>,
}

impl Round<'_> {
    fn of(&self) -> Of {
        Of { workspace_id: self.workspace_id, schedule_id: self.schedule.id, now: self.now }
    }

    /// The slots that have passed.
    fn passed(&self) -> Vec<Slot> {
        match self.schedule.is_paused() {
            true => Vec::new(),
            false => self.schedule.timing.passed(self.schedule.passed_until, self.now, MOST),
        }
    }

    /// Starts the job of a slot, or records why not.
    async fn deal_with(&mut self, slot: Slot, is_latest: bool) -> Result<()> {
        let is_missed = self.now - slot.at > PATIENCE;
        let is_made_up = match self.schedule.catch_up {
            CatchUp::Latest => is_latest,
            CatchUp::None => false,
            CatchUp::All => true,
        };
        if is_missed && !is_made_up {
            return self.pass_over(slot, RunStatus::Missed, None).await;
        }
        // Missed slots that are all made up overlap by nature.
        let queues = self.schedule.overlap == Overlap::Queue || (is_missed && self.schedule.catch_up == CatchUp::All);
        match self.open.len() {
            1.. if !queues => self.pass_over(slot, RunStatus::Skipped, Some(OVERLAPS)).await,
            MOST.. => self.pass_over(slot, RunStatus::Skipped, Some(TOO_MANY)).await,
            _ => self.begin(slot).await,
        }
    }

    async fn pass_over(&mut self, slot: Slot, status: RunStatus, why: Option<&str>) -> Result<()> {
        let key = Key::of(slot, self.schedule.is_nightly());
        runs::record(self.connection, self.of(), key, Some((status, why))).await?;
        Ok(())
    }

    /// Records the run of a slot, and enqueues its job, which waits for those before it.
    async fn begin(&mut self, slot: Slot) -> Result<()> {
        let key = Key::of(slot, self.schedule.is_nightly());
        let run = runs::record(self.connection, self.of(), key, None).await?;
        let Some(run_id) = run else { return Ok(()) };
        // What the start has written before it was refused is rolled back, and the run remains.
        let savepoint = Savepoint::begin(self.connection).await?;
        match self.enqueue(slot).await {
            Ok(job) => {
                savepoint.release(self.connection).await?;
                runs::record_start(self.connection, self.workspace_id, run_id, Ok(job.id)).await?;
                self.open.push(Open { job_id: job.id, is_parked: !self.open.is_empty(), created_at: self.now });
                self.started.push(Started { slot: slot.at, job });
            }
            Err(error) => {
                let reason = refusal(&error).ok_or(error)?;
                savepoint.rollback(self.connection).await?;
                runs::record_start(self.connection, self.workspace_id, run_id, Err(reason)).await?;
            }
        }
        Ok(())
    }

    async fn enqueue(&mut self, slot: Slot) -> Result<Job> {
        let (workspace_id, schedule) = (self.workspace_id, &self.schedule);
        let job = match schedule.is_nightly() {
            true => {
                let job = NewJob::new(workspace_id, &Nightly { date: slot.date })?;
                queue::enqueue(self.connection, job).await?
            }
            false => {
                let actor = Actor { workspace_id, kind: ActorKind::Schedule, id: schedule.id, request_id: None };
                let work = Work::read(workspace_id, &schedule.kind, &schedule.params, false)?;
                work.start(self.connection, &actor).await?
            }
        };
        if !self.open.is_empty() {
            queue::park(self.connection, workspace_id, job.id).await?;
        }
        Ok(job)
    }

    /// Lets the next job begin that waits for its turn.
    async fn let_begin(&mut self) -> Result<()> {
        if self.open.iter().all(|open| open.is_parked)
            && let Some(next) = self.open.first_mut()
        {
            next.is_parked = false;
            queue::unpark(self.connection, self.workspace_id, next.job_id).await?;
        }
        Ok(())
    }

    /// Records up to which slot the schedule has been dealt with, and when it is due next.
    async fn save(&mut self, last: Option<&Slot>) -> Result<()> {
        if let Some(slot) = last {
            self.schedule.passed_until = slot.at;
            if self.schedule.is_nightly() {
                self.schedule.timing.last_date = Some(slot.date);
            }
        }
        let waiting = self.open.iter().find(|open| open.is_parked).map(|open| {
            let waited = self.now - open.created_at;
            self.now + (waited / 10).clamp(SOONEST, LATEST)
        });
        let due_at = waiting.into_iter().chain(self.schedule.next_due()).min();
        save(self.connection, self.workspace_id, &self.schedule, due_at).await
    }
}

async fn save(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    schedule: &Schedule,
    due_at: Option<Time>,
) -> Result<()> {
    sqlx::query(
        "UPDATE schedules SET passed_until = $3, last_date = $4, due_at = $5 WHERE workspace_id = $1 AND id = $2",
    )
    .bind(workspace_id)
    .bind(schedule.id)
    .bind(schedule.passed_until)
    .bind(schedule.timing.last_date)
    .bind(due_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Why a job cannot be started, if another attempt would have the same answer.
fn refusal(error: &Error) -> Option<String> {
    match error {
        Error::Invalid(errors) => {
            let faults: Vec<String> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
            Some(faults.join("; "))
        }
        Error::Missing(error) => Some(format!("{} {}", error.field, error.message)),
        Error::Conflict(conflict) => Some(conflict.error.message.clone().into_owned()),
        Error::NotFound => Some("what the job is about does not exist".to_owned()),
        _ => None,
    }
}

/// Looks at a schedule again in a minute, because it could not be dealt with now.
pub async fn postpone(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    sqlx::query(
        "UPDATE schedules SET due_at = now() + interval '1 minute'
         WHERE workspace_id = $1 AND id = $2 AND due_at <= now()",
    )
    .bind(workspace_id)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that the runs of a workspace whose time has passed were set aside. Returns how many. Needs a transaction.
pub async fn set_aside(connection: &mut PgConnection, workspace_id: Uuid, now: Time) -> Result<u64> {
    let schedules: Vec<Schedule> = sqlx::query_as(concat!(
        "SELECT ",
        schedule_columns!(),
        " FROM schedules WHERE workspace_id = $1 AND paused_at IS NULL ORDER BY id FOR UPDATE"
    ))
    .bind(workspace_id)
    .fetch_all(&mut *connection)
    .await?;
    let mut set_aside = 0;
    for schedule in schedules {
        let mut round =
            Round { connection: &mut *connection, workspace_id, now, schedule, open: Vec::new(), started: Vec::new() };
        let slots = round.passed();
        for slot in &slots {
            let key = Key::of(*slot, round.schedule.is_nightly());
            let of = round.of();
            let recorded = runs::record(round.connection, of, key, Some((RunStatus::SetAside, None))).await?;
            set_aside += u64::from(recorded.is_some());
        }
        if !slots.is_empty() {
            round.save(slots.last()).await?;
        }
    }
    Ok(set_aside)
}
