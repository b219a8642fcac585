//! The fields of records: their names for people, how they are shown, and how they are entered.
//!
//! All of it follows from the declaration of the kind of record, so a new field needs nothing here.

use chrono::{DateTime, Duration, NaiveDateTime, SecondsFormat, TimeZone, Utc};
use chrono_tz::Tz;
use maud::{Markup, html};
use serde_json::{Map, Value};
use shared::records::Record;
use shared::values::json_schema::{Mode, Property};
use shared::values::kind::Kind;

use super::Json;
use super::custom;
use super::people::People;
use crate::console::forms::{Draft, Fields, Input};
use crate::console::parts::clipped;
use crate::console::parts::{badge, grouped, text_or_dash, words};
use crate::console::refusal::{Refusal, Result};
use crate::console::session::Visit;
use crate::console::times;

/// The field with the user who is responsible.
pub(crate) const OWNER: &str = "assigned_to";
const CUSTOM: &str = "custom_fields";

/// A field of a kind of record.
pub(crate) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    about: &'static str,
    mode: Mode,
}

/// All fields of a kind of record, in its order.
pub(crate) fn all<R: Record>() -> Vec<Field> {
    let kind_of = |name: &str| R::FIELDS.iter().find(|field| field.name == name).map_or(Kind::Text, |field| field.kind);
    let field = |Property { name, about, mode, .. }| Field { name, kind: kind_of(name), about, mode };
    R::properties().into_iter().map(field).collect()
}

/// The fields that can be entered.
pub(crate) fn writable<R: Record>() -> Vec<Field> {
    all::<R>().into_iter().filter(|field| field.mode != Mode::Fixed).collect()
}

/// What people call a field.
pub(crate) fn label(name: &str) -> String {
    match name {
        "id" => "ID".to_owned(),
        OWNER => "Owner".to_owned(),
        "customer_id" => "Customer".to_owned(),
        "lead_id" => "Lead".to_owned(),
        "external_id" | "campaign_id" | "product_id" | "tax_id" => words(name).replace(" id", " ID"),
        "import_job_id" => "Import".to_owned(),
        "email_id" => "Sent email".to_owned(),
        "nurture_enrolled_at" => "Enrolled in nurture".to_owned(),
        "nurture_left_at" => "Left nurture".to_owned(),
        "nurture_left" => "Left nurture because".to_owned(),
        "date" => "Took place".to_owned(),
        "next_action_date" => "Next action due".to_owned(),
        "followed_up_at" => "Owner notified".to_owned(),
        name => words(name.strip_suffix("_at").unwrap_or(name)),
    }
}

impl Field {
    /// A value as its input has it.
    pub fn text(&self, zone: Tz, value: &Value) -> String {
        match (self.kind, value) {
            (_, Value::Null) => String::new(),
            (Kind::Time, Value::String(text)) => {
                parsed(text).map_or_else(|| text.clone(), |at| times::input_value(zone, at))
            }
            (Kind::Json, Value::Object(fields)) => custom::lines(fields),
            (_, Value::String(text)) => text.clone(),
            (_, value) => value.to_string(),
        }
    }

    /// What was entered, as the API takes it. What is no value stays text, for which the API gives the reason.
    ///
    /// # Errors
    /// If custom fields are no lines of fields.
    pub fn value(&self, zone: Tz, entered: &Fields) -> Result<Value> {
        let text = entered.get(self.name);
        Ok(match self.kind {
            _ if text.trim().is_empty() => Value::Null,
            Kind::Number => entered.number(self.name),
            Kind::Time => instant(zone, text).into(),
            Kind::Json => custom::parse(text).map_err(|wrong| Refusal::of_field(CUSTOM, wrong))?.into(),
            Kind::Text => text.into(),
            _ => text.trim().into(),
        })
    }

    /// The input of the field.
    pub fn input(&self, draft: &Draft, people: &People) -> Input {
        let input = draft.input(self.name, label(self.name));
        let input = match self.kind {
            Kind::Word(words) => input.choice(self.choices(words)),
            Kind::Number => input.kind("number"),
            Kind::Time => input.kind("datetime-local"),
            Kind::Text => input.area(3),
            Kind::Json => input.area(4).hint("A line for each, such as tier: gold."),
            Kind::Id if self.name == OWNER => people.input(input, draft.values.get(OWNER)),
            Kind::Id if self.name == "customer_id" => input.hint("The customer's email or ID."),
            Kind::Id => input.hint(self.about),
            _ if self.name == "external_id" => input.hint("The ID in another system of yours."),
            _ if self.name == "name" => input.hint("Left empty, it is made of the first and last name."),
            _ => input,
        };
        if self.mode == Mode::Required { input.required() } else { input }
    }

    fn choices(&self, options: &[&'static str]) -> Vec<(String, String)> {
        let none = (self.mode == Mode::Optional).then(|| (String::new(), "–".to_owned()));
        none.into_iter().chain(options.iter().map(|word| ((*word).to_owned(), words(word)))).collect()
    }

    /// What a form for a new record has at first: the default.
    pub fn initial(&self) -> String {
        match (&self.mode, self.kind) {
            (Mode::Defaulted(_), Kind::Time | Kind::Json) => String::new(),
            (Mode::Defaulted(default), _) => self.text(Tz::UTC, default),
            _ => String::new(),
        }
    }

    /// Whether its values take several lines.
    pub fn is_long(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Json)
    }

    /// Whether a form shows it at first sight.
    pub fn is_usual(&self) -> bool {
        !matches!(self.name, "external_id" | "campaign_id" | "last_contact" | "tax_id") && self.kind != Kind::Json
    }
}

/// The inputs of fields; what is rarely entered is folded up.
pub(crate) fn inputs(fields: &[Field], draft: &Draft, people: &People) -> Markup {
    let (usual, rare): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(|field| field.is_usual());
    let is_open =
        rare.iter().any(|field| draft.refusal.as_ref().is_some_and(|refusal| refusal.about(field.name).is_some()));
    html! {
        div.fields { @for field in usual { (field.input(draft, people)) } }
        @if !rare.is_empty() {
            details.more open[is_open] {
                summary { "More fields" }
                div.fields { @for field in rare { (field.input(draft, people)) } }
            }
        }
    }
}

/// The values of a record as its form has them.
pub(crate) fn texts(fields: &[Field], zone: Tz, record: &Json) -> Fields {
    fields.iter().map(|field| (field.name, field.text(zone, record.get(field.name).unwrap_or(&Value::Null)))).collect()
}

/// A value for people.
pub(crate) fn shown(visit: &Visit, people: &People, name: &str, kind: Kind, value: &Value) -> Markup {
    match (kind, value) {
        (_, Value::Null) => text_or_dash(None),
        (Kind::Word(_), Value::String(word)) if is_state(name) => badge(word),
        (Kind::Word(_), Value::String(word)) => html! { (words(word)) },
        (Kind::Time, Value::String(text)) => {
            parsed(text).map_or_else(|| html! { (text) }, |at| times::time(visit.zone, at))
        }
        (Kind::Number, Value::Number(number)) => html! { (grouped(&number.to_string())) },
        (Kind::Json, Value::Object(fields)) => custom_fields(fields),
        (Kind::Id, Value::String(id)) => reference(people, name, id),
        (_, Value::String(text)) => html! { (text) },
        (_, value) => html! { (value) },
    }
}

fn is_state(name: &str) -> bool {
    matches!(name, "status" | "segment" | "health_band")
}

fn custom_fields(fields: &Map<String, Value>) -> Markup {
    if fields.is_empty() {
        return text_or_dash(None);
    }
    html! { @for (name, value) in fields { div { span.quiet { (name) ": " } (custom::text_of(value)) } } }
}

fn reference(people: &People, name: &str, id: &str) -> Markup {
    match name {
        OWNER => people.user(id),
        "customer_id" => people.customer(id),
        "lead_id" => html! { a href={ "/console/leads/" (id) } { "Lead " (short(id)) } },
        "email_id" => html! { a href={ "/console/emails/" (id) } { "Email " (short(id)) } },
        _ => html! { code { (id) } },
    }
}

/// The end of an id, which differs most.
pub(crate) fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

/// A value with its texts clipped.
pub(crate) fn clipped_value(value: &Value, most: usize) -> Value {
    match value {
        Value::String(text) => clipped(text, most).into(),
        Value::Object(fields) if value.to_string().len() > most => {
            let some = fields.iter().take(5);
            Value::Object(
                some.map(|(name, value)| (clipped(name, 60), clipped(&custom::text_of(value), 60).into())).collect(),
            )
        }
        value => value.clone(),
    }
}

fn parsed(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())
}

/// The instant of a local time. An hour that a change of clocks skips is the one after it.
fn instant(zone: Tz, text: &str) -> String {
    let local =
        ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"].iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let at = local.and_then(|local| {
        zone.from_local_datetime(&local)
            .earliest()
            .or_else(|| zone.from_local_datetime(&(local + Duration::hours(1))).earliest())
    });
    at.map_or_else(|| text.to_owned(), |at| at.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_is_an_instant() {
        let zone = Tz::Europe__Berlin;
        assert_eq!(instant(zone, "2026-03-01T10:00"), "2026-03-01T09:00:00Z");
        assert_eq!(instant(zone, "2026-03-29T02:30"), "2026-03-29T01:30:00Z", "this hour is skipped");
        assert_eq!(instant(zone, "2026-10-25T02:30"), "2026-10-25T00:30:00Z", "this hour is there twice");
        assert_eq!(instant(zone, "tomorrow"), "tomorrow");
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        assert_eq!(clipped("äöü", 3), "äöü");
        assert_eq!(clipped("äöüß", 3), "äöü…");
        assert_eq!(short("019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44"), "1e0a7b44");
    }
}
