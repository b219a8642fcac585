//! `/dev/crm/leads`

use axum::http::StatusCode;
use shared::accounts::scopes::Scope;
use shared::crm::customers::Customer;
use shared::crm::interactions::LeadInteraction;
use shared::crm::leads::{self, Conversion, Lead};
use shared::error::Reason;
use shared::records::schema;
use utoipa::openapi::{RefOr, Schema};

use super::records;
use crate::extract::{JsonObject, NoQuery, OptionalJsonObject, Path};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

const INTERACTIONS: &str = "/leads/{leadId}/interactions";
const INTERACTION: &str = "/leads/{leadId}/interactions/{interactionId}";

pub(crate) fn operations() -> Vec<Operation> {
    let leads = [
        Operation::get("/leads", records::list::<Lead>)
            .needs(Scope::RecordsRead)
            .named("list", "List leads")
            .lists_records::<Lead>(),
        Operation::post("/leads", records::create::<Lead>)
            .needs(Scope::RecordsWrite)
            .named("create", "Create a lead")
            .creates::<Lead>(),
        Operation::get("/leads/export", records::export::<Lead>)
            .needs(Scope::RecordsRead)
            .named("export", "Export leads as CSV")
            .exports::<Lead>(),
        Operation::post("/leads/batch", records::batch::<Lead>)
            .needs(Scope::RecordsWrite)
            .named("batch", "Create and update many leads")
            .writes_many::<Lead>(),
        Operation::get("/leads/{leadId}", records::read::<Lead>)
            .needs(Scope::RecordsRead)
            .named("get", "Get a lead")
            .reads::<Lead>(),
        Operation::put("/leads/{leadId}", records::update::<Lead>)
            .needs(Scope::RecordsWrite)
            .named("update", "Update a lead")
            .updates::<Lead>(),
        Operation::delete("/leads/{leadId}", records::delete::<Lead>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete a lead")
            .about("Also deletes the lead's interactions, but not its customer. The lead can be restored for 30 days.")
            .deletes(),
        Operation::post("/leads/{leadId}/convert", convert)
            .needs(Scope::RecordsWrite)
            .shows_records(Scope::RecordsRead)
            .named("convert", "Convert a lead to a customer")
            .about("The body may set fields of the customer; the others are copied from the lead.")
            .may_take("LeadConvert", overrides())
            .conflicts([Reason::AlreadyConverted, Reason::Taken])
            .returns::<Conversion>(200, "An existing customer with the lead's email was linked.")
            .returns_created::<Conversion>("The customer was created."),
        Operation::get("/leads/{leadId}/history", records::history::<Lead>)
            .needs(Scope::RecordsRead)
            .named("history", "List the changes of a lead")
            .lists_history(),
        Operation::post("/leads/{leadId}/restore", records::restore::<Lead>)
            .needs(Scope::RecordsWrite)
            .named("restore", "Restore a deleted lead")
            .restores::<Lead>("The restored lead. Everything that was deleted with it is restored as well."),
    ];
    let interactions = [
        Operation::get(INTERACTIONS, records::list::<LeadInteraction>)
            .needs(Scope::RecordsRead)
            .named("list", "List the interactions with a lead")
            .lists_records::<LeadInteraction>(),
        Operation::get("/leads/interactions/export", records::export::<LeadInteraction>)
            .needs(Scope::RecordsRead)
            .named("export", "Export interactions with leads as CSV")
            .exports::<LeadInteraction>(),
        Operation::post(INTERACTIONS, records::create::<LeadInteraction>)
            .needs(Scope::RecordsWrite)
            .named("create", "Record an interaction with a lead")
            .creates::<LeadInteraction>(),
        Operation::get(INTERACTION, records::read::<LeadInteraction>)
            .needs(Scope::RecordsRead)
            .named("get", "Get an interaction with a lead")
            .reads::<LeadInteraction>(),
        Operation::put(INTERACTION, records::update::<LeadInteraction>)
            .needs(Scope::RecordsWrite)
            .named("update", "Update an interaction with a lead")
            .updates::<LeadInteraction>(),
        Operation::delete(INTERACTION, records::delete::<LeadInteraction>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete an interaction with a lead")
            .deletes(),
    ];
    tagged("Leads", leads).into_iter().chain(tagged("Lead interactions", interactions)).collect()
}

/// The fields of a customer, except its lead.
fn overrides() -> RefOr<Schema> {
    let mut customer = schema::update::<Customer>();
    if let RefOr::T(Schema::Object(customer)) = &mut customer {
        customer.properties.shift_remove("lead_id");
        customer.description = Some("Fields of the customer.".to_owned());
    }
    customer
}

async fn convert(Path(id): Path, write: Write, _: NoQuery, OptionalJsonObject(body): OptionalJsonObject) -> Result {
    let JsonObject { object, bytes } = body;
    write
        .run(&bytes, move |connection, actor| {
            let object = object.clone();
            Box::pin(async move { converted(&leads::convert(connection, actor, id, object).await?) })
        })
        .await
}

/// `201` if the customer was created, `200` if an existing one was linked.
fn converted(conversion: &Conversion) -> shared::Result<Reply> {
    let reply = Reply::json(conversion)?;
    Ok(match conversion.created {
        true => {
            let customer = format!("/dev/crm/customers/{}", conversion.customer.id);
            reply.located(customer)?.status(StatusCode::CREATED)
        }
        false => reply,
    })
}
