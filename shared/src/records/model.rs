//! What a kind of record declares: its fields and its own behaviour.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{FromRow, PgConnection, Postgres};
use uuid::Uuid;

use super::actor::Deletions;
use super::keys::{Reference, UniqueKey};
use super::statements::Statements;
use crate::error::{Error, Result};
use crate::events::Actor;
use crate::query::{Columns, ListField, Spec};
use crate::string_enum;
use crate::values::cell::Cells;
use crate::values::etag::Tagged;
use crate::values::json_body::Object;
use crate::values::json_schema::Property;
use crate::values::search;
use crate::values::{Fault, Time};

/// The column of the search vector, a `tsvector`.
pub(super) const SEARCH_VECTOR: &str = "search_vector";

/// A statement whose parameters are being bound.
pub type Statement<'q> = Query<'q, Postgres, PgArguments>;

string_enum! {
    /// The kinds of records that have a history.
    RecordType {
        /// A [`Lead`](crate::crm::leads::Lead).
        Lead = "lead",
        /// A [`Customer`](crate::crm::customers::Customer).
        Customer = "customer",
        /// A [`LeadInteraction`](crate::crm::interactions::LeadInteraction).
        LeadInteraction = "lead_interaction",
        /// A [`CustomerInteraction`](crate::crm::interactions::CustomerInteraction).
        CustomerInteraction = "customer_interaction",
        /// An [`Order`](crate::crm::orders::Order).
        Order = "order",
        /// A [`Feedback`](crate::crm::feedback::Feedback).
        Feedback = "feedback",
        /// A [`User`](crate::accounts::users::User).
        User = "user",
        /// A [`Suppression`](crate::crm::suppressions::Suppression), which has no history.
        Suppression = "suppression",
    }
}

/// The fields of a kind of record and how they are read and written, implemented by
/// [`record!`](crate::record).
pub trait Fields:
    Clone + PartialEq + Serialize + DeserializeOwned + for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin + Sized + 'static
{
    /// The values that a request or a file sets.
    type Changes: Default + Clone + Send + Sync + 'static;
    /// The table of the records.
    const TABLE: &'static str;
    /// The names of the fields, which are also the columns, in order.
    const COLUMNS: &'static [&'static str];
    /// The names of the columns, separated by commas.
    const COLUMN_LIST: &'static str;
    /// The names of the fields that are read from other tables.
    const JOINED: &'static [&'static str];
    /// All fields, as lists are filtered and sorted by them.
    const FIELDS: &'static [ListField];

    /// The columns of a statement that reads records.
    fn columns() -> Columns;

    /// The fields for the OpenAPI document.
    fn properties() -> Vec<Property>;
    /// The statements on the table.
    fn statements() -> &'static Statements;
    /// The record's id.
    fn id(&self) -> Uuid;
    /// When the record was created.
    fn created_at(&self) -> Time;
    /// When the record was last updated.
    fn updated_at(&self) -> Time;
    /// Sets the time of the last change.
    fn touch(&mut self, updated_at: Time);
    /// Reads the body of a create, or of an update of the record `present`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every invalid field of the body.
    fn read(body: Object, present: Option<&Self>) -> Result<Self::Changes>;
    /// Creates a record with defaults; `None` if a required field is missing.
    fn new(id: Uuid, created_at: Time, changes: Self::Changes) -> Option<Self>;
    /// Applies changes. The caller sets the time of the change with [`Fields::touch`].
    fn apply(&mut self, changes: Self::Changes);
    /// Reads a cell of a file into a field.
    ///
    /// # Errors
    /// A [`Fault`] if the text is not valid for the field.
    fn set(changes: &mut Self::Changes, field: &str, text: &str) -> Result<(), Fault>;
    /// Whether the changes set a field to a value.
    fn sets(changes: &Self::Changes, field: &str) -> bool;
    /// Returns the fields in which a later state of the record differs, except `updated_at`.
    ///
    /// # Errors
    /// [`Error::Internal`] if a value cannot be serialized.
    fn difference(&self, later: &Self) -> Result<Difference>;
    /// Binds the fields, in the order of the columns.
    fn bind<'q>(&'q self, query: Statement<'q>) -> Statement<'q>;
    /// Writes the fields as cells, in the order of the columns.
    fn cells(&self, cells: &mut impl Cells);
    /// Writes the computed fields as cells.
    fn computed_cells(&self, _cells: &mut impl Cells) {}
}

/// A kind of record.
pub trait Record: Fields {
    /// The kind's name in the history.
    const TYPE: RecordType;
    /// The filters and orders of its list.
    const LIST: Spec;
    /// The filters and orders of its export.
    const EXPORT: Spec = Self::LIST;
    /// The fields that an export has only if they are named, because an import does not read them.
    const NOT_EXPORTED: &'static [&'static str] = &[];
    /// The list of deleted records, if they can be restored.
    const DELETED: Option<Spec> = None;
    /// The parent under whose path the records are addressed, if any.
    const PARENT: Option<Parent> = None;
    /// Whether lists have `q=`; the table then has `search_vector`.
    const SEARCHABLE: bool = false;
    /// Whether imports write the records; the table then has `import_job_id`.
    const IMPORTED: bool = false;
    /// Whether the table has `created_by_type` and `created_by_id`, which say who created a record.
    const HAS_CREATOR: bool = false;
    /// The fields that are unique in a workspace.
    const UNIQUE: &'static [UniqueKey<Self>] = &[];
    /// The fields of [`Record::UNIQUE`] by which a new record can update one that exists, the first
    /// match counts.
    const MATCHED_BY: &'static [&'static str] = &[];
    /// The references to other records, which must exist; without the parent.
    const REFERENCES: &'static [Reference<Self>] = &[];
    /// The column that refers to the record with which this one is deleted.
    const OWNER: Option<&'static str> = match Self::PARENT {
        Some(parent) => Some(parent.column),
        None => None,
    };
    /// The tables of dependent records, each with the column that refers to this record.
    const CHILDREN: &'static [(&'static str, &'static str)] = &[];
    /// The fields whose change writes other records, too, and so needs a transaction.
    const LINKS: &'static [&'static str] = &[];
    /// The fields that are computed from other records.
    const COMPUTED: &'static [&'static str] = Self::JOINED;

    /// An example of a body that creates a record.
    fn example() -> Value;

    /// The texts that `q=` searches.
    fn texts(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Makes the [composed](crate::record) fields that a change leaves out from other fields.
    ///
    /// # Errors
    /// The fault of a field.
    fn compose(_changes: &mut Self::Changes, _present: Option<&Self>) -> Result<(), FieldFault> {
        Ok(())
    }

    /// Sets fields of new records that callers create, before they are written. Records of imports are not among
    /// them.
    fn before_create(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _records: Vec<&mut Self>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Sets the fields that are derived from others, when the record is created (`before` is `None`)
    /// or updated, at its `updated_at`.
    fn derive_fields(&mut self, _before: Option<&Self>) {}

    /// Writes dependent data after the record was created (`before` is `None`) or updated.
    fn after_write(
        &self,
        _connection: &mut PgConnection,
        _actor: &Actor,
        _before: Option<&Self>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Writes dependent data after records were updated, given as pairs of before and after.
    fn after_changes(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _changes: &[(Self, Self)],
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Whether an update with this body may write dependent data, and so needs a transaction.
    fn has_consequences(_body: &Object) -> bool {
        false
    }

    /// Deletes or changes dependent data before records are deleted. Their rows are locked.
    fn before_delete(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _records: &[Self],
        _deletions: &Deletions,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Removes links that restored records can no longer have.
    fn before_restore(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _records: &mut [Self],
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Restores the records that were deleted with these ones.
    fn after_restore(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _records: &[Self],
        _deletions: &Deletions,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// The fault of a field, with its name.
pub type FieldFault = (&'static str, Fault);

impl<R: Record> Tagged for R {
    const COMPUTED: &'static [&'static str] = <R as Record>::COMPUTED;
}

/// The parent of a kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The column that refers to the parent.
    pub column: &'static str,
    /// The parent's table.
    pub table: &'static str,
}

/// The address of a record: its id, and its parent's if the kind has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The parent's id.
    pub parent: Option<Uuid>,
    /// The record's id.
    pub id: Uuid,
}

/// The fields in which two states of a record differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// The values before the change.
    pub former: Map<String, Value>,
    /// The values after the change.
    pub latter: Map<String, Value>,
}

impl Difference {
    /// Adds a field.
    ///
    /// # Errors
    /// [`Error::Internal`] if a value cannot be serialized.
    pub fn add(&mut self, name: &str, former: &impl Serialize, latter: &impl Serialize) -> Result<()> {
        self.former.insert(name.to_owned(), serde_json::to_value(former)?);
        self.latter.insert(name.to_owned(), serde_json::to_value(latter)?);
        Ok(())
    }
}

pub(crate) fn as_object(record: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(record)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::internal("a record is not a JSON object")),
    }
}

/// The columns that are stored beside the fields of a record and derived from them: the normal forms
/// of [`Record::UNIQUE`], and the search vector.
pub(super) fn derived_columns<R: Record>() -> impl Iterator<Item = &'static str> {
    let keys = R::UNIQUE.iter().filter(|key| key.is_stored_beside()).map(|key| key.column);
    keys.chain(R::SEARCHABLE.then_some(SEARCH_VECTOR))
}

/// The values of the [derived columns](derived_columns), as text.
pub(super) fn derived<R: Record>(
    record: &R,
    workspace_id: Uuid,
) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let keys = R::UNIQUE.iter().filter(|key| key.is_stored_beside()).map(|key| (key.column, (key.of)(record)));
    let vector = R::SEARCHABLE.then(|| (SEARCH_VECTOR, Some(search::vector(workspace_id, record.texts()))));
    keys.chain(vector)
}

/// Binds the fields and the derived columns.
pub(super) fn bind_all<'q, R: Record>(record: &'q R, workspace_id: Uuid, query: Statement<'q>) -> Statement<'q> {
    derived(record, workspace_id).fold(record.bind(query), |query, (_, value)| query.bind(value))
}
