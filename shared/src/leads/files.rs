//! Leads out of files and into them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Lead, LeadChanges};
use crate::copy::{Cells, CopyRows};
use crate::error::Result;
use crate::exports::Exportable;
use crate::fields::{CustomFields, Email, Fault, Field};
use crate::imports::Importable;
use crate::imports::aliases::LEAD_COLUMNS;
use crate::imports::columns::Column;
use crate::patch::Patch;

impl Exportable for Lead {
    const HEADER: &'static [&'static str] = &[
        "id",
        "name",
        "email",
        "phone",
        "company",
        "source",
        "status",
        "score",
        "notes",
        "campaign_id",
        "assigned_to",
        "customer_id",
        "last_contact",
        "custom_fields",
        "created_at",
        "updated_at",
    ];

    fn cells(&self, cells: &mut impl Cells) {
        cells.value(self.id);
        cells.text(self.name.as_ref());
        cells.text(self.email.as_ref());
        cells.optional_text(self.phone.as_ref());
        cells.optional_text(self.company.as_ref());
        cells.text(self.source.as_str());
        cells.text(self.status.as_str());
        cells.value(self.score);
        cells.optional_text(self.notes.as_ref());
        cells.optional(self.campaign_id);
        cells.optional(self.assigned_to);
        cells.optional(self.customer_id);
        match self.last_contact {
            Some(time) => cells.time(time),
            None => cells.empty(),
        }
        cells.json(self.custom_fields.as_map());
        cells.time(self.created_at);
        cells.time(self.updated_at);
    }
}

impl Importable for Lead {
    const COLUMNS: &'static [Column] = LEAD_COLUMNS;
    type Changes = LeadChanges;

    fn set(changes: &mut LeadChanges, field: &str, text: &str) -> Result<(), Fault> {
        match field {
            "name" => changes.name = Some(Field::from_text(text)?),
            "email" => changes.email = Some(Field::from_text(text)?),
            "phone" => changes.phone = Patch::Set(Field::from_text(text)?),
            "company" => changes.company = Patch::Set(Field::from_text(text)?),
            "source" => changes.source = Patch::Set(Field::from_text(text)?),
            "status" => changes.status = Patch::Set(Field::from_text(text)?),
            "score" => changes.score = Patch::Set(Field::from_text(text)?),
            "notes" => changes.notes = Patch::Set(Field::from_text(text)?),
            "campaign_id" => changes.campaign_id = Patch::Set(Field::from_text(text)?),
            "assigned_to" => changes.assigned_to = Patch::Set(Field::from_text(text)?),
            "last_contact" => changes.last_contact = Patch::Set(Field::from_text(text)?),
            "custom_fields" => changes.custom_fields = Patch::Set(Field::from_text(text)?),
            _ => return Err(Fault::new("unknown", "is not a field of a lead")),
        }
        Ok(())
    }

    fn custom_fields_mut(changes: &mut LeadChanges) -> &mut Patch<CustomFields> {
        &mut changes.custom_fields
    }

    fn has_name(changes: &LeadChanges) -> bool {
        changes.name.is_some()
    }

    fn email_key(changes: &LeadChanges) -> Option<String> {
        changes.email.as_ref().map(Email::key)
    }

    fn new(id: Uuid, created_at: DateTime<Utc>, changes: LeadChanges) -> Option<Self> {
        Self::new(id, created_at, changes)
    }

    fn apply(&mut self, changes: LeadChanges) {
        self.apply(changes);
    }

    fn touch(&mut self, updated_at: DateTime<Utc>) {
        self.updated_at = updated_at;
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn email(&self) -> &Email {
        &self.email
    }

    fn custom_fields(&self) -> &CustomFields {
        &self.custom_fields
    }

    async fn taken(connection: &mut PgConnection, workspace_id: Uuid, keys: &[String]) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT lower(email COLLATE \"C\") FROM leads WHERE workspace_id = $1 AND lower(email COLLATE \"C\") = ANY ($2)",
        )
        .bind(workspace_id)
        .bind(keys)
        .fetch_all(connection)
        .await?)
    }

    async fn holders(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<(Uuid, String)>> {
        Ok(sqlx::query_as("SELECT id, lower(email COLLATE \"C\") FROM leads WHERE workspace_id = $1 AND id = ANY ($2)")
            .bind(workspace_id)
            .bind(ids)
            .fetch_all(connection)
            .await?)
    }

    async fn lock(connection: &mut PgConnection, workspace_id: Uuid, keys: &[String]) -> Result<Vec<Self>> {
        Ok(sqlx::query_as(concat!(
            "SELECT ",
            columns!(""),
            " FROM leads
             WHERE workspace_id = $1 AND lower(email COLLATE \"C\") = ANY ($2) ORDER BY id FOR UPDATE"
        ))
        .bind(workspace_id)
        .bind(keys)
        .fetch_all(connection)
        .await?)
    }

    async fn insert_all(connection: &mut PgConnection, workspace_id: Uuid, leads: &[Self]) -> Result<()> {
        let mut rows = CopyRows::with_capacity(leads.len() * 512);
        for lead in leads {
            rows.value(workspace_id);
            lead.cells(&mut rows);
            rows.text(&lead.words(workspace_id));
            rows.end();
        }
        rows.send(connection, concat!("COPY leads (workspace_id, ", columns!(""), ", words) FROM STDIN")).await
    }

    async fn update_all(connection: &mut PgConnection, workspace_id: Uuid, leads: &[Self]) -> Result<()> {
        let mut rows = Vec::with_capacity(leads.len());
        for lead in leads {
            let mut row = serde_json::to_value(lead)?;
            row["words"] = lead.words(workspace_id).into();
            rows.push(row);
        }
        sqlx::query(concat!(
            "UPDATE leads SET (",
            columns!(""),
            ", words) = (",
            columns!("new."),
            ", new.words)
             FROM jsonb_populate_recordset(NULL::leads, $2) AS new
             WHERE leads.workspace_id = $1 AND leads.id = new.id"
        ))
        .bind(workspace_id)
        .bind(serde_json::Value::Array(rows))
        .execute(connection)
        .await?;
        Ok(())
    }
}
