//! What a request sets in an endpoint.

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Object as ObjectSchema, RefOr};
use uuid::Uuid;

use super::endpoint::{Webhook, example};
use super::headers::{self, Headers};
use super::patterns::Patterns;
use super::receiver::{self, MAX_URL};
use super::{Bulk, Ordering};
use crate::error::Result;
use crate::platform::config::Webhooks;
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, clearable, closed, nullable};
use crate::values::patch::Patch;
use crate::values::{Fault, Field, Text};

/// The longest description.
type Description = Text<1_000>;

/// The requests per second that an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateLimit(i32);

impl RateLimit {
    const MAX: i32 = 1_000;
}

impl Field for RateLimit {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        let invalid = || Fault::new("out_of_range", format!("must be a whole number from 1 to {}", Self::MAX));
        text.parse().ok().filter(|limit| (1..=Self::MAX).contains(limit)).map(Self).ok_or_else(invalid)
    }

    fn from_json(value: serde_json::Value) -> Result<Self, Fault> {
        Self::from_text(&value.to_string())
    }
}

/// The fields that a request sets.
#[derive(Debug)]
pub(super) struct Changes {
    pub url: Option<String>,
    pub description: Patch<Description>,
    pub events: Option<Patterns>,
    pub bulk: Patch<Bulk>,
    pub ordering: Patch<Ordering>,
    pub rate_limit: Patch<i32>,
    pub enabled: Patch<bool>,
    pub headers: Patch<Headers>,
}

impl Changes {
    /// Reads the body of a request that creates an endpoint, or updates the present one.
    pub fn read(mut body: Object, present: Option<&Webhook>, settings: &Webhooks) -> Result<Self> {
        if let Some(present) = present {
            body.drop_unchanged("url", &present.url);
            body.drop_unchanged("events", &present.events);
        }
        let url: Option<String> = if present.is_some() { body.present("url") } else { body.required("url") };
        let url = url.and_then(|url| match receiver::parse(&url, settings) {
            Ok(url) => Some(url),
            Err(fault) => {
                body.refuse(fault.of("url"));
                None
            }
        });
        let changes = Self {
            url,
            description: body.take("description"),
            events: read_events(&mut body, present.is_some()),
            bulk: body.take("bulk"),
            ordering: body.take("ordering"),
            rate_limit: body.take::<RateLimit>("rate_limit").map(|RateLimit(limit)| limit),
            enabled: body.take("enabled"),
            headers: read_headers(&mut body),
        };
        let id: Option<&Uuid> = present.map(|present| &present.id);
        body.read_only("id", id);
        body.read_only("header_names", present.map(|present| &present.header_names));
        body.read_only("scopes", present.map(|present| &present.scopes));
        body.computed("failing_since", present.is_some());
        body.read_only("disabled_at", present.map(|present| &present.disabled_at));
        body.read_only("created_at", present.map(|present| &present.created_at));
        body.read_only("updated_at", present.map(|present| &present.updated_at));
        body.finish()?;
        Ok(changes)
    }

    /// Applies the changes, except those of headers.
    pub fn apply(self, webhook: &mut Webhook) {
        if let Some(url) = self.url {
            webhook.url = url;
        }
        if let Some(events) = self.events {
            webhook.events = events.words().to_vec();
        }
        self.description.map(|text| text.as_ref().to_owned()).apply(&mut webhook.description);
        self.bulk.apply_or(&mut webhook.bulk, Bulk::Summary);
        self.ordering.apply_or(&mut webhook.ordering, Ordering::None);
        self.rate_limit.apply(&mut webhook.rate_limit);
        self.enabled.apply_or(&mut webhook.enabled, true);
    }
}

fn read_events(body: &mut Object, is_update: bool) -> Option<Patterns> {
    let Some(value) = body.take_value("events") else {
        if !is_update {
            body.require("events");
        }
        return None;
    };
    Patterns::from_json(value).map_err(|fault| body.refuse(fault.of("events"))).ok()
}

fn read_headers(body: &mut Object) -> Patch<Headers> {
    match body.take_map("headers") {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(fields) => match headers::read(fields) {
            Ok(headers) => Patch::Set(headers),
            Err(errors) => {
                errors.into_iter().for_each(|error| body.refuse(error));
                Patch::Keep
            }
        },
    }
}

/// The schema of the body that creates an endpoint.
pub fn create_schema() -> RefOr<Schema> {
    let body = properties(ObjectBuilder::new().description(Some("A webhook to create.")));
    closed(body.required("url").required("events").examples([example()]))
}

/// The schema of the body that updates an endpoint.
pub fn update_schema() -> RefOr<Schema> {
    let body = ObjectBuilder::new().description(Some("The fields of a webhook to change."));
    let example = json!({ "events": ["*"], "rate_limit": 50, "headers": { "Authorization": "Bearer token" } });
    let body = properties(body).property("header_names", read_only()).property("scopes", read_only());
    let body = ["id", "failing_since", "disabled_at", "created_at", "updated_at"]
        .into_iter()
        .fold(body, |body, name| body.property(name, read_only()));
    closed(body.examples([example]))
}

/// A field that may be sent back unchanged.
fn read_only() -> ObjectSchema {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("Read-only: it may be sent back unchanged."))
        .read_only(true)
        .build()
}

fn properties(body: ObjectBuilder) -> ObjectBuilder {
    let about = |shape: ObjectSchema, about: &str| ObjectBuilder::from(shape).description(Some(about)).build();
    let text = ObjectBuilder::new().schema_type(Type::String);
    let url =
        "The URL of the receiver, which has a public address. Begins with https:// unless the operator allows http.";
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(RateLimit::MAX));
    let value = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(4_000));
    let headers = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
        .max_properties(Some(20))
        .write_only(true)
        .examples([json!({ "Authorization": "Bearer token" })])
        .description(Some(
            "Further headers of the requests, replaced as a whole. Their values are never shown. Headers of the \
             connection and the body, `Host`, `Cookie`, `User-Agent` and `webhook-*` cannot be set.",
        ));
    body.property("url", text.min_length(Some(1)).max_length(Some(MAX_URL)).description(Some(url)))
        .property("description", clearable(about(Description::shape(), "What the webhook is for.")))
        .property("events", Patterns::schema())
        .property("bulk", nullable(Bulk::shape()))
        .property("ordering", nullable(Ordering::shape()))
        .property("rate_limit", nullable(about(limit.build(), "The most requests per second; `null` is no limit.")))
        .property("enabled", nullable(about(bool::shape(), "Whether events are delivered. Defaults to `true`.")))
        .property("headers", headers)
}
