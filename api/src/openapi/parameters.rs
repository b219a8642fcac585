//! Parameters of operations, most of them derived from the code that parses them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::insight::filters::FilterBy;
use shared::insight::period::{Compare, Interval, NamedPeriod};
use shared::insight::request::Offers;
use shared::insight::table::Table;
use shared::query::{ListField, MAX_LIMIT, Spec};
use shared::records::ConflictMode;
use shared::values::json_schema::Shape;
use shared::values::kind::Kind;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ArrayItems, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Object, RefOr, Required, Schema};
use uuid::Uuid;

use super::examples;
use crate::http::waits::MAX_WAIT_S;
use crate::respond::export::{CustomFields, FileFormat, MAX_CUSTOM_COLUMNS};

/// The ids in a path.
pub(crate) fn of_path(path: &str) -> Vec<Parameter> {
    let named = |part: &str| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned);
    let parameter = |name: String| {
        let (about, schema, example) = match name.strip_suffix("Id") {
            Some(noun) => (format!("The id of the {noun}."), Uuid::shape(), Some(json!(examples::ID))),
            None => ("The token in the email's link.".to_owned(), String::shape(), None),
        };
        ParameterBuilder::new()
            .description(Some(about))
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema))
            .example(example)
            .build()
    };
    path.split('/').filter_map(named).map(parameter).collect()
}

/// An optional query parameter.
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

/// The header that makes repeated requests safe.
pub(crate) fn idempotency_key() -> Parameter {
    let about = "Makes retries safe: for 24 hours, a repeated request with the same key is not run again and returns the stored \
                 response. Only successful (2xx) responses are stored.";
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    header("Idempotency-Key", about, key.pattern(Some(r"^[\t -~]*[!-~][\t -~]*$")))
}

/// How long a request waits for the job that it starts.
pub(crate) fn prefer() -> Parameter {
    let about = "`wait=N` returns the job when it has ended (200), or after N seconds, at most 25, with its state at that \
                 time (202). Other preferences are ignored. If a workspace has 100 waits, the next request does not wait.";
    let text = ObjectBuilder::new().schema_type(Type::String);
    header("Prefer", about, text.examples(["wait=10"]))
}

/// How long the request for a job waits.
pub(crate) fn wait() -> Parameter {
    let about = "Returns the job when it has ended, or after so many seconds with its state at that time.";
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(MAX_WAIT_S));
    query("wait", about, number)
}

/// The cursor after which a client of a stream reconnects.
pub(crate) fn last_event_id() -> Parameter {
    let cursor = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{1,18}$"));
    header("Last-Event-ID", "The `id` of the last event that the client has, sent when it reconnects.", cursor)
}

/// The condition of a write: `*`, or comma-separated entity tags.
pub(crate) fn if_match() -> Parameter {
    let about = "Writes only if the record still has this `ETag`; otherwise returns 412.";
    let tags = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;
    header("If-Match", about, ObjectBuilder::new().schema_type(Type::String).pattern(Some(tags)).examples(["*"]))
}

/// Who wants to know the end of the job that a request starts.
pub(crate) fn of_callback() -> [Parameter; 2] {
    let url = ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom("uri".to_owned())));
    let about_url = "Receives one event (`job.succeeded`, `job.failed` or `job.cancelled`) when the job ends, signed with the \
                     secret of `POST /dev/crm/webhooks/callback-secret`. The same rules hold as for the URL of a webhook.";
    let about_webhook = "The webhook that receives this event, whatever types it gets otherwise.";
    [query("callback_url", about_url, url), query("webhook_id", about_webhook, Uuid::shape())]
}

/// The versions that the client has already. Malformed tags never match.
pub(crate) fn if_none_match() -> Parameter {
    let about = "Returns the record only if its `ETag` differs; otherwise returns 304.";
    header("If-None-Match", about, ObjectBuilder::new().schema_type(Type::String))
}

/// One of several strings.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

/// The filters and orders of a list, and `q` if the list is searchable.
///
/// `fields` is described in words: a record without its required fields is none that a typed client
/// can read, and a schema without required fields would cost all clients the types of whole records.
pub(crate) fn of_list(spec: &Spec) -> Vec<Parameter> {
    let mut parameters = conditions(spec);
    parameters.push(of_sort(spec, spec.sortable().map(|field| field.name)));
    parameters.push(of_zone());
    parameters
}

/// The parameters of a list that decide which records it has.
pub(crate) fn of_filters(spec: &Spec) -> Vec<Parameter> {
    let mut parameters = conditions(spec);
    parameters.push(of_zone());
    parameters
}

fn conditions(spec: &Spec) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = spec.filterable().flat_map(of_field).collect();
    if spec.searchable {
        let about = "Searches by prefix, ignoring case and accents: each given word must begin a word of the name, \
                     company, phone or email. At least one letter or digit, at most 20 words of at most 100 characters.";
        parameters.push(query("q", about, ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))));
    }
    parameters
}

/// The parameters of a list that are those of its export. An export has only the orders of indexes.
pub(crate) fn of_export(spec: &Spec) -> Vec<Parameter> {
    let mut parameters = of_list(spec);
    let sort = of_sort(spec, spec.orders.iter().map(|order| order.name));
    parameters.iter_mut().filter(|parameter| parameter.name == "sort").for_each(|parameter| *parameter = sort.clone());
    parameters.push(several("fields", "Returns only these fields.", one_of(spec.names()).build()));
    parameters.extend(of_file());
    parameters
}

/// How an exported file is written.
fn of_file() -> [Parameter; 4] {
    let formats = one_of(FileFormat::WORDS.iter().copied()).default(Some(json!(FileFormat::Csv)));
    let custom = one_of(CustomFields::WORDS.iter().copied()).default(Some(json!(CustomFields::Json)));
    let delimiters = one_of(["comma", "semicolon", "tab", "pipe", ",", ";", "\t", "|"]).default(Some(json!("comma")));
    let bom = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(Value::Bool(false)));
    let about_custom = format!(
        "`columns` gives each custom field a column, at most {MAX_CUSTOM_COLUMNS}; `custom_fields` then has the others. \
         Only for CSV."
    );
    [
        query("format", "CSV with a header row, or a JSON object on each line.", formats),
        query("custom", &about_custom, custom),
        query("delimiter", "The delimiter. Only for CSV.", delimiters),
        query("bom", "Begins with a byte order mark, by which Excel recognizes UTF-8. Only for CSV.", bom),
    ]
}

/// The time zone of dates.
fn of_zone() -> Parameter {
    let zone = ObjectBuilder::new().schema_type(Type::String).default(Some(json!("UTC"))).examples(["Europe/Berlin"]);
    query("tz", "The IANA name of the time zone of dates without a time.", zone)
}

fn of_sort<'a>(spec: &Spec, names: impl Iterator<Item = &'a str>) -> Parameter {
    let names = names.flat_map(|name| [name.to_owned(), format!("-{name}")]);
    let default = spec.orders.first().map(|order| json!(format!("-{}", order.name)));
    let served: Vec<String> = spec.orders.iter().map(|order| format!("`{}`", order.name)).collect();
    let about = format!(
        "The order; a leading `-` means descending. Empty values are last. Orders other than by {} need a `limit`.",
        served.join(" or ")
    );
    let orders = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).default(default);
    query("sort", &about, orders)
}

/// A parameter with one or more values, separated by commas.
pub(crate) fn several(name: &str, about: &str, item: impl Into<ArrayItems>) -> Parameter {
    let each = ArrayBuilder::new().items(item).min_items(Some(1));
    optional(name, about).schema(Some(each)).style(Some(ParameterStyle::Form)).explode(Some(false)).build()
}

/// A parameter that is repeated for several values, because they may contain commas.
fn repeated(name: &str, about: &str) -> Parameter {
    let each = ArrayBuilder::new().items(String::shape()).min_items(Some(1));
    optional(name, about).schema(Some(each)).style(Some(ParameterStyle::Form)).explode(Some(true)).build()
}

/// The filters by a field: equal, not equal, and ranges.
fn of_field(field: &ListField) -> Vec<Parameter> {
    let name = field.name;
    let is = match field.kind {
        Kind::Email => "one of these, compared by their normal form",
        Kind::Name => "one of these, ignoring case and accents",
        Kind::Line | Kind::Text => "exactly one of these",
        Kind::Word(_) | Kind::Id | Kind::Number | Kind::Time | Kind::Json => "one of these",
    };
    let equality = |name: &str, about: String| match field.kind.is_separated() {
        true => several(name, &about, or_null(field.kind)),
        false => repeated(name, &about),
    };
    let (has, has_not) = match field.is_list() {
        true => (format!("that have a {name} of these"), format!("that have no {name} of these")),
        false => (format!("whose `{name}` is {is}"), format!("whose `{name}` is none of these")),
    };
    let mut filters = vec![
        equality(name, format!("Only records {has}. `null` stands for empty.")),
        equality(&format!("{name}[ne]"), format!("Only records {has_not}. `null` stands for empty.")),
    ];
    if field.kind.has_ranges() {
        let bounds = [("gte", "at least"), ("gt", "greater than"), ("lte", "at most"), ("lt", "less than")];
        filters.extend(bounds.map(|(operator, is)| {
            let about = format!("Only records whose `{name}` is {is} this.");
            query(&format!("{name}[{operator}]"), &about, shape(field.kind))
        }));
    }
    filters
}

fn shape(kind: Kind) -> Object {
    match kind {
        Kind::Word(words) => one_of(words.iter().copied()).build(),
        Kind::Id => Uuid::shape(),
        Kind::Number => f64::shape(),
        Kind::Time => DateTime::<Utc>::shape(),
        Kind::Email | Kind::Name | Kind::Line | Kind::Text | Kind::Json => String::shape(),
    }
}

/// A value of this kind, or the word `null`.
fn or_null(kind: Kind) -> ArrayItems {
    match kind {
        Kind::Word(words) => one_of(words.iter().copied().chain(["null"])).into(),
        Kind::Email => String::shape().into(),
        kind => AnyOfBuilder::new().item(shape(kind)).item(one_of(["null"])).into(),
    }
}

/// What happens to a new record with a key that another one has.
pub(crate) fn on_conflict(keys: &[&str]) -> Parameter {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let about = format!(
        "`update` updates the record with the same {} like a PUT, if there is one. By default, such a body is rejected.",
        keys.join(" or, without a match, the same ")
    );
    let modes = one_of(ConflictMode::WORDS.iter().copied()).default(Some(json!(ConflictMode::Fail)));
    query("on_conflict", &about, modes)
}

/// The pages of a list.
pub(crate) fn of_page() -> [Parameter; 3] {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i64::from(MAX_LIMIT)));
    let cursor = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let count = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(Value::Bool(false)));
    [
        query("limit", "The page size. Without it, the whole list is returned.", limit),
        query("cursor", "The `X-Next-Cursor` of the previous page.", cursor),
        query("count", "Returns the number of records on all pages in `X-Total-Count`.", count),
    ]
}

/// The flag that lists deleted records.
pub(crate) fn deleted() -> Parameter {
    let about = "Lists the deleted records that can be restored instead, last deleted first, each with `deleted_at`. Only \
                 `limit`, `cursor`, `count`, `id`, `email` and `import_job_id` can be given beside it.";
    query("deleted", about, ObjectBuilder::new().schema_type(Type::Boolean).default(Some(Value::Bool(false))))
}

/// The parameters of a report.
pub(crate) fn of_report(offers: &Offers, tables: &[Table]) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    if offers.period {
        parameters.extend(of_period());
    }
    if offers.interval {
        let interval = one_of(Interval::WORDS.iter().copied()).default(Some(json!(Interval::Day)));
        let about = "The interval by which the period is divided; at most 1,000 intervals.";
        parameters.push(query("interval", about, interval));
    }
    parameters.extend(offers.filters.iter().map(|by| of_report_filter(*by)));
    parameters.push(of_table(tables));
    parameters
}

/// The period of a report.
fn of_period() -> [Parameter; 5] {
    let bound = || ObjectBuilder::new().schema_type(Type::String).examples(["2026-10-05", "2026-10-05T10:00:00Z"]);
    let tz = ObjectBuilder::new().schema_type(Type::String).examples(["Europe/Berlin"]);
    let from =
        "The start of the period, a time or a date, which is its midnight in `tz`; by default 90 days before `to`.";
    let to = "The end of the period, exclusive, a time or a date, which is its midnight in `tz`; by default now.";
    let period = "A period by its name, in place of `from` and `to`. Those of the present end now.";
    let zone = "The IANA name of the time zone of dates and intervals; by default that of the workspace.";
    let compare = "Adds `comparison`: the same figures of the period before, or of the same local dates a year ago.";
    [
        query("from", from, bound()),
        query("to", to, bound()),
        query("period", period, one_of(NamedPeriod::WORDS.iter().copied())),
        query("tz", zone, tz),
        query("compare", compare, one_of(Compare::WORDS.iter().copied())),
    ]
}

fn of_report_filter(by: FilterBy) -> Parameter {
    let name = by.name();
    let item = by
        .words()
        .map_or_else(|| ObjectBuilder::new().schema_type(Type::String), |words| one_of(words.iter().copied()));
    let about = match by {
        FilterBy::AssignedTo => "Only records whose owner is one of these; `null` stands for no owner.".to_owned(),
        FilterBy::Category => {
            "Only feedback of this category, ignoring case; `null` stands for no category. May be repeated.".to_owned()
        }
        _ => format!("Only records whose {name} is one of these."),
    };
    // A comma can be part of a category.
    let is_repeated = by == FilterBy::Category;
    let each = ArrayBuilder::new().items(item).min_items(Some(1));
    optional(name, &about).schema(Some(each)).style(Some(ParameterStyle::Form)).explode(Some(is_repeated)).build()
}

/// The table of a report that is requested as CSV.
pub(crate) fn of_table(tables: &[Table]) -> Parameter {
    let about = "The table to return; only with `Accept: text/csv`. Required if there are several.";
    query("table", about, one_of(tables.iter().map(|table| table.name)))
}
