//! Creating, changing and deleting schedules.

use serde_json::Map;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::draft::{self, Draft};
use super::model::{CatchUp, Overlap, Schedule, ScheduleStatus, get, lock, lock_nightly, schedule_columns};
use super::runs;
use super::timing::Rule;
use crate::accounts::scopes::Scopes;
use crate::accounts::settings;
use crate::error::{Error, Reason, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::db;
use crate::queue::{self, Reporting};
use crate::values::Time;
use crate::values::etag::Condition;
use crate::values::json_body::Object;

/// The most schedules of a workspace, with its nightly run.
const MAX: i64 = 100;

/// Who makes or changes a schedule: an actor, and what it may do.
pub type Maker<'a> = (&'a Actor, Scopes);

/// Creates a schedule from the body of a request. Needs a transaction.
///
/// # Errors
/// [`Error::Forbidden`] if the key may not start such a job;
/// [`Error::Invalid`] with every fault of the body; [`Error::Missing`] if the parameters refer to something that does
/// not exist; [`Error::Conflict`] if the workspace has as many schedules as it may have.
pub async fn create(connection: &mut PgConnection, (actor, scopes): Maker<'_>, mut body: Object) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let now = db::database_now(connection).await?;
    let kind = draft::kind(&mut body);
    for field in ["id", "created_at", "updated_at", "status", "next_runs"] {
        body.read_only(field, None::<&Uuid>);
    }
    let default = settings::get(connection, workspace_id).await?.time_zone;
    let draft = Draft {
        kind: kind.unwrap_or_default().to_owned(),
        params: Map::new(),
        timing: None,
        zone: default.get(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::Latest,
        until: None,
        created_at: now,
    };
    let (draft, timing) = draft.read(&mut body, workspace_id, (now, default));
    body.finish()?;
    let timing = timing.ok_or_else(|| Error::internal("a schedule was accepted without a time"))?;
    draft.check(connection, workspace_id, scopes).await?;
    let first = timing.next(now).map(|slot| slot.at);
    make_room(connection, workspace_id).await?;
    let insert = concat!(
        "INSERT INTO schedules (workspace_id, id, kind, params, cron, every, at, time_zone, overlap, catch_up, until,
             passed_until, due_at, created_at, updated_at, scopes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $12, $14)
         RETURNING ",
        schedule_columns!()
    );
    let (cron, every, at) = texts(&timing.rule);
    let created = sqlx::query_as(insert)
        .bind(workspace_id)
        .bind(Uuid::now_v7())
        .bind(&draft.kind)
        .bind(Json(&draft.params))
        .bind(cron)
        .bind(every)
        .bind(at)
        .bind(draft.zone.name())
        .bind(draft.overlap)
        .bind(draft.catch_up)
        .bind(draft.until)
        .bind(now)
        .bind(first)
        .bind(scopes);
    let created: Schedule = created.fetch_one(&mut *connection).await?;
    report(connection, actor, EventType::ScheduleCreated, &created).await?;
    Ok(created)
}

/// Changes the fields of a schedule that the body of a request names. A new time counts from now on. Needs a
/// transaction.
///
/// # Errors
/// [`Error::Changed`] if the condition does not hold; otherwise as [`create`].
pub async fn update(
    connection: &mut PgConnection,
    (actor, scopes): Maker<'_>,
    id: Uuid,
    mut body: Object,
    condition: &Condition,
) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let now = db::database_now(connection).await?;
    let present = lock(connection, workspace_id, id).await?;
    condition.check(&present)?;
    body.read_only("kind", Some(&present.kind));
    body.read_only("id", Some(&present.id));
    body.read_only("created_at", Some(&present.created_at));
    body.read_only("updated_at", Some(&present.updated_at));
    body.computed("status", true);
    body.computed("next_runs", true);
    if present.is_nightly() {
        // The settings of the workspace say when it runs.
        body.read_only("params", Some(&present.params));
        body.read_only("cron", Some(&present.cron));
        body.read_only("every", Some(&present.every));
        body.read_only("at", Some(&present.at));
        body.read_only("time_zone", Some(&present.time_zone));
        body.read_only("until", Some(&present.until));
    }
    body.drop_unchanged("cron", &present.cron);
    body.drop_unchanged("every", &present.every);
    body.drop_unchanged("at", &present.at);
    body.drop_unchanged("until", &present.until);
    let default = settings::get(connection, workspace_id).await?.time_zone;
    let (draft, timing) = Draft::of(&present).read(&mut body, workspace_id, (now, default));
    body.finish()?;
    draft.check(connection, workspace_id, scopes).await?;
    let timing = timing.unwrap_or_else(|| present.timing.clone());
    let mut changed = present.clone();
    if timing != present.timing {
        changed.passed_until = now;
        changed.timing = timing;
    }
    let same = (draft.overlap, draft.catch_up, &draft.params) == (present.overlap, present.catch_up, &present.params);
    if same && changed.timing == present.timing {
        return Ok(present);
    }
    let (cron, every, at) = texts(&changed.timing.rule);
    sqlx::query(
        "UPDATE schedules SET params = $3, cron = $4, every = $5, at = $6, time_zone = $7, overlap = $8, catch_up = $9,
             until = $10, passed_until = $11, updated_at = $12, scopes = $13
         WHERE workspace_id = $1 AND id = $2",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(Json(&draft.params))
    .bind(cron)
    .bind(every)
    .bind(at)
    .bind(draft.zone.name())
    .bind(draft.overlap)
    .bind(draft.catch_up)
    .bind(draft.until)
    .bind(changed.passed_until)
    .bind(now)
    .bind(scopes)
    .execute(&mut *connection)
    .await?;
    rest(connection, actor, &changed, now).await
}

/// Pauses a schedule. Jobs that it has started continue.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn pause(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let now = db::database_now(connection).await?;
    let mut schedule = lock(connection, workspace_id, id).await?;
    if schedule.is_paused() {
        return Ok(schedule);
    }
    set_paused(connection, workspace_id, id, (Some(now), schedule.passed_until), now).await?;
    schedule.status = ScheduleStatus::Paused;
    rest(connection, actor, &schedule, now).await
}

/// Resumes a paused schedule. The times that have passed meanwhile do not count.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resume(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let now = db::database_now(connection).await?;
    let mut schedule = lock(connection, workspace_id, id).await?;
    if !schedule.is_paused() {
        return Ok(schedule);
    }
    set_paused(connection, workspace_id, id, (None, now), now).await?;
    (schedule.status, schedule.passed_until) = (ScheduleStatus::Active, now);
    rest(connection, actor, &schedule, now).await
}

async fn set_paused(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    (paused_at, passed_until): (Option<Time>, Time),
    now: Time,
) -> Result<()> {
    sqlx::query(
        "UPDATE schedules SET paused_at = $3, passed_until = $4, updated_at = $5 WHERE workspace_id = $1 AND id = $2",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(paused_at)
    .bind(passed_until)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records when a changed schedule is due, and that it was changed, and returns it.
async fn rest(connection: &mut PgConnection, actor: &Actor, changed: &Schedule, now: Time) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let waits = runs::open(connection, workspace_id, changed.id).await?.iter().any(|open| open.is_parked);
    let due_at = if waits { Some(now) } else { changed.next_due() };
    sqlx::query("UPDATE schedules SET due_at = $3 WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(changed.id)
        .bind(due_at)
        .execute(&mut *connection)
        .await?;
    let changed = get(connection, workspace_id, changed.id).await?;
    report(connection, actor, EventType::ScheduleUpdated, &changed).await?;
    Ok(changed)
}

/// Records an event of a schedule, for the audit log.
async fn report(
    connection: &mut PgConnection,
    actor: &Actor,
    event_type: EventType,
    schedule: &Schedule,
) -> Result<()> {
    let subject = Subject { kind: SubjectType::Schedule, id: schedule.id };
    events::record(connection, actor, vec![NewEvent::new(event_type, subject, schedule)?]).await
}

/// Deletes a schedule and the list of its runs. Jobs that wait for their turn are cancelled; others continue. Needs a
/// transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold; [`Error::Conflict`] for the nightly run.
pub async fn delete(connection: &mut PgConnection, actor: &Actor, id: Uuid, condition: &Condition) -> Result<()> {
    let workspace_id = actor.workspace_id;
    let schedule = lock(connection, workspace_id, id).await?;
    condition.check(&schedule)?;
    if schedule.is_nightly() {
        let message = "the nightly run belongs to the workspace; it can be paused";
        return Err(Error::conflict_with(id, Reason::NotDeletable, "kind", message));
    }
    let mut cancelled = Vec::new();
    for open in runs::open(connection, workspace_id, id).await?.iter().filter(|open| open.is_parked) {
        let job = queue::cancel_unfinished(connection, workspace_id, open.job_id).await?;
        cancelled.extend(job.map(|job| job.id));
    }
    // They have written nothing.
    queue::report_end(connection, workspace_id, Some(actor), &cancelled, |_| Reporting::End).await?;
    sqlx::query("DELETE FROM schedules WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(id)
        .execute(&mut *connection)
        .await?;
    report(connection, actor, EventType::ScheduleDeleted, &schedule).await
}

/// Checks that the workspace may have another schedule. Others that are created at the same time wait.
async fn make_room(connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
    // A row that every workspace has.
    lock_nightly(connection, workspace_id).await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM schedules WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?;
    match count < MAX {
        true => Ok(()),
        false => {
            let message = format!("a workspace has at most {MAX} schedules, with its nightly run");
            Err(Error::conflict(Reason::LimitReached, "id", message))
        }
    }
}

/// The columns of a rule.
fn texts(rule: &Rule) -> (Option<&str>, Option<&str>, Option<Time>) {
    match rule {
        Rule::Cron(cron) => (Some(cron.as_str()), None, None),
        Rule::Every(every, _) => (None, Some(every.as_str()), None),
        Rule::At(at) => (None, None, Some(*at)),
    }
}
