//! Conversion: a lead becomes a customer.

use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Lead, LeadStatus};
use crate::crm::customers::{Customer, CustomerChanges, EMAIL};
use crate::error::{Error, FieldError, Reason, Result};
use crate::events::EventType;
use crate::platform::db;
use crate::records::history::{Actor, Creator};
use crate::records::{self, Fields, Outcome, Record, schema};
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
    Prepared::read(connection, actor.workspace_id, lead_id, body).await?.write(connection, actor).await
}

/// Converts one of many leads, like [`convert`]. A dry run writes nothing.
///
/// # Errors
/// [`Error::Repeat`] if a concurrent transaction interfered.
pub(super) async fn convert_one(
    connection: &mut PgConnection,
    actor: &Actor,
    lead_id: Uuid,
    body: Object,
    dry_run: bool,
) -> Result<Outcome> {
    let prepared = match Prepared::read(connection, actor.workspace_id, lead_id, body).await {
        Err(error @ (Error::NotFound | Error::Conflict(_) | Error::Invalid(_))) => return Ok(Outcome::Refused(error)),
        prepared => prepared?,
    };
    if !dry_run {
        prepared.write(connection, actor).await.map_err(|error| match error {
            Error::Conflict(conflict) => conflict.repeat(),
            other => other,
        })?;
    }
    Ok(Outcome::Changed)
}

/// Checks the fields that conversions of many leads set: those that only one customer can have are not possible.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
pub(super) fn check(set: Object) -> Result<()> {
    let unique = Customer::UNIQUE.iter().map(|key| key.field).filter(|field| set.names(field));
    let fault = |field| FieldError::new(field, "not_unique", "must be different for each customer");
    let mut errors: Vec<FieldError> = unique.map(fault).collect();
    let example: Option<Lead> = schema::example_record();
    let example = example.ok_or_else(|| Error::internal("the example of a lead is invalid"))?;
    match draft(&example, set) {
        // Each unique field has its fault already.
        Err(Error::Invalid(more)) => {
            errors.extend(more.into_iter().filter(|fault| Customer::UNIQUE.iter().all(|key| key.field != fault.field)));
        }
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

/// A conversion that is possible, with its rows locked.
struct Prepared {
    lead: Lead,
    /// The customer after the conversion.
    customer: Customer,
    /// The customer that the lead is linked with; otherwise the customer is created.
    existing: Option<Customer>,
}

impl Prepared {
    async fn read(connection: &mut PgConnection, workspace_id: Uuid, lead_id: Uuid, body: Object) -> Result<Self> {
        let lead: Lead =
            records::lock(connection, workspace_id, &[lead_id]).await?.into_iter().next().ok_or(Error::NotFound)?;
        if let Some(customer_id) = lead.customer_id {
            let message = "the lead already has a customer";
            return Err(Error::conflict_with(customer_id, Reason::AlreadyConverted, "customer_id", message));
        }
        let drafted = draft(&lead, body.clone())?;
        let with_email = records::lock_by(connection, workspace_id, &EMAIL, &[drafted.email.key()]).await?;
        let existing = with_email.into_iter().next();
        let customer = match &existing {
            Some(existing) => linked(existing, lead_id, body)?,
            None => drafted,
        };
        Ok(Self { lead, customer, existing })
    }

    async fn write(self, connection: &mut PgConnection, actor: &Actor) -> Result<Conversion> {
        let Self { lead: before, customer, existing } = self;
        let created = existing.is_none();
        match existing {
            Some(existing) => records::update_all(connection, actor, &[(existing, customer.clone())]).await?,
            None => {
                let creator = Creator::conversion(before.id);
                let inserted =
                    records::insert_all(connection, actor.workspace_id, creator, std::slice::from_ref(&customer)).await;
                inserted.map_err(|error| match error {
                    Error::Conflict(conflict) if conflict.error.field == EMAIL.field => {
                        Error::Repeat("the email was taken concurrently".to_owned())
                    }
                    other => other,
                })?;
                records::report_created(connection, actor, std::slice::from_ref(&customer)).await?;
            }
        }
        let mut lead = before.clone();
        lead.status = LeadStatus::Converted;
        lead.customer_id = Some(customer.id);
        records::mark_changed(&before, &mut lead, db::now());
        let converted = [(before, lead.clone())];
        records::update_all_as(connection, actor, &converted, EventType::LeadConverted).await?;
        Ok(Conversion { customer, lead, created })
    }
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

/// An existing customer with its lead and the overrides of the body.
fn linked(before: &Customer, lead_id: Uuid, body: Object) -> Result<Customer> {
    if before.lead_id.is_some() {
        let message = "the customer with this email belongs to another lead";
        return Err(Error::conflict_with(before.id, Reason::Taken, "email", message));
    }
    let mut customer = before.clone();
    customer.lead_id = Some(lead_id);
    let overrides = Customer::read(body, Some(&customer))?;
    customer.apply(overrides);
    keeps_its_lead(&customer, lead_id)?;
    records::mark_changed(before, &mut customer, db::now());
    Ok(customer)
}

fn keeps_its_lead(customer: &Customer, lead_id: Uuid) -> Result<()> {
    match customer.lead_id == Some(lead_id) {
        true => Ok(()),
        false => Err(Error::invalid("lead_id", "invalid", "must be the lead that is converted")),
    }
}
