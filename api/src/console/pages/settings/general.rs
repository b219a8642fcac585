//! Who sends the workspace's email, and when.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use chrono_tz::TZ_VARIANTS;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::edit::{self, Edit, Saved};
use crate::AppState;
use crate::console::forms::{Fields, done};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Sent, Visit};

pub(super) const PATH: &str = "/console/settings/general";

const LABELS: &edit::Labels = &[
    ("sender_name", "Sender's name"),
    ("sender_email", "Sender's address"),
    ("reply_to", "Reply-to"),
    ("notification_email", "Notifications"),
    ("time_zone", "Time zone"),
    ("nightly_at", "Nightly run"),
    ("send_between", "Hours"),
    ("send_on", "Days"),
    ("max_emails_per_run", "Most emails of a run"),
    ("nurture_enroll_created", "Enrol new leads"),
    ("feedback_reminder_after_days", "Days until a reminder"),
];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

#[derive(Deserialize)]
struct Settings {
    sender_name: Option<String>,
    sender_email: Option<String>,
    reply_to: Option<String>,
    notification_email: Option<String>,
    nightly_at: String,
    time_zone: String,
    send_between: Option<String>,
    send_on: Option<Vec<String>>,
    max_emails_per_run: u64,
    nurture_enroll_created: bool,
    feedback_reminder_after_days: u32,
}

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/settings/general", get(show).post(save))
}

async fn show(visit: Visit) -> Result<Response> {
    let stored = visit.crm.record("/settings").await?;
    Ok(page(&visit, &Edit::of(&stored, values)))
}

async fn save(Sent { visit, fields }: Sent) -> Result<Response> {
    match Edit::save(&visit, ("/settings", ""), fields, LABELS, body, values).await? {
        Saved::Done => Ok(done(&visit, PATH, &Notice::of("The settings were saved."))),
        Saved::Refused(edit) => Ok(page(&visit, &edit)),
    }
}

fn values(settings: &Settings) -> Fields {
    let text = |name: &str, value: &Option<String>| (name.to_owned(), value.clone().unwrap_or_default());
    let mut pairs = vec![
        text("sender_name", &settings.sender_name),
        text("sender_email", &settings.sender_email),
        text("reply_to", &settings.reply_to),
        text("notification_email", &settings.notification_email),
        ("time_zone".to_owned(), settings.time_zone.clone()),
        ("nightly_at".to_owned(), settings.nightly_at.clone()),
        text("send_between", &settings.send_between),
        ("max_emails_per_run".to_owned(), settings.max_emails_per_run.to_string()),
        ("feedback_reminder_after_days".to_owned(), settings.feedback_reminder_after_days.to_string()),
    ];
    // A box that is not checked is not sent.
    pairs.extend(settings.nurture_enroll_created.then(|| ("nurture_enroll_created".to_owned(), "true".to_owned())));
    pairs.extend(settings.send_on.iter().flatten().map(|day| ("send_on".to_owned(), day.clone())));
    Fields::new(pairs)
}

fn body(fields: &Fields) -> Value {
    let text =
        ["sender_name", "sender_email", "reply_to", "notification_email", "time_zone", "nightly_at", "send_between"];
    let mut body = fields.object(&text);
    body.insert("send_on".to_owned(), edit::array(fields, "send_on"));
    body.insert("max_emails_per_run".to_owned(), fields.number("max_emails_per_run"));
    body.insert("feedback_reminder_after_days".to_owned(), fields.number("feedback_reminder_after_days"));
    body.insert("nurture_enroll_created".to_owned(), json!(fields.get("nurture_enroll_created") == "true"));
    body.into()
}

fn page(visit: &Visit, edit: &Edit) -> Response {
    let content = html! { (edit.problems()) (edit.form(visit, PATH, &inputs(edit))) };
    super::page_with(edit.draft.status(), visit, PATH, "General", &html! {}, &content)
}

fn inputs(edit: &Edit) -> Markup {
    let draft = &edit.draft;
    let zones = TZ_VARIANTS.iter().map(|zone| (zone.name(), zone.name()));
    html! {
        (parts::section("Sender", &html! { div.fields {
            (draft.input("sender_name", "Sender's name").hint("Empty: the server's default."))
            (draft.input("sender_email", "Sender's address").kind("email").hint("In a domain that the operator allows. Empty: the server's default."))
            (draft.input("reply_to", "Reply-to").kind("email").hint("Empty: replies go to the sender."))
            (draft.input("notification_email", "Notifications").kind("email").hint("Gets what concerns records that are assigned to nobody."))
        } }))
        (parts::section("Times", &html! { div.fields {
            (draft.input("time_zone", "Time zone").choice(zones))
            (draft.input("nightly_at", "Nightly run").kind("time").hint("In the time zone of the workspace. Empty: 02:00."))
            (draft.input("send_between", "Hours").hint("When nurture emails, requests and reminders leave, such as 09:00-17:00. Empty: any time."))
            (draft.input("send_on", "Days").checks(DAYS.map(|day| (day, parts::words(day)))).hint("The days on which they leave. None: any day."))
        } }))
        (parts::section("Workflows", &html! { div.fields {
            (draft.input("max_emails_per_run", "Most emails of a run").kind("number").hint("A run that nobody asked for at that moment and that would write more writes none. 0 is no limit."))
            (draft.input("feedback_reminder_after_days", "Days until a reminder").kind("number").hint("Without an answer to a request for feedback."))
            (draft.input("nurture_enroll_created", "Enrol new leads").flag().hint("Leads that are created through the API get the nurture sequence."))
        } }))
    }
}
