//! The schemas of the bodies that create and change schedules.

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object as ObjectSchema, RefOr};

use super::model::{CatchUp, Overlap};
use super::work::KINDS;
use crate::values::json_schema::{Shape, closed};

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
