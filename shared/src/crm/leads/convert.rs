//! Conversion: a lead becomes a customer.

use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Lead, LeadStatus};
use crate::crm::customers::{Customer, CustomerChanges, EMAIL};
use crate::error::{Error, Reason, Result};
use crate::platform::db;
use crate::records::history::{Actor, Creator};
use crate::records::{self, Fields};
use crate::values::json_body::Object;
use crate::values::patch::Patch;

/// A converted lead and its customer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Conversion {
    /// The customer that was created or linked.
    pub customer: Customer,
    /// The lead.
    pub lead: Lead,
    /// Whether the customer was created.
    #[serde(skip)]
    pub created: bool,
}

/// Creates a customer from a lead, or links the existing customer with the lead's email. Fields in
/// the body override those of the lead. Requires a transaction: the lead is locked, so the second
/// of two concurrent conversions finds the lead converted.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the lead has a customer, or the customer with its
/// email has another lead; [`Error::Invalid`] with every fault of the body; [`Error::Repeat`] if a
/// customer with that email was created concurrently.
pub async fn convert(connection: &mut PgConnection, actor: &Actor, lead_id: Uuid, body: Object) -> Result<Conversion> {
    let workspace_id = actor.workspace_id;
    let before: Lead =
        records::lock(connection, workspace_id, &[lead_id]).await?.into_iter().next().ok_or(Error::NotFound)?;
    if let Some(customer_id) = before.customer_id {
        let message = "the lead already has a customer";
        return Err(Error::conflict_with(customer_id, Reason::AlreadyConverted, "customer_id", message));
    }
    let drafted = draft(&before, body.clone())?;
    let with_email = records::lock_by(connection, workspace_id, &EMAIL, &[drafted.email.key()]).await?;
    let existing = with_email.into_iter().next();
    let created = existing.is_none();
    let customer = match existing {
        Some(existing) => link(connection, actor, existing, lead_id, body).await?,
        None => {
            records::insert_all(connection, workspace_id, Creator::conversion(lead_id), std::slice::from_ref(&drafted))
                .await
                .map_err(|error| match error {
                    Error::Conflict(conflict) if conflict.error.field == EMAIL.field => {
                        Error::Repeat("the email was taken concurrently".to_owned())
                    }
                    other => other,
                })?;
            drafted
        }
    };
    let mut lead = before.clone();
    lead.status = LeadStatus::Converted;
    lead.customer_id = Some(customer.id);
    records::mark_changed(&before, &mut lead, db::now());
    records::update_all(connection, actor, &[(before, lead.clone())]).await?;
    Ok(Conversion { customer, lead, created })
}

/// The customer to create from a lead and the body.
fn draft(lead: &Lead, body: Object) -> Result<Customer> {
    let patch = |text: &Option<_>| text.clone().map_or(Patch::Keep, Patch::Set);
    let changes = CustomerChanges {
        name: Patch::Set(lead.name.clone()),
        first_name: patch(&lead.first_name),
        last_name: patch(&lead.last_name),
        email: Some(lead.email.clone()),
        phone: lead.phone.clone().map_or(Patch::Keep, Patch::Set),
        company: patch(&lead.company),
        notes: lead.notes.clone().map_or(Patch::Keep, Patch::Set),
        assigned_to: lead.assigned_to.map_or(Patch::Keep, Patch::Set),
        custom_fields: Patch::Set(lead.custom_fields.clone()),
        lead_id: Patch::Set(lead.id),
        ..CustomerChanges::default()
    };
    let mut customer = Customer::new(Uuid::now_v7(), db::now(), changes)
        .ok_or_else(|| Error::internal("a lead has no name or no email"))?;
    let overrides = Customer::read(body, Some(&customer))?;
    customer.apply(overrides);
    keeps_its_lead(&customer, lead.id)?;
    Ok(customer)
}

/// Links an existing customer, with the overrides of the body.
async fn link(
    connection: &mut PgConnection,
    actor: &Actor,
    before: Customer,
    lead_id: Uuid,
    body: Object,
) -> Result<Customer> {
    if before.lead_id.is_some() {
        let message = "the customer with this email belongs to another lead";
        return Err(Error::conflict_with(before.id, Reason::Taken, "email", message));
    }
    let mut customer = before.clone();
    customer.lead_id = Some(lead_id);
    let overrides = Customer::read(body, Some(&customer))?;
    customer.apply(overrides);
    keeps_its_lead(&customer, lead_id)?;
    records::mark_changed(&before, &mut customer, db::now());
    records::update_all(connection, actor, &[(before, customer.clone())]).await?;
    Ok(customer)
}

fn keeps_its_lead(customer: &Customer, lead_id: Uuid) -> Result<()> {
    match customer.lead_id == Some(lead_id) {
        true => Ok(()),
        false => Err(Error::invalid("lead_id", "invalid", "must be the lead that is converted")),
    }
}
