//! Reading the fields of a schedule from the body of a request.

use chrono_tz::Tz;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{CatchUp, Overlap, Schedule};
use super::timing::{Rule, Timing};
use super::work::{KINDS, Work, inside_params};
use crate::accounts::scopes::Scopes;
use crate::accounts::settings::TimeZone;
use crate::error::{Error, FieldError, Result};
use crate::values::dates::time_in;
use crate::values::every::Every;
use crate::values::json_body::Object;
use crate::values::patch::Patch;
use crate::values::{Field, Time, is_blank};

/// The fields of which one says when a schedule runs.
const RULES: [&str; 3] = ["cron", "every", "at"];

/// The fields of a schedule while a body is read.
pub(super) struct Draft {
    pub kind: String,
    pub params: Map<String, Value>,
    /// `None` for a new schedule.
    pub timing: Option<Timing>,
    pub zone: Tz,
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    pub until: Option<Time>,
    pub created_at: Time,
}

impl Draft {
    /// The fields of a schedule that is changed.
    pub fn of(present: &Schedule) -> Self {
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
    pub fn read(
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

    /// Checks that a key with these scopes may start the job, and that what the parameters refer to exists.
    pub async fn check(&self, connection: &mut PgConnection, workspace_id: Uuid, scopes: Scopes) -> Result<()> {
        if !KINDS.contains(&self.kind.as_str()) {
            return Ok(());
        }
        let work = Work::read(workspace_id, &self.kind, &self.params, false)?;
        work.check_scopes(connection, workspace_id, scopes).await?;
        work.check_references(connection, workspace_id).await.map_err(inside_params)
    }
}

/// Takes the kind of a new schedule.
pub(super) fn kind(body: &mut Object) -> Option<&'static str> {
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
