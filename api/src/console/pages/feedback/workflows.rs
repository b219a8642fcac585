//! Asking for feedback, and processing the requests that are due.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use crate::console::crm::Change;
use crate::console::forms::{Draft, confirmed, done, form};
use crate::console::layout::page_with;
use crate::console::links::link;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Fault, Refusal, Result};
use crate::console::session::{Sent, Visit};

const CUSTOMER: &str = "customer";
const DRY_RUN: &str = "dry_run";

#[derive(Deserialize)]
struct Found {
    id: Uuid,
}

/// The forms that request feedback and process the requests.
pub(super) fn forms(visit: &Visit, due_reminders: u64, due_to_expire: u64) -> Markup {
    let what = html! {
        "Emails a reminder to " strong { (parts::count(due_reminders)) } " customers, and expires "
        strong { (parts::count(due_to_expire)) } " requests. Emails that were sent cannot be recalled; the job can be \
        cancelled while it runs."
    };
    html! {
        div.actions {
            (form(visit, "/console/feedback/process", &html! {
                input type="hidden" name=(DRY_RUN) value="true";
                button type="submit" { "Preview reminders" }
            }))
            (confirmed(visit, "/console/feedback/process", "Process requests", &what))
        }
        h3 { "Request feedback" }
        (request_form(visit, &Draft::default()))
    }
}

fn request_form(visit: &Visit, draft: &Draft) -> Markup {
    form(
        visit,
        "/console/feedback/request",
        &html! {
            (draft.problems())
            (draft.input(CUSTOMER, "Customer").required().hint("The customer's id or email. They get an email with a link to the form."))
            button.primary type="submit" { "Request feedback" }
        },
    )
}

/// Requests feedback of a customer.
pub(super) async fn request(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let asked = async {
        let id = customer(&visit, fields.get(CUSTOMER).trim()).await?;
        visit.crm.send(Method::POST, &format!("/customers/{id}/feedback/request"), Change::default().once(once)).await
    };
    match asked.await {
        Ok(job) => Ok(done(&visit, &job_path(&job), &Notice::of("Feedback is being requested."))),
        Err(refusal) => {
            let draft = Draft::refused(fields, refusal)?;
            let content = html! {
                (parts::head("Request feedback", &html! { a.button href="/console/feedback" { "Back to feedback" } }))
                (request_form(&visit, &draft))
            };
            Ok(page_with(draft.status(), &visit, "Request feedback", &content))
        }
    }
}

/// The id of a customer, who is given by it or by an email.
async fn customer(visit: &Visit, given: &str) -> Result<Uuid> {
    if let Ok(id) = given.parse() {
        return Ok(id);
    }
    let path = link("/customers", [("email", given), ("limit", "1")]);
    let found = if given.is_empty() { None } else { visit.crm.list::<Found>(&path).await?.items.into_iter().next() };
    found.map(|Found { id }| id).ok_or_else(|| Refusal {
        errors: vec![Fault {
            field: CUSTOMER.to_owned(),
            message: "must be the id or the email of a customer".to_owned(),
            code: "unknown".to_owned(),
            id: None,
        }],
        ..Refusal::of(StatusCode::NOT_FOUND, "There is no such customer.")
    })
}

/// Reminds and expires what is due, or says what it would do.
pub(super) async fn process(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let (dry_run, text) = match fields.get(DRY_RUN) {
        "true" => ("true", "The preview is being made. Nothing is sent."),
        _ => ("", "Requests are being processed."),
    };
    let path = link("/feedback/process-reminders", [(DRY_RUN, dry_run)]);
    let job = visit.crm.send(Method::POST, &path, Change::default().once(once)).await?;
    Ok(done(&visit, &job_path(&job), &Notice::of(text)))
}

/// The page of a job.
fn job_path(job: &serde_json::Value) -> String {
    format!("/console/jobs/{}", job["id"].as_str().unwrap_or_default())
}
