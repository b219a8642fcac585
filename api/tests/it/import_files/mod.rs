//! Files as people bring them: of other systems, in other languages, with the dates, numbers and addresses
//! that stand in them.

mod answers;
mod bad_cells;
mod dates;
mod delimiters;
mod emails;
mod encodings;
mod exports;
mod exports_of_crms;
mod exports_of_shops;
mod grounds;
mod headers;
mod interactions;
mod keys;
mod languages;
mod mapping;
mod numbers;
mod opt_outs;
mod orders;
mod owners;
mod quotes;
mod reviews;
mod round_trips;
mod statuses;
mod suppression_lists;
mod systems;
mod systems_of_sales;
mod thirty_nights;
mod trailing;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use testing::Process;
use uuid::Uuid;

use crate::support::{self, Api, each, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const ORDERS: &str = "/dev/crm/orders";
const SUPPRESSIONS: &str = "/dev/crm/suppressions";

async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = Process::worker(&api.database, &[]);
    (api, worker)
}

/// Imports a file of leads or customers, and returns the job when it has succeeded. Checks that its counts add up.
async fn import(api: &Api, list: &str, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let job = api.imported(&format!("{list}/import?{query}"), file).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let ends: i64 = ["created", "updated", "skipped", "failed"].iter().map(|name| count(&job, name)).sum();
    assert_eq!(count(&job, "rows"), ends, "{job}");
    job
}

/// Uploads a file that is refused, and returns the answer.
async fn refused(api: &Api, list: &str, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let form = Form::new().part("file", Part::bytes(file.into()).file_name("file.csv"));
    support::json(api.post(&format!("{list}/import?{query}")).multipart(form), 400).await
}

fn count(job: &Value, name: &str) -> i64 {
    job["result"][name].as_i64().unwrap_or_else(|| panic!("no {name} in {job}"))
}

/// Checks the counts of a job. Those that are not named must be 0.
fn assert_counts(job: &Value, expected: Value) {
    for name in ["created", "updated", "skipped", "failed", "warnings", "suppressed"] {
        assert_eq!(count(job, name), expected[name].as_i64().unwrap_or(0), "{name} of {job}");
    }
}

/// Checks the named fields of a record, and of its custom fields the named ones: an absent one is `null`, and `{}`
/// means that there are none.
fn assert_has(record: &Value, expected: Value) {
    for (field, value) in expected.as_object().unwrap() {
        match value.as_object().filter(|keys| field == "custom_fields" && !keys.is_empty()) {
            Some(keys) => {
                for (key, value) in keys {
                    assert_eq!(&record[field][key], value, "custom field {key:?} of {record}");
                }
            }
            None => assert_eq!(&record[field], value, "{field} of {record}"),
        }
    }
}

/// What became of each header.
fn mapping(job: &Value) -> &Value {
    &job["result"]["mapping"]
}

/// Checks what became of the named headers.
fn assert_mapping(job: &Value, expected: &[(&str, &str)]) {
    for (header, field) in expected {
        assert_eq!(mapping(job)[header], *field, "{header:?} in {job}");
    }
}

/// A parameter of a query, whose value may be JSON.
fn option(name: &str, value: &Value) -> String {
    format!("{name}={}", encoded(&value.to_string()))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The record with an email address.
async fn person(api: &Api, list: &str, email: &str) -> Value {
    let mut found = api.read(&format!("{list}?email={}", encoded(email))).await;
    assert_eq!(found.as_array().unwrap().len(), 1, "{email} in {list}: {found}");
    found[0].take()
}

/// The records that a job created, in the order of their addresses.
async fn created(api: &Api, list: &str, job: &Value) -> Vec<Value> {
    let records = api.read(&format!("{list}?import_job_id={}&sort=email", id(job))).await;
    records.as_array().unwrap().clone()
}

/// The only record that a job created.
async fn only(api: &Api, list: &str, job: &Value) -> Value {
    let records = created(api, list, job).await;
    assert_eq!(records.len(), 1, "{job}");
    records[0].clone()
}

/// The suppressed addresses.
async fn suppressed(api: &Api) -> Vec<String> {
    let suppressions = api.read(&format!("{SUPPRESSIONS}?sort=email")).await;
    each(&suppressions, "email").into_iter().map(str::to_owned).collect()
}

/// Each fault of the rows that were rejected, skipped or written with a warning: `3 failed invalid`.
async fn remarks(api: &Api, job: &Value) -> Vec<String> {
    let rows = reported(api, job, "failed,skipped,warned").await;
    let faults = |row: &Value| {
        let begin = format!("{} {}", row["line"], row["outcome"].as_str().unwrap());
        let faults = row["faults"].as_array().unwrap().clone();
        faults.into_iter().map(move |fault| format!("{begin} {}", fault["code"].as_str().unwrap()))
    };
    rows.iter().flat_map(faults).collect()
}

/// The rows of a job with these outcomes.
async fn reported(api: &Api, job: &Value, outcomes: &str) -> Vec<Value> {
    let rows = api.read(&format!("/dev/crm/jobs/{}/errors?outcome={outcomes}", id(job))).await;
    rows.as_array().unwrap().clone()
}

/// A file of people, each with an address and a cell under the header. Tabs separate the columns, so that cells
/// may have any other separator.
fn with_column(header: &str, cells: &[&str]) -> String {
    let domain = Uuid::now_v7().simple();
    let row = |(n, cell): (usize, &&str)| format!("Person {n}\tp{n:02}@{domain}.example\t{cell}\n");
    format!("Name\tEmail\t{header}\n{}", cells.iter().enumerate().map(row).collect::<String>())
}

/// Imports cells of one column, and returns the job and the people in the order of the cells.
async fn column(api: &Api, list: &str, query: &str, header: &str, cells: &[&str]) -> (Value, Vec<Value>) {
    let job = import(api, list, query, with_column(header, cells)).await;
    assert_eq!(count(&job, "created"), i64::try_from(cells.len()).unwrap(), "{header}: {job}");
    let people = created(api, list, &job).await;
    (job, people)
}

/// The text in Latin-1, which is Windows-1252 as well.
fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Creates a user, and returns the id.
async fn user(api: &Api, name: &str, email: &str) -> String {
    let user = api.create("/dev/crm/users", json!({ "name": name, "email": email })).await;
    id(&user).to_owned()
}

/// The further addresses of a record, however they are kept.
fn other_emails(record: &Value) -> String {
    match &record["custom_fields"]["other_emails"] {
        Value::String(text) => text.clone(),
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join(", "),
        other => panic!("no further addresses but {other} in {record}"),
    }
}
