//! A file that waits: how it is read, what becomes of its columns, a dry run, and the import.

use axum::http::Method;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::kinds::{Kind, kind_of};
use super::{IMPORTS, UPLOADS, check, mapping, options, size};
use crate::console::crm::Change;
use crate::console::forms::{Draft, Fields, done, form};
use crate::console::layout::page_with;
use crate::console::links::link;
use crate::console::live as parts_that_live;
use crate::console::notice::Notice;
use crate::console::pages::jobs::{EVERY, JOBS};
use crate::console::parts;
use crate::console::refusal::{Fault, Refusal, Result};
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

/// Orders whose rows need no column, because all have the same customer.
const OF_ANY_COLUMNS: (&str, &str) = ("set", r#"{"customer_id":"00000000-0000-4000-8000-000000000000"}"#);

/// An upload, and how an import would read it.
#[derive(Debug, Deserialize)]
pub(super) struct Waits {
    pub id: Uuid,
    size: u64,
    length: Option<u64>,
    expires_at: DateTime<Utc>,
    preview: Option<Preview>,
    #[serde(default)]
    errors: Vec<Fault>,
}

/// How a file would be read.
#[derive(Debug, Deserialize)]
pub(super) struct Preview {
    pub format: String,
    pub encoding: String,
    pub delimiter: Option<String>,
    pub header_row: Option<u64>,
    pub sheets: Vec<String>,
    pub mapping: Map<String, Value>,
    pub mapping_source: String,
    pub rows: Vec<Map<String, Value>>,
}

impl Preview {
    /// The columns without a mapping, so that all of them are mapped by hand.
    fn unmapped(self, kind: &Kind) -> Self {
        let unknown = |header: &str| match (kind.has_custom_fields)() {
            true => Value::from(format!("custom_fields.{header}")),
            false => Value::Null,
        };
        let mapping = self.mapping.into_iter().map(|(header, _)| (header.clone(), unknown(&header))).collect();
        Self { mapping, mapping_source: "none".to_owned(), ..self }
    }
}

fn fields_of(visit: &Visit) -> Fields {
    visit.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}

pub(super) async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let fields = fields_of(&visit);
    let kind = kind_of(visit.parameter("kind"));
    let file = read(&visit, id, kind, &options::given(&fields, None)).await;
    match file {
        Ok(file) => render(&visit, &file, kind, &Draft::of(fields)).await,
        Err(refusal) => {
            let file = read(&visit, id, kind, &[]).await?;
            render(&visit, &file, kind, &Draft::refused(fields, refusal)?).await
        }
    }
}

/// Reads how a file would be imported. Where it lacks a column that its kind needs, its columns are read all the same,
/// so that they can be mapped.
async fn read(visit: &Visit, id: Uuid, kind: &Kind, options: &[(&str, &str)]) -> Result<Waits> {
    let path =
        |kind, options: Vec<(&str, &str)>| link(&format!("/uploads/{id}"), options.into_iter().chain([("kind", kind)]));
    let mut file: Waits = visit.crm.get(&path(kind.name, options.to_vec())).await?;
    if file.preview.is_none() {
        let reading = options.iter().copied().filter(|(name, _)| !matches!(*name, "mapping" | "key" | "enroll"));
        let columns: Waits = visit.crm.get(&path("orders", reading.chain([OF_ANY_COLUMNS]).collect())).await?;
        file.preview = columns.preview.map(|preview| preview.unmapped(kind));
    }
    Ok(file)
}

async fn render(visit: &Visit, file: &Waits, kind: &'static Kind, draft: &Draft) -> Result<Response> {
    let path = format!("{UPLOADS}/{}", file.id);
    let check = match visit.parameter("job").filter(|_| draft.refusal.is_none() && visit.path == path) {
        Some(job) => {
            let live =
                link(&format!("{path}/live"), visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let part = check::part(visit, job, file.id, kind, &draft.values).await?;
            html! { section #check { h2 { "Dry run" } (parts_that_live::region(&live, &part)) } }
        }
        None => html! {},
    };
    let title = format!("Import {}", kind.title.to_lowercase());
    let content = html! {
        (parts::head(&title, &html! { a.button href=(link(IMPORTS, [("kind", kind.name)])) { "All imports" } }))
        (draft.problems())
        @if !file.errors.is_empty() { (unreadable(file)) }
        section {
            h2 { "How the file is read" }
            (parts::facts(facts(visit, file)))
            (options::reading(visit, file, kind, draft, file.preview.as_ref()))
        }
        @if let Some(preview) = &file.preview { (columns(visit, &path, kind, preview, draft)) }
        (check)
    };
    Ok(page_with(draft.status(), visit, &title, &content))
}

fn facts<'a>(visit: &Visit, file: &Waits) -> Vec<(&'a str, Markup)> {
    let mut facts = vec![
        (
            "Size",
            html! { (size(file.size)) @if let Some(length) = file.length.filter(|length| *length > file.size) { " of " (size(length)) } },
        ),
        ("Kept until", times::time(visit.zone, file.expires_at)),
    ];
    let Some(preview) = &file.preview else { return facts };
    let format = match preview.format.as_str() {
        "jsonl" => "JSON Lines",
        "xlsx" => "Excel workbook",
        _ => "CSV",
    };
    facts.push(("Format", html! { (format) }));
    facts.push(("Columns", html! { (preview.mapping.len()) }));
    if preview.mapping_source == "saved" {
        facts.push(("Mapping", html! { "Remembered from an earlier file" }));
    }
    facts
}

fn unreadable(file: &Waits) -> Markup {
    html! {
        div.problems role="alert" {
            p {
                @if file.preview.is_some() { "The file cannot be imported like this. Choose below what its columns become." }
                @else { "The file cannot be read." }
            }
            ul { @for fault in &file.errors { li { code { (fault.field) } " " (fault.message) } } }
        }
    }
}

fn columns(visit: &Visit, path: &str, kind: &Kind, preview: &Preview, draft: &Draft) -> Markup {
    let content = html! {
        (options::hidden_reading(&draft.values, kind))
        (mapping::table(kind, preview, draft))
        h3 { "Rows" }
        (options::writing(kind, draft))
        button.primary type="submit" name="dry_run" value="true" { "Dry run" }
        p.hint { "Reads the whole file and says what an import would do. Nothing is written." }
    };
    html! { section { h2 { "What columns become" } (form(visit, path, &content)) } }
}

pub(super) async fn live(visit: Visit, Id(id): Id) -> Response {
    let fields = fields_of(&visit);
    let kind = kind_of(visit.parameter("kind"));
    let job = visit.parameter("job").unwrap_or_default().to_owned();
    parts_that_live::stream(visit, EVERY, move |visit| {
        let (job, fields) = (job.clone(), fields.clone());
        async move { check::part(&visit, &job, id, kind, &fields).await }
    })
}

/// Starts a dry run, or the import itself.
pub(super) async fn import(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let kind = kind_of(Some(fields.get("kind")));
    let dry_run = fields.take("dry_run");
    let mapping = mapping_of(&visit, id, kind, &fields).await?;
    if mapping.is_none() {
        // What is detected, or remembered, is so for the next file, too.
        fields.take("save_mapping");
    }
    let given = options::given(&fields, mapping.as_deref());
    let upload = id.to_string();
    let how = [("upload", upload.as_str()), ("dry_run", dry_run.as_deref().unwrap_or_default())];
    let path = link(kind.path, given.iter().copied().chain(how));
    let job = match visit.crm.send(Method::POST, &path, Change::default().once(once)).await {
        Ok(job) => job,
        Err(refusal) => return again(&visit, id, kind, fields, refusal).await,
    };
    let job = job["id"].as_str().unwrap_or_default();
    if dry_run.is_some() {
        let state = given.iter().copied().filter(|(name, _)| *name != "header");
        let page = link(&format!("{UPLOADS}/{id}"), state.chain([("kind", kind.name), ("job", job)]));
        return Ok(Redirect::to(&format!("{page}#check")).into_response());
    }
    Ok(done(&visit, &format!("{JOBS}/{job}"), &Notice::of("The import has started.")))
}

/// The mapping of a form: that of its selects, or that of the dry run before.
async fn mapping_of(visit: &Visit, id: Uuid, kind: &Kind, fields: &Fields) -> Result<Option<String>> {
    if !fields.iter().any(|(name, _)| name.starts_with("column-")) {
        return Ok(fields.has("mapping").then(|| fields.get("mapping").to_owned()));
    }
    let without: Vec<(&str, &str)> =
        options::given(fields, None).into_iter().filter(|(name, _)| *name != "mapping").collect();
    let file = read(visit, id, kind, &without).await?;
    let chosen = file.preview.and_then(|preview| mapping::chosen(fields, &preview));
    Ok(chosen.map(|mapping| Value::Object(mapping).to_string()))
}

/// The page of a form that was refused, with what was chosen.
async fn again(visit: &Visit, id: Uuid, kind: &'static Kind, fields: Fields, refusal: Refusal) -> Result<Response> {
    let draft = Draft::refused(fields, refusal)?;
    let options: Vec<(&str, &str)> =
        options::given(&draft.values, None).into_iter().filter(|(name, _)| *name != "mapping").collect();
    let file = match read(visit, id, kind, &options).await {
        Ok(file) => file,
        Err(_) => read(visit, id, kind, &[]).await?,
    };
    render(visit, &file, kind, &draft).await
}
