//! Parameters of operations, most of them made from what reads them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::insight::period::Interval;
use shared::query::{Filter, FilterKind, MAX_LIMIT, Spec};
use shared::values::json_schema::Shape;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Object, RefOr, Required, Schema};
use uuid::Uuid;

/// The ids in a path.
pub(crate) fn of_path(path: &str) -> Vec<Parameter> {
    let named = |part: &str| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned);
    let parameter = |name: String| {
        let (about, schema) = match name.strip_suffix("Id") {
            Some(noun) => (format!("The id of the {noun}."), Uuid::shape()),
            None => ("The end of the link, as it stands in the mail.".to_owned(), String::shape()),
        };
        ParameterBuilder::new()
            .description(Some(about))
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema))
            .build()
    };
    path.split('/').filter_map(named).map(parameter).collect()
}

/// An optional parameter in the query.
pub(crate) fn query(name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    optional(name, about).schema(Some(schema)).build()
}

fn optional(name: &str, about: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(about))
}

fn header(name: &str, about: &str, schema: ObjectBuilder) -> Parameter {
    optional(name, about).parameter_in(ParameterIn::Header).schema(Some(schema)).build()
}

/// What keeps a request from being done twice.
pub(crate) fn idempotency_key() -> Parameter {
    let about = "The same request with the same key is done once, and answered alike for 24 hours.";
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    header("Idempotency-Key", about, key.pattern(Some(r"^[\t -~]*[!-~][\t -~]*$")))
}

/// What must hold for a write to take place: `*`, or tags in quotes with commas between them.
pub(crate) fn if_match() -> Parameter {
    let about = "Only if the record still has this `ETag`; otherwise 412.";
    let tags = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;
    header("If-Match", about, ObjectBuilder::new().schema_type(Type::String).pattern(Some(tags)).examples(["*"]))
}

/// What a reader has already. Whatever is no tag is no match.
pub(crate) fn if_none_match() -> Parameter {
    let about = "Only if the record has another `ETag` by now; otherwise 304.";
    header("If-None-Match", about, ObjectBuilder::new().schema_type(Type::String))
}

/// A word out of several.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

/// The filters and orders of a list, and `q` if it can be searched.
pub(crate) fn of_list(spec: &Spec) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = spec.filters.iter().flat_map(of_filter).collect();
    if spec.searchable {
        let about = "Records in which every word of this begins a word of the name, company, phone or email. \
                     At least one letter or digit, at most 20 words of at most 100 characters.";
        parameters.push(query("q", about, ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))));
    }
    let names = spec.orders.iter().flat_map(|order| [order.name.to_owned(), format!("-{}", order.name)]);
    let default = spec.orders.first().map(|order| json!(format!("-{}", order.name)));
    let orders = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).default(default);
    parameters.push(query("sort", "The order; `-` in front for descending.", orders));
    parameters
}

fn of_filter(filter: &Filter) -> Vec<Parameter> {
    let name = filter.name;
    // One or more, with commas.
    let several = |about: String, item: Object| {
        let each = ArrayBuilder::new().items(item).min_items(Some(1));
        optional(name, &about).schema(Some(each)).style(Some(ParameterStyle::Form)).explode(Some(false)).build()
    };
    let any = |item: Object| several(format!("Records of which `{name}` is one of these."), item);
    let range = |shape: fn() -> Object| {
        let bounds = [("gte", "at least"), ("gt", "more than"), ("lte", "at most"), ("lt", "less than")];
        let bounded = bounds.map(|(suffix, is)| {
            query(&format!("{name}[{suffix}]"), &format!("Records of which `{name}` is {is} this."), shape())
        });
        [any(shape())].into_iter().chain(bounded).collect()
    };
    match filter.kind {
        FilterKind::Word(words) | FilterKind::Computed(_, words) | FilterKind::Joined(_, words) => {
            vec![any(one_of(words.iter().copied()).build())]
        }
        FilterKind::Id => vec![any(Uuid::shape())],
        FilterKind::Email(_) => {
            let about = format!("Records of which `{name}` is one of these, in whatever case.");
            vec![several(about, String::shape())]
        }
        FilterKind::Text => {
            let about = format!("Records of which `{name}` is exactly this: one value, commas and all.");
            vec![query(name, &about, String::shape())]
        }
        FilterKind::Number => range(f64::shape),
        FilterKind::Time => range(DateTime::<Utc>::shape),
    }
}

/// What leads through the pages of a list.
pub(crate) fn of_page() -> [Parameter; 3] {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i64::from(MAX_LIMIT)));
    let cursor = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let count = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(Value::Bool(false)));
    [
        query("limit", "How many records a page has. Without it, the answer is the whole list.", limit),
        query("cursor", "Where to go on, as the `Link` of the page before says.", cursor),
        query("count", "Whether `X-Total-Count` is to tell how many records there are on all pages.", count),
    ]
}

/// How many things a report tells.
pub(crate) fn of_limit(usual: usize, most: usize) -> Parameter {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(most));
    query("limit", "How many there are at most.", limit.default(Some(json!(usual))))
}

/// The period of a report.
pub(crate) fn of_period() -> [Parameter; 4] {
    let interval = one_of(Interval::WORDS.iter().copied()).default(Some(json!(Interval::Day)));
    let tz = ObjectBuilder::new().schema_type(Type::String).default(Some(json!("UTC"))).examples(["Europe/Berlin"]);
    [
        query("from", "Where the period begins; 90 days before `to` unless it is given.", DateTime::<Utc>::shape()),
        query("to", "Where it ends, which is no part of it; now unless it is given.", DateTime::<Utc>::shape()),
        query("interval", "Into what it is cut, 1,000 of them at most.", interval),
        query("tz", "The time zone whose days, weeks and months these are, by its IANA name.", tz),
    ]
}
