//! Creating, changing and deleting schedules.

use chrono_tz::Tz;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object as ObjectSchema, RefOr};
use uuid::Uuid;

use super::model::{CatchUp, Overlap, Schedule, ScheduleStatus, get, lock, lock_nightly, schedule_columns};
use super::runs;
use super::timing::{Rule, Timing};
use super::work::{KINDS, Work, inside_params};
use crate::accounts::settings::{self, TimeZone};
use crate::error::{Error, FieldError, Reason, Result};
use crate::events::Actor;
use crate::platform::db;
use crate::queue::{self, Reporting};
use crate::values::dates::time_in;
use crate::values::etag::Condition;
use crate::values::every::Every;
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, closed};
use crate::values::patch::Patch;
use crate::values::{Field, Time, is_blank};

/// The most schedules of a workspace, with its nightly run.
const MAX: i64 = 100;
/// The fields of which one says when a schedule runs.
const RULES: [&str; 3] = ["cron", "every", "at"];

/// Creates a schedule from the body of a request. Needs a transaction.
///
/// # Errors
/// [`Error::Invalid`] with every fault of the body; [`Error::Missing`] if the parameters refer to something that does
/// not exist; [`Error::Conflict`] if the workspace has as many schedules as it may have.
pub async fn create(connection: &mut PgConnection, actor: &Actor, mut body: Object) -> Result<Schedule> {
    let workspace_id = actor.workspace_id;
    let now = db::database_now(connection).await?;
    let kind = kind(&mut body);
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
    draft.check(connection, workspace_id).await?;
    let first = timing.next(now).map(|slot| slot.at);
    make_room(connection, workspace_id).await?;
    let insert = concat!(
        "INSERT INTO schedules (workspace_id, id, kind, params, cron, every, at, time_zone, overlap, catch_up, until,
             passed_until, due_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $12)
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
        .bind(first);
    Ok(created.fetch_one(connection).await?)
}

/// Changes the fields of a schedule that the body of a request names. A new time counts from now on. Needs a
/// transaction.
///
/// # Errors
/// [`Error::Changed`] if the condition does not hold; otherwise as [`create`].
pub async fn update(
    connection: &mut PgConnection,
    actor: &Actor,
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
    draft.check(connection, workspace_id).await?;
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
             until = $10, passed_until = $11, updated_at = $12
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
    .execute(&mut *connection)
    .await?;
    rest(connection, workspace_id, &changed, now).await
}

/// Pauses a schedule. Jobs that it has started continue.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn pause(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Schedule> {
    let now = db::database_now(connection).await?;
    let mut schedule = lock(connection, workspace_id, id).await?;
    if schedule.is_paused() {
        return Ok(schedule);
    }
    set_paused(connection, workspace_id, id, (Some(now), schedule.passed_until), now).await?;
    schedule.status = ScheduleStatus::Paused;
    rest(connection, workspace_id, &schedule, now).await
}

/// Resumes a paused schedule. The times that have passed meanwhile do not count.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn resume(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Schedule> {
    let now = db::database_now(connection).await?;
    let mut schedule = lock(connection, workspace_id, id).await?;
    if !schedule.is_paused() {
        return Ok(schedule);
    }
    set_paused(connection, workspace_id, id, (None, now), now).await?;
    (schedule.status, schedule.passed_until) = (ScheduleStatus::Active, now);
    rest(connection, workspace_id, &schedule, now).await
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

/// Records when a changed schedule is due, and returns it.
async fn rest(connection: &mut PgConnection, workspace_id: Uuid, changed: &Schedule, now: Time) -> Result<Schedule> {
    let waits = runs::open(connection, workspace_id, changed.id).await?.iter().any(|open| open.is_parked);
    let due_at = if waits { Some(now) } else { changed.next_due() };
    sqlx::query("UPDATE schedules SET due_at = $3 WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(changed.id)
        .bind(due_at)
        .execute(&mut *connection)
        .await?;
    get(connection, workspace_id, changed.id).await
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
        .execute(connection)
        .await?;
    Ok(())
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

/// The fields of a schedule while a body is read.
struct Draft {
    kind: String,
    params: Map<String, Value>,
    /// `None` for a new schedule.
    timing: Option<Timing>,
    zone: Tz,
    overlap: Overlap,
    catch_up: CatchUp,
    until: Option<Time>,
    created_at: Time,
}

impl Draft {
    fn of(present: &Schedule) -> Self {
        Self {
            kind: present.kind.clone(),
            params: present.params.clone(),
            timing: Some(present.timing.clone()),
            zone: present.timing.zone,
            overlap: present.overlap,
            catch_up: present.catch_up,
            until: present.until,
            created_at: present.created_at,
        }
    }

    /// Reads the fields that a body names, and returns when the schedule runs then; `None` for an invalid body.
    fn read(
        mut self,
        body: &mut Object,
        workspace_id: Uuid,
        (now, default): (Time, TimeZone),
    ) -> (Self, Option<Timing>) {
        self.zone = defaulted(body.take("time_zone").map(TimeZone::get), self.zone, default.get());
        self.overlap = defaulted(body.take("overlap"), self.overlap, Overlap::Skip);
        self.catch_up = defaulted(body.take("catch_up"), self.catch_up, CatchUp::Latest);
        self.read_params(body, workspace_id);
        let until = time(body, "until", self.zone, now);
        let is_until_given = matches!(until, Patch::Set(_));
        until.apply(&mut self.until);
        let rule = rule(body, self.timing.is_none(), self.zone, (now, self.created_at));
        let is_changed = rule.is_some() || is_until_given;
        let rule = rule.or_else(|| self.timing.as_ref().map(|timing| timing.rule.clone()));
        let last_date = self.timing.as_ref().and_then(|timing| timing.last_date);
        let timing = rule.map(|rule| Timing { rule, zone: self.zone, until: self.until, last_date });
        if is_changed && timing.as_ref().is_some_and(|timing| timing.next(now).is_none()) {
            body.refuse(FieldError::new("until", "out_of_range", "must be after the first run"));
        }
        (self, timing)
    }

    fn read_params(&mut self, body: &mut Object, workspace_id: Uuid) {
        match body.take_map("params") {
            Patch::Keep => {}
            Patch::Clear => self.params = Map::new(),
            Patch::Set(params) => self.params = params,
        }
        if !KINDS.contains(&self.kind.as_str()) {
            return;
        }
        match Work::read(workspace_id, &self.kind, &self.params, false) {
            Ok(_) => {}
            Err(Error::Invalid(errors)) => body.refuse_inside("params", errors),
            Err(error) => body.refuse(FieldError::new("params", "invalid", error.to_string())),
        }
    }

    /// Checks that what the parameters refer to exists.
    async fn check(&self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
        if !KINDS.contains(&self.kind.as_str()) {
            return Ok(());
        }
        let work = Work::read(workspace_id, &self.kind, &self.params, false)?;
        work.check_references(connection, workspace_id).await.map_err(inside_params)
    }
}

/// The kind of a new schedule.
fn kind(body: &mut Object) -> Option<&'static str> {
    let given: String = match body.take_value("kind") {
        None | Some(Value::Null) => {
            body.require("kind");
            return None;
        }
        Some(Value::String(kind)) => kind,
        Some(other) => other.to_string(),
    };
    let kind = KINDS.into_iter().find(|kind| *kind == given);
    if kind.is_none() {
        body.refuse(FieldError::new("kind", "invalid", format!("must be one of: {}", KINDS.join(" "))));
    }
    kind
}

fn defaulted<T>(patch: Patch<T>, present: T, default: T) -> T {
    match patch {
        Patch::Keep => present,
        Patch::Clear => default,
        Patch::Set(value) => value,
    }
}

/// Takes what says when a schedule runs; `None` if the body does not say so.
fn rule(body: &mut Object, is_new: bool, zone: Tz, (now, created_at): (Time, Time)) -> Option<Rule> {
    let given: Vec<&str> = RULES.into_iter().filter(|name| body.is_given(name)).collect();
    let rule = match given[..] {
        ["cron"] => body.required("cron").map(Rule::Cron),
        ["every"] => body.required("every").map(|every: Every| Rule::Every(every, created_at)),
        ["at"] => at(body, zone, now).map(Rule::At),
        [first, ref others @ ..] => {
            for name in others {
                body.refuse(FieldError::new(*name, "invalid", format!("must not be given with {first}")));
            }
            None
        }
        [] => {
            if is_new || RULES.into_iter().any(|name| body.names(name)) {
                body.refuse(FieldError::new("cron", "required", "must be given, or every, or at"));
            }
            None
        }
    };
    for name in RULES {
        body.take_value(name);
    }
    rule
}

fn at(body: &mut Object, zone: Tz, now: Time) -> Option<Time> {
    match time(body, "at", zone, now) {
        Patch::Set(at) => Some(at),
        Patch::Keep => None,
        Patch::Clear => {
            body.require("at");
            None
        }
    }
}

/// Takes a time that is to come. A bare date is its midnight in the time zone.
fn time(body: &mut Object, name: &str, zone: Tz, now: Time) -> Patch<Time> {
    let parsed = match body.take_value(name) {
        None => return Patch::Keep,
        Some(Value::Null) => return Patch::Clear,
        Some(Value::String(text)) if is_blank(&text) => return Patch::Clear,
        Some(Value::String(text)) => time_in(text.trim(), zone),
        Some(other) => Time::from_json(other),
    };
    match parsed {
        Ok(time) if time > now => Patch::Set(time),
        Ok(_) => {
            body.refuse(FieldError::new(name, "out_of_range", "must be in the future"));
            Patch::Keep
        }
        Err(fault) => {
            body.refuse(fault.of(name));
            Patch::Keep
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

/// The schema of the body that creates a schedule.
pub fn create_schema() -> RefOr<Schema> {
    let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(KINDS));
    let kind = kind.description(Some("The kind of job that it starts."));
    let object = ObjectBuilder::new().description(Some("A schedule to create, with one of `cron`, `every` and `at`."));
    let object = properties(object.property("kind", kind).required("kind"));
    let nurture = json!({ "kind": "nurture_leads", "params": { "enroll": true, "status": "new" }, "cron": "30 8 * * mon-fri", "time_zone": "Europe/Berlin" });
    closed(object.examples([nurture]))
}

/// The schema of the body that changes a schedule.
pub fn update_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some(
        "The fields to change. One of `cron`, `every` and `at` replaces the others, and counts from now on.",
    ));
    closed(properties(object).examples([json!({ "cron": "0 9 1 * *", "catch_up": "none" })]))
}

fn properties(object: ObjectBuilder) -> ObjectBuilder {
    let params = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .description(Some(PARAMS));
    let described = |mut shape: ObjectSchema, about: &str| {
        shape.description = Some(about.to_owned());
        shape
    };
    let defaulted = |shape: ObjectSchema, default: &str| ObjectBuilder::from(shape).default(Some(default.into()));
    object
        .property("params", params)
        .property("cron", described(Option::<String>::shape(), CRON))
        .property("every", described(Option::<String>::shape(), EVERY))
        .property("at", described(Option::<String>::shape(), AT))
        .property(
            "time_zone",
            described(
                Option::<String>::shape(),
                "The time zone of `cron`, and of bare dates; the workspace's by default.",
            ),
        )
        .property("overlap", defaulted(Overlap::shape(), Overlap::Skip.as_str()))
        .property("catch_up", defaulted(CatchUp::shape(), CatchUp::Latest.as_str()))
        .property("until", described(Option::<String>::shape(), UNTIL))
}

const PARAMS: &str = "The parameters of the job, those of the request that starts it: for `nurture_leads`, \
    `process_followups` and `remind_feedback` the query parameters (`nurture_leads` enrols leads only with `enroll`, and \
    then takes the filters of the list of leads); for `bulk_leads`, `bulk_customers` and `bulk_orders` the body; for \
    `request_feedback` `customer_id`; for `undo_import` and `undo_bulk` `job_id`.";
const CRON: &str = "Five fields: minute, hour, day of the month, month, day of the week. With both day fields given, either \
    suffices. With a fixed hour, it runs once on each date: at the first instant after a time that a clock change \
    skips, and the first time at a time that comes twice. With `*` or `*/n` as hour, it follows elapsed time.";
const EVERY: &str = "An ISO 8601 duration in weeks, days, hours, minutes and seconds, from `PT1M` to `P3660D`, counted from \
    the creation of the schedule. A day is 24 hours.";
const AT: &str = "A time to come, in RFC 3339, or a date, which is its midnight in `time_zone`.";
const UNTIL: &str = "A time after the first run, in RFC 3339, or a date. From it on, the schedule does not run.";
