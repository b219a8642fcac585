//! The pages of leads: the list, one lead, and what can be done with it.

mod convert;

use std::slice::from_ref;

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use shared::accounts::scopes::Scope;
use shared::crm::interactions::LeadInteraction;
use shared::crm::leads::Lead;
use uuid::Uuid;

use super::records::people::{People, text_in};
use super::records::{self, Json, Met, Noun, api_of, deleted, facts, interactions, page_of, reasons, timeline};
use crate::AppState;
use crate::console::crm::Change;
use crate::console::forms::{button, done};
use crate::console::layout::{page, page_with};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};

impl Noun for Lead {
    const PATH: &'static str = "/leads";
    const ONE: &'static str = "lead";
    const MANY: &'static str = "leads";
    const TITLED_BY: &'static [&'static str] = &["name"];
    const TITLE: (&'static str, Option<&'static str>) = ("Name", Some("name"));
    const SHOWN: &'static [&'static str] =
        &["email", "company", "source", "status", "score", "assigned_to", "created_at"];
    const FILTERED_BY: &'static [&'static str] = &["status", "source", "assigned_to", "score[gte]", "created_at[gte]"];
    const DELETION: &'static str = "Deletes the lead and its interactions, but not its customer.";

    fn title(record: &Json) -> String {
        text_in(record, "name").unwrap_or("A lead").to_owned()
    }
}

impl Met for LeadInteraction {
    type With = Lead;

    const AT: &'static str = "created_at";
    const TEXT: &'static str = "notes";
}

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .merge(records::routes::<Lead>())
        .merge(interactions::routes::<LeadInteraction>())
        .route("/leads/{id}", get(show))
        .route("/leads/{id}/convert", get(convert::ask).post(convert::convert))
        .route("/leads/{id}/nurture/enroll", post(enroll))
        .route("/leads/{id}/nurture/unenroll", post(unenroll))
}

async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let lead: Json = match visit.crm.get(&api_of::<Lead>(id)).await {
        Ok(lead) => lead,
        Err(refusal) => return deleted::instead::<Lead>(&visit, id, refusal).await,
    };
    let history = timeline::changes_path::<Lead>(id);
    let people = async { People::users(&visit).await?.and_customers(&visit, from_ref(&lead)).await };
    let (people, changes, mut met, emails) = tokio::try_join!(
        people,
        visit.crm.list(&history),
        interactions::of::<LeadInteraction>(&visit, id),
        timeline::emails_to(&visit, text_in(&lead, "email").unwrap_or_default()),
    )?;
    // Nurture records an interaction for each of its emails.
    met.items.retain(|met| text_in(met, "email_id").is_none_or(|id| emails.items.iter().all(|email| email.id != id)));
    let sources = vec![
        timeline::changes_of::<Lead>(&visit, &people, &changes).await,
        interactions::source::<LeadInteraction>(&visit, id, &met),
        timeline::Source::of(&emails, |email| timeline::email_entry(&visit, email)),
    ];
    let title = Lead::title(&lead);
    let content = html! {
        (parts::head(&title, &actions(&visit, id, &lead)))
        section { h2.hidden { "Details" } (facts::<Lead>(&visit, &people, &lead, &["name", "first_name", "last_name"])) }
        section {
            h2 { "Timeline" }
            (interactions::adder::<LeadInteraction>(&visit, id))
            (timeline::merged(sources, &older(id)))
        }
    };
    Ok(page(&visit, &title, &content))
}

fn older(id: Uuid) -> Markup {
    let page = page_of::<Lead>(id);
    html! { a href={ (page) "/changes" } { "All changes" } ", " a href={ (page) "/interactions" } { "all interactions" } "." }
}

fn actions(visit: &Visit, id: Uuid, lead: &Json) -> Markup {
    let page = page_of::<Lead>(id);
    let is_converted = text_in(lead, "customer_id").is_some();
    html! {
        @if visit.may(Scope::RecordsWrite) {
            a.button href={ (page) "/edit" } { "Edit" }
            @if !is_converted { a.button.primary href={ (page) "/convert" } { "Convert to a customer" } }
        }
        @if visit.may(Scope::Workflows) { (nurture(visit, &page, lead)) }
        (deleted::delete_button::<Lead>(visit, id))
    }
}

/// The button that enrols the lead for nurture, or takes it out.
fn nurture(visit: &Visit, page: &str, lead: &Json) -> Markup {
    let is_enrolled = text_in(lead, "nurture_enrolled_at").is_some() && text_in(lead, "nurture_left_at").is_none();
    match (is_enrolled, text_in(lead, "status").unwrap_or_default()) {
        (true, _) => button(visit, &format!("{page}/nurture/unenroll"), "Stop nurture"),
        (false, "new" | "contacted" | "qualified") => button(visit, &format!("{page}/nurture/enroll"), "Start nurture"),
        _ => html! {},
    }
}

async fn enroll(Id(id): Id, sent: Sent) -> Result<Response> {
    nurtured(id, sent, "enroll", "Enrolled the lead. The next nurture run sends the step that is due.", "unenroll")
        .await
}

async fn unenroll(Id(id): Id, sent: Sent) -> Result<Response> {
    nurtured(id, sent, "unenroll", "Took the lead out of nurture.", "enroll").await
}

async fn nurtured(
    id: Uuid,
    Sent { visit, mut fields }: Sent,
    action: &str,
    text: &str,
    undo: &str,
) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let page = page_of::<Lead>(id);
    match visit.crm.send(Method::POST, &format!("{}/nurture/{action}", api_of::<Lead>(id)), change).await {
        Ok(_) => Ok(done(&visit, &page, &Notice::of(text).undone_by(format!("{page}/nurture/{undo}")))),
        Err(refusal) if refusal.status == 409 => {
            let content = html! {
                (parts::head("This lead cannot be enrolled", &html! {}))
                (reasons(&refusal))
                p { a href=(page) { "Back to the lead" } }
            };
            Ok(page_with(refusal.status, &visit, "Not enrolled", &content))
        }
        Err(refusal) => Err(refusal),
    }
}
