//! Leads: people who may become customers.

/// The columns of [`Lead`] in the order of its fields, each behind a table's name or nothing.
#[rustfmt::skip]
macro_rules! columns {
    ($table:literal) => {
        concat!(
            $table, "id, ", $table, "name, ", $table, "email, ", $table, "phone, ", $table, "company, ", $table, "source, ",
            $table, "status, ", $table, "score, ", $table, "notes, ", $table, "campaign_id, ", $table, "assigned_to, ",
            $table, "customer_id, ", $table, "last_contact, ", $table, "custom_fields, ", $table, "created_at, ",
            $table, "updated_at",
        )
    };
}

mod files;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{FromRow, PgConnection, Postgres};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::fields::{Company, CustomFields, Email, Name, Notes, Phone, Score};
use crate::lists::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::object::Object;
use crate::patch::Patch;
use crate::{db, words};

words! {
    /// Where a lead came from.
    LeadSource {
        /// A marketing campaign or advertisement.
        Campaign = "campaign",
        /// The company's own web site.
        Website = "website",
        /// Somebody recommended us.
        Referral = "referral",
        /// They came, or were approached, directly.
        Direct = "direct",
        /// A social network.
        Social = "social",
        /// A mailing.
        Email = "email",
        /// Anything else, and the default.
        Other = "other",
    }
}

words! {
    /// How far a lead is.
    LeadStatus {
        /// Nobody has talked to them yet.
        New = "new",
        /// Somebody has.
        Contacted = "contacted",
        /// They fit.
        Qualified = "qualified",
        /// They have an offer.
        Proposal = "proposal",
        /// The offer is being talked about.
        Negotiation = "negotiation",
        /// They became a customer.
        Converted = "converted",
        /// They will not become one.
        Lost = "lost",
        /// They bought.
        Won = "won",
    }
}

/// A lead as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Lead {
    /// Made by the program in the order of time, or taken over by an import.
    pub id: Uuid,
    /// The person's name.
    pub name: Name,
    /// Unique among the workspace's leads.
    pub email: Email,
    /// How to call them.
    pub phone: Option<Phone>,
    /// Where they work.
    pub company: Option<Company>,
    /// Where they came from.
    pub source: LeadSource,
    /// How far they are.
    pub status: LeadStatus,
    /// How promising they are, from 0 to 100.
    pub score: Score,
    /// Free text.
    pub notes: Option<Notes>,
    /// A campaign in another system of the caller's.
    pub campaign_id: Option<Uuid>,
    /// The user who looks after them.
    pub assigned_to: Option<Uuid>,
    /// The customer they became.
    pub customer_id: Option<Uuid>,
    /// When somebody last talked to them.
    pub last_contact: Option<DateTime<Utc>>,
    /// The caller's own fields.
    pub custom_fields: CustomFields,
    /// When the record was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// The columns of [`Lead`], for the statement of a list.
pub const COLUMNS: &str = columns!("");

/// The list of leads.
pub const LIST: Spec = Spec {
    table: "leads",
    filters: &[
        Filter { name: "status", kind: FilterKind::Word(LeadStatus::WORDS) },
        Filter { name: "source", kind: FilterKind::Word(LeadSource::WORDS) },
        Filter { name: "email", kind: FilterKind::Email },
        Filter { name: "name", kind: FilterKind::Text },
        Filter { name: "phone", kind: FilterKind::Text },
        Filter { name: "company", kind: FilterKind::Text },
        Filter { name: "score", kind: FilterKind::Number },
        Filter { name: "campaign_id", kind: FilterKind::Id },
        Filter { name: "assigned_to", kind: FilterKind::Id },
        Filter { name: "customer_id", kind: FilterKind::Id },
        Filter { name: "last_contact", kind: FilterKind::Time },
        Filter { name: "created_at", kind: FilterKind::Time },
        Filter { name: "updated_at", kind: FilterKind::Time },
    ],
    orders: &[
        Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
        Order { name: "email", expression: "lower(email COLLATE \"C\")", kind: OrderKind::Text },
    ],
    searchable: true,
    branches: Some(("status", LeadStatus::WORDS)),
};

/// What a caller or an import says about a lead, field by field.
#[derive(Debug, Clone, Default)]
pub struct LeadChanges {
    /// See [`Lead::name`].
    pub name: Option<Name>,
    /// See [`Lead::email`].
    pub email: Option<Email>,
    /// See [`Lead::phone`].
    pub phone: Patch<Phone>,
    /// See [`Lead::company`].
    pub company: Patch<Company>,
    /// See [`Lead::source`].
    pub source: Patch<LeadSource>,
    /// See [`Lead::status`].
    pub status: Patch<LeadStatus>,
    /// See [`Lead::score`].
    pub score: Patch<Score>,
    /// See [`Lead::notes`].
    pub notes: Patch<Notes>,
    /// See [`Lead::campaign_id`].
    pub campaign_id: Patch<Uuid>,
    /// See [`Lead::assigned_to`].
    pub assigned_to: Patch<Uuid>,
    /// See [`Lead::last_contact`].
    pub last_contact: Patch<DateTime<Utc>>,
    /// See [`Lead::custom_fields`].
    pub custom_fields: Patch<CustomFields>,
}

impl LeadChanges {
    /// Reads the body of a create, or of an update of the present lead.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the body.
    pub fn read(mut body: Object, present: Option<&Lead>) -> Result<Self> {
        let changes = Self {
            name: if present.is_some() { body.present("name") } else { body.required("name") },
            email: if present.is_some() { body.present("email") } else { body.required("email") },
            phone: body.take("phone"),
            company: body.take("company"),
            source: body.take("source"),
            status: body.take("status"),
            score: body.take("score"),
            notes: body.take("notes"),
            campaign_id: body.take("campaign_id"),
            assigned_to: body.take("assigned_to"),
            last_contact: body.take("last_contact"),
            custom_fields: body.take("custom_fields"),
        };
        let present = present.map(serde_json::to_value).transpose()?;
        for name in ["id", "customer_id", "created_at", "updated_at"] {
            body.read_only(name, present.as_ref().and_then(|present| present.get(name)));
        }
        body.finish()?;
        Ok(changes)
    }
}

impl Lead {
    /// A new lead with the defaults, or `None` without a name and an email.
    pub fn new(id: Uuid, created_at: DateTime<Utc>, mut changes: LeadChanges) -> Option<Self> {
        let mut lead = Self {
            id,
            name: changes.name.take()?,
            email: changes.email.take()?,
            phone: None,
            company: None,
            source: LeadSource::Other,
            status: LeadStatus::New,
            score: Score::default(),
            notes: None,
            campaign_id: None,
            assigned_to: None,
            customer_id: None,
            last_contact: None,
            custom_fields: CustomFields::default(),
            created_at,
            updated_at: created_at,
        };
        lead.apply(changes);
        Some(lead)
    }

    /// Applies changes; `updated_at` is the caller's to set.
    pub fn apply(&mut self, changes: LeadChanges) {
        if let Some(name) = changes.name {
            self.name = name;
        }
        if let Some(email) = changes.email {
            self.email = email;
        }
        changes.phone.apply(&mut self.phone);
        changes.company.apply(&mut self.company);
        changes.source.apply_or(&mut self.source, LeadSource::Other);
        changes.status.apply_or(&mut self.status, LeadStatus::New);
        changes.score.apply_or(&mut self.score, Score::default());
        changes.notes.apply(&mut self.notes);
        changes.campaign_id.apply(&mut self.campaign_id);
        changes.assigned_to.apply(&mut self.assigned_to);
        changes.last_contact.apply(&mut self.last_contact);
        changes.custom_fields.apply_or(&mut self.custom_fields, CustomFields::default());
    }

    fn words(&self, workspace_id: Uuid) -> String {
        let optional = [self.company.as_ref().map(AsRef::as_ref), self.phone.as_ref().map(AsRef::as_ref)];
        let texts = [self.name.as_ref(), self.email.as_ref()].into_iter().chain(optional.into_iter().flatten());
        words::vector(workspace_id, texts)
    }

    /// Binds the record in the order of [`INSERT`] and [`UPDATE`].
    fn bind(&self, workspace_id: Uuid, sql: &'static str) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(sql)
            .bind(workspace_id)
            .bind(self.id)
            .bind(&self.name)
            .bind(&self.email)
            .bind(&self.phone)
            .bind(&self.company)
            .bind(self.source)
            .bind(self.status)
            .bind(self.score)
            .bind(&self.notes)
            .bind(self.campaign_id)
            .bind(self.assigned_to)
            .bind(self.customer_id)
            .bind(self.last_contact)
            .bind(&self.custom_fields)
            .bind(self.created_at)
            .bind(self.updated_at)
            .bind(self.words(workspace_id))
    }
}

const INSERT: &str = concat!(
    "INSERT INTO leads (workspace_id, ",
    columns!(""),
    ", words)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::tsvector)"
);

const UPDATE: &str = concat!(
    "UPDATE leads SET (",
    columns!(""),
    ", words)
       = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::tsvector)
     WHERE workspace_id = $1 AND id = $2"
);

/// One lead.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Lead> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(""), " FROM leads WHERE workspace_id = $1 AND id = $2"))
        .bind(workspace_id)
        .bind(id)
        .fetch_one(connection)
        .await?)
}

/// Makes a lead from the body of a request.
///
/// # Errors
/// [`Error::Invalid`] with every fault of the body; [`Error::Conflict`] if the email is taken.
pub async fn create(connection: &mut PgConnection, workspace_id: Uuid, body: Object) -> Result<Lead> {
    let changes = LeadChanges::read(body, None)?;
    let lead = Lead::new(Uuid::now_v7(), db::now(), changes)
        .ok_or_else(|| Error::internal("a body was taken without a name or an email"))?;
    lead.bind(workspace_id, INSERT).execute(connection).await?;
    Ok(lead)
}

/// Changes the fields of a lead that the body of a request names; without any, or with their present
/// values, nothing is written. Needs a transaction, which holds the lead's row from here on.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] with every fault of the body; [`Error::Conflict`] if the
/// new email is taken.
pub async fn update(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, body: Object) -> Result<Lead> {
    let present: Lead =
        sqlx::query_as(concat!("SELECT ", columns!(""), " FROM leads WHERE workspace_id = $1 AND id = $2 FOR UPDATE"))
            .bind(workspace_id)
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
    let mut lead = present.clone();
    lead.apply(LeadChanges::read(body, Some(&present))?);
    if lead != present {
        lead.updated_at = db::now();
        lead.bind(workspace_id, UPDATE).execute(connection).await?;
    }
    Ok(lead)
}

/// Deletes a lead.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    let deleted = sqlx::query("DELETE FROM leads WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(id)
        .execute(connection)
        .await?;
    if deleted.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
