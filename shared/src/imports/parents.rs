//! The records that rows belong to: a row of an order names its customer by the id, the address, or the id in
//! another system.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::columns::Target;
use super::dictionary::Meaning;
use super::rows::Row;
use super::{Import, Importable};
use crate::error::Result;
use crate::platform::email_keys;
use crate::records::FieldFault;
use crate::values::{Email, ExternalId, Fault, Field};

/// A kind of record to which others belong, and the columns by which files name its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parents {
    table: &'static str,
    /// The column with the id, which is also that of the records that belong to it.
    pub id: &'static str,
    /// The column with the address.
    pub email: &'static str,
    /// The column with the id in another system.
    pub external_id: &'static str,
}

const LEADS: Parents = Parents { table: "leads", id: "lead_id", email: "lead_email", external_id: "lead_external_id" };
const CUSTOMERS: Parents =
    Parents { table: "customers", id: "customer_id", email: "customer_email", external_id: "customer_external_id" };

/// The kind of record to which records of kind `R` belong, if any.
pub(super) fn of<R: Importable>() -> Option<&'static Parents> {
    [&LEADS, &CUSTOMERS].into_iter().find(|parents| R::OWNER == Some(parents.id))
}

/// The target of a column with this meaning.
pub(super) fn target<R: Importable>(meaning: &Meaning) -> Target {
    of::<R>().map_or(Target::Ignored, |parents| {
        Target::Field(if *meaning == Meaning::PersonEmail { parents.email } else { parents.id }.to_owned())
    })
}

impl Parents {
    /// The columns by which files name a record.
    pub fn names(&self) -> [&'static str; 3] {
        [self.id, self.email, self.external_id]
    }

    /// The fault of a row that names no record.
    fn missing(&self, names: &ParentNames) -> FieldFault {
        let field = match names {
            ParentNames { id: Some(_), .. } => self.id,
            ParentNames { external_id: Some(_), .. } => self.external_id,
            _ => self.email,
        };
        let noun = self.id.trim_end_matches("_id");
        let by = field.trim_start_matches(noun).trim_start_matches('_');
        (field, Fault::new("not_found", format!("no {noun} has this {by}")))
    }
}

/// How a row names the record that it belongs to. The first name that a record has counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ParentNames {
    /// By its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// By its id in another system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// By its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
}

impl ParentNames {
    /// Whether the row names no record.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads an id, ours or that of another system.
    ///
    /// # Errors
    /// A [`Fault`] for a text that is neither.
    pub(super) fn read_id(&mut self, text: &str) -> Result<(), Fault> {
        match Uuid::from_text(text) {
            Ok(id) => self.id = self.id.or(Some(id)),
            Err(_) => self.read_external_id(text)?,
        }
        Ok(())
    }

    /// Reads an id of another system.
    ///
    /// # Errors
    /// A [`Fault`] for a text that no such id can be.
    pub(super) fn read_external_id(&mut self, text: &str) -> Result<(), Fault> {
        let id = ExternalId::from_text(text)?;
        self.external_id.get_or_insert_with(|| id.as_ref().to_owned());
        Ok(())
    }
}

/// Replaces the names of the rows by ids. Returns the faults of the rows that name no record, by the row's index.
pub(super) async fn resolve<R: Importable>(
    connection: &mut PgConnection,
    import: &Import,
    rows: &mut [Row<R::Changes>],
) -> Result<HashMap<usize, FieldFault>> {
    let mut faults = HashMap::new();
    let Some(parents) = of::<R>() else { return Ok(faults) };
    let known = Known::read(connection, import, parents, rows.iter().map(|row| &row.parent)).await?;
    for (at, row) in rows.iter_mut().enumerate().filter(|(_, row)| !row.parent.is_empty()) {
        let set = known.find(&row.parent).map(|id| R::set(&mut row.changes, parents.id, &id.to_string()));
        if set.is_none_or(|set| set.is_err()) {
            faults.insert(at, parents.missing(&row.parent));
        }
    }
    Ok(faults)
}

/// The ids of the records that a chunk names, by each kind of name.
struct Known([HashMap<String, Uuid>; 3]);

impl Known {
    /// Looks up the names in one statement.
    async fn read(
        connection: &mut PgConnection,
        import: &Import,
        parents: &Parents,
        names: impl Iterator<Item = &ParentNames> + Clone,
    ) -> Result<Self> {
        let mut known = Self(Default::default());
        let ids: Vec<Uuid> = names.clone().filter_map(|names| names.id).collect();
        let external_ids: Vec<&str> = names.clone().filter_map(|names| names.external_id.as_deref()).collect();
        let emails: Vec<String> = names.filter_map(|names| Some(names.email.as_ref()?.key())).collect();
        if ids.is_empty() && external_ids.is_empty() && emails.is_empty() {
            return Ok(known);
        }
        let (table, is_owner) = (parents.table, email_keys::IS_OWNER);
        let sql = format!(
            "SELECT 0 AS kind, id::text AS name, id FROM {table} WHERE workspace_id = $1 AND id = ANY ($2)
             UNION ALL
             SELECT 1, external_id, id FROM {table} WHERE workspace_id = $1 AND external_id = ANY ($3)
             UNION ALL
             SELECT 2, email_key, id FROM {table} WHERE workspace_id = $1 AND email_key = ANY ($4) AND {is_owner}"
        );
        let found: Vec<(i32, String, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(import.workspace_id)
            .bind(ids)
            .bind(external_ids)
            .bind(emails)
            .fetch_all(connection)
            .await?;
        for (kind, name, id) in found {
            if let Some(of_kind) = usize::try_from(kind).ok().and_then(|kind| known.0.get_mut(kind)) {
                of_kind.insert(name, id);
            }
        }
        Ok(known)
    }

    fn find(&self, names: &ParentNames) -> Option<Uuid> {
        let [by_id, by_external_id, by_email] = &self.0;
        let of = |known: &HashMap<String, Uuid>, name: Option<String>| name.and_then(|name| known.get(&name).copied());
        of(by_id, names.id.map(|id| id.to_string()))
            .or_else(|| of(by_external_id, names.external_id.clone()))
            .or_else(|| of(by_email, names.email.as_ref().map(Email::key)))
    }
}
