//! The schemas of settings for the OpenAPI document.

use serde_json::json;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Object, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::{Delay, LocalTime, MAX_STEPS, Patience, SequenceStep, Settings, TimeZone};
use crate::mail::Event;
use crate::mail::templates::{Body, Subject, Templates};
use crate::values::json_schema::{Mode, Property, Shape, closed};
use crate::values::{Email, Name};

/// The settings that are plain values.
fn properties() -> Vec<Property> {
    let default = Settings::default();
    let defaulted = |value| Mode::Defaulted(value);
    vec![
        Property::new::<Option<Name>>(
            "sender_name",
            "The sender's name of emails; `null` means the server's default.",
            Mode::Optional,
        ),
        Property::new::<Option<Email>>(
            "sender_email",
            "The sender's address of emails, in a domain that the operator allows; `null` means the server's default.",
            Mode::Optional,
        ),
        Property::new::<Option<Email>>(
            "reply_to",
            "The address for replies; `null` means the sender's.",
            Mode::Optional,
        ),
        Property::new::<Option<Email>>(
            "notification_email",
            "The recipient of notifications about records that are assigned to no user.",
            Mode::Optional,
        ),
        Property::new::<LocalTime>(
            "nightly_at",
            "The local time of the nightly run, in `time_zone`.",
            defaulted(json!(default.nightly_at)),
        ),
        Property::new::<TimeZone>(
            "time_zone",
            "The time zone of the workspace's dates and times.",
            defaulted(json!(default.time_zone)),
        ),
        Property::new::<bool>(
            "nurture_enroll_created",
            "Whether leads that are created through the API are enrolled for nurture.",
            defaulted(json!(default.nurture_enroll_created)),
        ),
        Property::new::<Patience>(
            "feedback_reminder_after_days",
            "The days without an answer after which a customer is reminded of a feedback request.",
            defaulted(json!(default.feedback_reminder_after_days)),
        ),
    ]
}

const SEQUENCE: &str = "The emails that leads receive, in this order. With an empty list, leads receive no emails.";
const TEMPLATES: &str = "The templates of the other emails.";

impl PartialSchema for Settings {
    fn schema() -> RefOr<Schema> {
        let object =
            ObjectBuilder::new().description(Some("The settings of a workspace.")).examples([json!(Self::default())]);
        let object = properties()
            .into_iter()
            .fold(object, |object, property| object.property(property.name, property.answered()));
        let steps = ArrayBuilder::new().items(Ref::from_schema_name(SequenceStep::name())).max_items(Some(MAX_STEPS));
        let object = object.property("nurture_sequence", steps.description(Some(SEQUENCE)));
        object.property("templates", Ref::from_schema_name(Templates::name())).into()
    }
}

impl ToSchema for Settings {
    fn name() -> std::borrow::Cow<'static, str> {
        "Settings".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((SequenceStep::name().into_owned(), SequenceStep::schema()));
        schemas.push((Templates::name().into_owned(), Templates::schema()));
        Templates::schemas(schemas);
    }
}

/// The schema of the body that changes settings.
pub fn update_schema() -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .description(Some("The settings to change. Settings that are absent stay; `null` resets one to its default."))
        .examples([json!({ "time_zone": "Europe/Berlin", "templates": { "feedback_reminder": { "subject": "{{ customer.first_name }}, are you happy?" } } })]);
    let object = properties()
        .into_iter()
        .fold(object, |object, property| object.property(property.name, property.written(None)));
    let steps = ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(step())
        .max_items(Some(MAX_STEPS))
        .description(Some(SEQUENCE));
    closed(object.property("nurture_sequence", steps).property("templates", templates()))
}

fn step() -> RefOr<Schema> {
    let about = "The id of an existing step. Omit it for a new step, which gets an id.";
    let id = Property::new::<Option<Uuid>>("id", about, Mode::Optional).written(None);
    let delay = described::<Delay>(
        "Days to wait after the previous step, or, for the first step, after the lead was enrolled.",
    );
    let object = ObjectBuilder::new().property("id", id).property("delay_days", delay);
    let object = object.property("subject", described::<Subject>("A Jinja template of one line."));
    let object = object.property("body", described::<Body>("A Jinja template of plain text."));
    closed(object.required("delay_days").required("subject").required("body"))
}

fn templates() -> RefOr<Schema> {
    let template = || {
        let parts = [
            Property::new::<Option<Subject>>("subject", "A Jinja template of one line.", Mode::Optional),
            Property::new::<Option<Body>>("body", "A Jinja template of plain text.", Mode::Optional),
        ];
        let object = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Object, Type::Null]));
        closed(parts.iter().fold(object, |object, part| object.property(part.name, part.written(None))))
    };
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(TEMPLATES));
    let default = Templates::default();
    let names = Event::ALL.iter().filter(|name| default.get(**name).is_some());
    closed(names.fold(object, |object, name| object.property(name.as_str(), template())))
}

fn described<T: Shape>(about: &str) -> Object {
    let mut shape = T::shape();
    shape.description = Some(about.to_owned());
    shape
}
