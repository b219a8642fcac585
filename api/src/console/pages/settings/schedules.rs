//! Schedules: jobs that start at their times.

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use chrono_tz::TZ_VARIANTS;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use super::edit::{self, Edit, Saved};
use crate::AppState;
use crate::console::crm::{Change, Listing, Versioned};
use crate::console::forms::{Draft, Fields, button, confirmed, done, form};
use crate::console::lists::{self, Column, Filter};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::{from_input, input_value, time, time_or_dash};

pub(super) const PATH: &str = "/console/settings/schedules";

/// The kind of the nightly run, whose time is in the settings.
const NIGHTLY: &str = "nightly";
const KINDS: [&str; 9] = [
    "nurture_leads",
    "process_followups",
    "remind_feedback",
    "request_feedback",
    "bulk_leads",
    "bulk_customers",
    "bulk_orders",
    "undo_import",
    "undo_bulk",
];

const LABELS: &edit::Labels = &[
    ("params", "Parameters"),
    ("cron", "Cron expression"),
    ("every", "Interval"),
    ("at", "Once at"),
    ("time_zone", "Time zone"),
    ("overlap", "If the run before has not ended"),
    ("catch_up", "Missed runs"),
    ("until", "Until"),
];

#[derive(Deserialize)]
struct Schedule {
    id: Uuid,
    kind: String,
    params: Value,
    cron: Option<String>,
    every: Option<String>,
    at: Option<DateTime<Utc>>,
    time_zone: String,
    overlap: String,
    catch_up: String,
    until: Option<DateTime<Utc>>,
    status: String,
    next_runs: Vec<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Run {
    slot: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    job_id: Option<Uuid>,
    status: Option<String>,
    error: Option<String>,
}

const COLUMNS: &[Column<Schedule>] = &[
    Column::new("Job", |_, schedule| {
        html! { a href=(format!("{PATH}/{}", schedule.id)) { (parts::words(&schedule.kind)) } }
    }),
    Column::new("When", when),
    Column::new("State", |_, schedule| parts::badge(&schedule.status)),
    Column::new("Next run", |visit, schedule| time_or_dash(visit.zone, schedule.next_runs.first().copied())),
    Column::<Schedule>::new("Created", |visit, schedule| time(visit.zone, schedule.created_at)).sorted("created_at"),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/schedules", get(list))
        .route("/settings/schedules/new", get(new).post(create))
        .route("/settings/schedules/{id}", get(show))
        .route("/settings/schedules/{id}/edit", get(edit).post(save))
        .route("/settings/schedules/{id}/run", post(run))
        .route("/settings/schedules/{id}/pause", post(pause))
        .route("/settings/schedules/{id}/resume", post(resume))
        .route("/settings/schedules/{id}/delete", post(delete))
}

fn when(visit: &Visit, schedule: &Schedule) -> Markup {
    match (&schedule.cron, &schedule.every, schedule.at) {
        (Some(cron), ..) => html! { code { (cron) } " " span.quiet { (schedule.time_zone) } },
        (_, Some(every), _) => html! { "every " code { (every) } },
        (.., Some(at)) => html! { "once, " (time(visit.zone, at)) },
        _ => parts::text_or_dash(None),
    }
}

fn filters() -> [Filter; 2] {
    let states = ["active", "paused", "ended"].map(|state| (state, parts::words(state)));
    let kinds = KINDS.into_iter().chain([NIGHTLY]).map(|kind| (kind, parts::words(kind)));
    [Filter::choice("kind", "Job", kinds), Filter::choice("status", "State", states)]
}

async fn list(visit: Visit) -> Result<Response> {
    let listing = lists::read(&visit, "/schedules", &filters()).await?;
    let empty =
        parts::empty("No schedules", &html! { "Create one to start a workflow or a bulk change at its times." });
    let actions = html! { a.button.primary href=(format!("{PATH}/new")) { "Create a schedule" } };
    let content = html! {
        (lists::filters(&visit, &filters(), COLUMNS))
        (lists::table(&visit, "Schedules", COLUMNS, &listing, &empty))
    };
    Ok(super::page(&visit, PATH, "Schedules", &actions, &content))
}

fn inputs(visit: &Visit, draft: &Draft) -> Markup {
    let zones = TZ_VARIANTS.iter().map(|zone| (zone.name(), zone.name()));
    html! {
        (draft.input("params", "Parameters").area(4).hint(
            "JSON, as the request that starts such a job takes it, such as {\"enroll\": true, \"status\": \"new\"}. \
             Empty: none."
        ))
        fieldset {
            legend { "When: one of three" }
            div.fields {
                (draft.input("cron", "Cron expression").hint("Minute, hour, day, month, day of the week: 30 8 * * mon-fri"))
                (draft.input("every", "Interval").hint("An ISO 8601 duration, such as P7D or PT6H."))
                (draft.input("at", "Once at").kind("datetime-local").hint(format!("In {}.", visit.zone)))
            }
        }
        div.fields {
            (draft.input("time_zone", "Time zone").choice(zones).hint("Of the cron expression."))
            (draft.input("until", "Until").kind("datetime-local").hint("Empty: without an end."))
            (draft.input("overlap", "If the run before has not ended").choice([("skip", "Skip this run"), ("queue", "Queue this run")]))
            (draft.input("catch_up", "Missed runs").choice([("latest", "Run the latest one"), ("none", "Run none"), ("all", "Run all")]))
        }
    }
}

async fn new(visit: Visit) -> Result<Response> {
    Ok(new_page(&visit, &Draft::of(edit::fields([("time_zone", Some(visit.zone.name().to_owned()))]))))
}

fn new_page(visit: &Visit, draft: &Draft) -> Response {
    let kinds = KINDS.map(|kind| (kind, parts::words(kind)));
    let inputs = html! {
        (draft.input("kind", "Job").choice(kinds))
        (inputs(visit, draft))
        button.primary type="submit" { "Create the schedule" }
    };
    let content = html! { (draft.problems()) (form(visit, &format!("{PATH}/new"), &inputs)) };
    super::page_with(draft.status(), visit, PATH, "Create a schedule", &html! {}, &content)
}

async fn create(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let mut body: Map<String, Value> = body(&visit, &fields);
    body.retain(|_, value| !value.is_null());
    body.insert("kind".to_owned(), fields.text("kind"));
    match visit.crm.send(Method::POST, "/schedules", Change::with(body.into()).once(once)).await {
        Ok(created) => {
            let id = created.get("id").and_then(Value::as_str).unwrap_or_default();
            Ok(done(&visit, &format!("{PATH}/{id}"), &Notice::of("The schedule was created. Its next runs are below.")))
        }
        Err(refusal) => Ok(new_page(&visit, &Draft::refused(fields, refusal)?)),
    }
}

fn body(visit: &Visit, fields: &Fields) -> Map<String, Value> {
    let mut body = fields.object(&["cron", "every", "time_zone", "overlap", "catch_up"]);
    for name in ["at", "until"] {
        body.insert(name.to_owned(), from_input(visit.zone, fields.get(name)));
    }
    let params = match fields.get("params").trim() {
        "" => Value::Object(Map::new()),
        // The API says what is wrong with a text.
        text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    };
    body.insert("params".to_owned(), params);
    body
}

/// The changed fields. One of the times replaces the others, so those that stay as they were are left out.
fn changed(visit: &Visit, fields: &Fields, stored: &Fields) -> Value {
    let mut body = body(visit, fields);
    body.retain(|name, _| fields.get(name) != stored.get(name));
    let times = ["cron", "every", "at"];
    if times.iter().any(|name| body.get(*name).is_some_and(|value| !value.is_null())) {
        body.retain(|name, value| !times.contains(&name.as_str()) || !value.is_null());
    }
    body.into()
}

fn values(visit: &Visit, schedule: &Schedule) -> Fields {
    let params = match &schedule.params {
        Value::Object(params) if params.is_empty() => String::new(),
        params => serde_json::to_string_pretty(params).unwrap_or_default(),
    };
    edit::fields([
        ("params", Some(params)),
        ("cron", schedule.cron.clone()),
        ("every", schedule.every.clone()),
        ("at", schedule.at.map(|at| input_value(visit.zone, at))),
        ("time_zone", Some(schedule.time_zone.clone())),
        ("overlap", Some(schedule.overlap.clone())),
        ("catch_up", Some(schedule.catch_up.clone())),
        ("until", schedule.until.map(|until| input_value(visit.zone, until))),
    ])
}

async fn edit(Id(id): Id, visit: Visit) -> Result<Response> {
    let stored: Versioned<Schedule> = visit.crm.record(&format!("/schedules/{id}")).await?;
    Ok(edit_page(&visit, id, &Edit::of(&stored, |schedule| values(&visit, schedule))))
}

async fn save(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    let path = format!("/schedules/{id}");
    let now: Schedule = visit.crm.get(&path).await?;
    let now = values(&visit, &now);
    let body = |fields: &Fields| changed(&visit, fields, &now);
    let of = |schedule: &Schedule| values(&visit, schedule);
    match Edit::save(&visit, (&path, ""), fields, LABELS, body, of).await? {
        Saved::Done => Ok(done(&visit, &format!("{PATH}/{id}"), &Notice::of("The schedule was saved."))),
        Saved::Refused(edit) => Ok(edit_page(&visit, id, &edit)),
    }
}

fn edit_page(visit: &Visit, id: Uuid, edit: &Edit) -> Response {
    let form = edit.form(visit, &format!("{PATH}/{id}/edit"), &inputs(visit, &edit.draft));
    let content = html! { (edit.problems()) (form) };
    super::page_with(edit.draft.status(), visit, PATH, "Edit a schedule", &html! {}, &content)
}

async fn show(Id(id): Id, visit: Visit) -> Result<Response> {
    let (path, runs) = (format!("/schedules/{id}"), format!("/schedules/{id}/runs?limit=20"));
    let (schedule, runs) = tokio::try_join!(visit.crm.get::<Schedule>(&path), visit.crm.list::<Run>(&runs))?;
    let content = html! {
        section { (facts(&visit, &schedule)) }
        (parts::section("Next runs", &next_runs(&visit, &schedule)))
        (parts::section("Latest runs", &latest_runs(&visit, &runs)))
    };
    Ok(super::page(&visit, PATH, &parts::words(&schedule.kind), &actions(&visit, &schedule), &content))
}

fn actions(visit: &Visit, schedule: &Schedule) -> Markup {
    let page = format!("{PATH}/{}", schedule.id);
    html! {
        (button(visit, &format!("{page}/run"), "Run now"))
        @match schedule.status.as_str() {
            "active" => (button(visit, &format!("{page}/pause"), "Pause")),
            "paused" => (button(visit, &format!("{page}/resume"), "Resume")),
            _ => {},
        }
        @if schedule.kind == NIGHTLY {
            @if visit.may(Scope::Settings) { a.button href=(super::general::PATH) { "Change its time" } }
        } @else {
            a.button href=(format!("{page}/edit")) { "Edit" }
            (confirmed(visit, &format!("{page}/delete"), "Delete", &html! {
                "It starts no more jobs. Jobs that it has started continue. This cannot be undone; a paused schedule \
                 can be resumed instead."
            }))
        }
    }
}

fn facts(visit: &Visit, schedule: &Schedule) -> Markup {
    let has_params = schedule.params.as_object().is_some_and(|params| !params.is_empty());
    html! {
        (parts::facts([
            ("State", parts::badge(&schedule.status)),
            ("When", when(visit, schedule)),
            ("Until", time_or_dash(visit.zone, schedule.until)),
            ("If the run before has not ended", html! { (parts::words(&schedule.overlap)) }),
            ("Missed runs", html! { (parts::words(&schedule.catch_up)) }),
            ("Created", time(visit.zone, schedule.created_at)),
        ]))
        @if has_params { h2 { "Parameters" } pre { (format!("{:#}", schedule.params)) } }
    }
}

fn next_runs(visit: &Visit, schedule: &Schedule) -> Markup {
    html! {
        @if schedule.next_runs.is_empty() {
            p.quiet { @if schedule.status == "paused" { "None while it is paused." } @else { "None." } }
        } @else {
            ol { @for at in &schedule.next_runs { li { (time(visit.zone, *at)) } } }
        }
    }
}

fn latest_runs(visit: &Visit, runs: &Listing<Run>) -> Markup {
    let row = |run: &Run| {
        let started = time(visit.zone, run.slot.unwrap_or(run.created_at));
        let by = if run.slot.is_some() { "Its time" } else { "Run now" };
        vec![
            match run.job_id {
                Some(job) => html! { a href=(format!("/console/jobs/{job}")) { (started) } },
                None => started,
            },
            html! { (by) },
            run.status.as_deref().map_or_else(|| parts::text_or_dash(None), parts::badge),
            parts::text_or_dash(run.error.as_deref()),
        ]
    };
    if runs.items.is_empty() {
        return html! { p.quiet { "It has not run yet." } };
    }
    let rows: Vec<_> = runs.items.iter().map(row).collect();
    parts::table("Latest runs", &["When", "Why", "State", "Error"], &rows)
}

async fn run(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let job = visit.crm.send(Method::POST, &format!("/schedules/{id}/run"), change).await?;
    let job = job.get("id").and_then(Value::as_str).unwrap_or_default();
    Ok(done(&visit, &format!("/console/jobs/{job}"), &Notice::of("The job was started.")))
}

async fn pause(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/schedules/{id}/pause"), change).await?;
    let path = format!("{PATH}/{id}");
    let notice = Notice::of("The schedule is paused.").undone_by(format!("{path}/resume"));
    Ok(done(&visit, &path, &notice))
}

async fn resume(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/schedules/{id}/resume"), change).await?;
    Ok(done(&visit, &format!("{PATH}/{id}"), &Notice::of("The schedule runs again.")))
}

async fn delete(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/schedules/{id}"), Change::default()).await?;
    Ok(done(&visit, PATH, &Notice::of("The schedule was deleted.")))
}
