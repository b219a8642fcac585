//! Converting a lead to a customer.

use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;

use crate::console::crm::{Change, Listing};
use crate::console::forms::{Draft, Fields, done};
use crate::console::links::link;
use crate::console::notice::Notice;
use crate::console::pages::records::fields::{Field, inputs, writable};
use crate::console::pages::records::people::{People, text_in};
use crate::console::pages::records::{Form, Json, Noun, api_of, entered, page_of, reasons};
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};

/// The fields of the customer that the form can set.
fn fields() -> Vec<Field> {
    writable::<Customer>().into_iter().filter(|field| field.name != "lead_id").collect()
}

/// Shows what a conversion will do, and lets a person set fields of the customer.
pub(super) async fn ask(visit: Visit, Id(id): Id) -> Result<Response> {
    let lead: Json = visit.crm.get(&api_of::<Lead>(id)).await?;
    // The fields of a new customer; the other ones are the lead's.
    let values = fields().iter().map(|field| (field.name, copied(&visit, field, &lead))).collect();
    show(&visit, id, &lead, &Draft::of(values)).await
}

/// What the form has at first: what the lead has, and for the rest the default.
fn copied(visit: &Visit, field: &Field, lead: &Json) -> String {
    let is_shared = !matches!(field.name, "status" | "type" | "external_id" | "custom_fields" | "notes");
    match lead.get(field.name).filter(|_| is_shared) {
        Some(value) => field.text(visit.zone, value),
        None => field.initial(),
    }
}

async fn show(visit: &Visit, id: uuid::Uuid, lead: &Json, draft: &Draft) -> Result<Response> {
    let email = text_in(lead, "email").unwrap_or_default();
    let path = link("/customers", [("email", email), ("fields", "id,name,lead_id"), ("limit", "1")]);
    let (people, found): (People, Listing<Json>) = tokio::try_join!(People::users(visit), visit.crm.list(&path))?;
    let page = page_of::<Lead>(id);
    let form = Form {
        title: format!("Convert {} to a customer", Lead::title(lead)),
        action: format!("{page}/convert"),
        back: page,
        submit: "Convert",
    };
    let content = html! {
        @if let Some(refusal) = &draft.refusal && refusal.status == 409 { (reasons(refusal)) }
        (outcome(found.items.first()))
        (inputs(&fields(), draft, &people))
        p.quiet { "Notes, custom fields and other fields that are left empty are copied from the lead." }
    };
    Ok(form.page(visit, draft, &content))
}

/// What will become of the lead.
fn outcome(present: Option<&Json>) -> Markup {
    let Some(customer) = present else {
        return html! { p { "Creates a customer with these fields. The lead becomes converted, and leaves nurture." } };
    };
    let other = html! {
        a href=(page_of::<Customer>(text_in(customer, "id").unwrap_or_default())) { (Customer::title(customer)) }
    };
    match text_in(customer, "lead_id") {
        None => html! {
            p { "The customer " (other) " has the email of this lead. The lead will be linked to that customer, who gets the fields that you change here." }
        },
        Some(lead) => html! {
            p {
                "The customer " (other) " has the email of this lead and belongs to "
                a href=(page_of::<Lead>(lead)) { "another lead" }
                ". Give the new customer another email, or link the leads by hand."
            }
        },
    }
}

/// Converts the lead. Only what differs from the lead is sent.
pub(super) async fn convert(Id(id): Id, Sent { visit, fields: mut sent }: Sent) -> Result<Response> {
    let once = sent.take_once();
    let lead: Json = visit.crm.get(&api_of::<Lead>(id)).await?;
    match send(&visit, id, &lead, &sent, once).await {
        Ok(converted) => {
            let customer = converted["customer"]["id"].as_str().unwrap_or_default();
            let notice = Notice::of(format!("Converted {} to a customer.", Lead::title(&lead)));
            Ok(done(&visit, &page_of::<Customer>(customer), &notice))
        }
        Err(refusal) => show(&visit, id, &lead, &Draft::refused(sent, refusal)?).await,
    }
}

async fn send(visit: &Visit, id: uuid::Uuid, lead: &Json, sent: &Fields, once: Option<String>) -> Result<Value> {
    let fields = fields();
    let changed = fields.into_iter().filter(|field| sent.get(field.name) != copied(visit, field, lead));
    let body = entered(visit, &changed.collect::<Vec<_>>(), sent)?;
    let path = format!("{}/convert", api_of::<Lead>(id));
    visit.crm.send(Method::POST, &path, Change::with(body.into()).once(once)).await
}
