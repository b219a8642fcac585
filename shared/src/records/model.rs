//! What a kind of record declares: its fields, and what is its own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{FromRow, PgConnection, Postgres};
use uuid::Uuid;

use super::actor::{Actor, Deletion};
use super::keys::{Reference, UniqueKey};
use super::statements::Statements;
use crate::error::{Error, Result};
use crate::query::Spec;
use crate::string_enum;
use crate::values::cell::Cells;
use crate::values::json_body::Object;
use crate::values::json_schema::Property;
use crate::values::search;
use crate::values::{Fault, Time};

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
    }
}

/// The fields of a kind of record and how they are read and written; made by
/// [`record!`](crate::record).
pub trait Fields:
    Clone + PartialEq + Serialize + DeserializeOwned + for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin + Sized + 'static
{
    /// What a caller or a file says about a record.
    type Changes: Default + Clone + Send + Sync + 'static;
    /// The table.
    const TABLE: &'static str;
    /// The fields' names, which are also those of the columns, in their order.
    const COLUMNS: &'static [&'static str];
    /// The same, separated by commas.
    const COLUMN_LIST: &'static str;

    /// The fields as the API's document shows them.
    fn properties() -> Vec<Property>;
    /// The statements on the table.
    fn statements() -> &'static Statements;
    /// The record's id.
    fn id(&self) -> Uuid;
    /// When it was made.
    fn created_at(&self) -> Time;
    /// Says when it changed.
    fn touch(&mut self, updated_at: Time);
    /// Reads the body of a create, or of an update of the present record.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the body.
    fn read(body: Object, present: Option<&Self>) -> Result<Self::Changes>;
    /// A new record with the defaults, or `None` without what it must have.
    fn new(id: Uuid, created_at: Time, changes: Self::Changes) -> Option<Self>;
    /// Applies changes; when it changed is the caller's to say.
    fn apply(&mut self, changes: Self::Changes);
    /// Reads a cell of a file into a field.
    ///
    /// # Errors
    /// A [`Fault`] if the field does not take the text.
    fn set(changes: &mut Self::Changes, field: &str, text: &str) -> Result<(), Fault>;
    /// Whether changes give a field a value.
    fn sets(changes: &Self::Changes, field: &str) -> bool;
    /// The fields in which a later state of the record differs, but for when it changed.
    ///
    /// # Errors
    /// [`Error::Internal`] if a value cannot be written as JSON.
    fn difference(&self, later: &Self) -> Result<Difference>;
    /// Binds the fields in the order of the columns.
    fn bind<'q>(&'q self, query: Statement<'q>) -> Statement<'q>;
    /// Writes the fields in the order of the columns.
    fn cells(&self, cells: &mut impl Cells);
}

/// A kind of record.
pub trait Record: Fields {
    /// Its name in the history.
    const TYPE: RecordType;
    /// How it is listed.
    const LIST: Spec;
    /// The record through which alone this one is reached.
    const PARENT: Option<Parent> = None;
    /// Whether it is found by `q`: its table has `words`.
    const SEARCHABLE: bool = false;
    /// Whether imports write it: its table has `import_job_id`.
    const IMPORTED: bool = false;
    /// What only one record has in a workspace.
    const UNIQUE: &'static [UniqueKey<Self>] = &[];
    /// The columns that name other records, which must exist. Its parent is not among them.
    const REFERENCES: &'static [Reference<Self>] = &[];
    /// The column that names the record with which it is deleted.
    const OWNER: Option<&'static str> = match Self::PARENT {
        Some(parent) => Some(parent.column),
        None => None,
    };
    /// The tables of what hangs on it, with the columns that name it.
    const CHILDREN: &'static [(&'static str, &'static str)] = &[];
    /// The fields whose change touches other records, so that it needs a transaction.
    const LINKS: &'static [&'static str] = &[];

    /// The body of a request that makes one, as an example.
    fn example() -> Value;

    /// The texts in whose words it is found.
    fn texts(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Sets the fields that follow from others, when it is made (`before` is `None`) or changed. The
    /// time of that is its `updated_at`.
    fn derive_fields(&mut self, _before: Option<&Self>) {}

    /// What else is to be written when it was made (`before` is `None`) or changed.
    fn after_write(
        &self,
        _connection: &mut PgConnection,
        _actor: &Actor,
        _before: Option<&Self>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// What else follows from changes of such records, each as it was and as it is now.
    fn after_changes(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _changes: &[(Self, Self)],
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Whether something may follow from an update with this body, which then needs a transaction.
    fn has_consequences(_body: &Object) -> bool {
        false
    }

    /// What must go or change before its row can be deleted. The row is locked.
    fn before_delete(
        &self,
        _connection: &mut PgConnection,
        _actor: &Actor,
        _deletion: &Deletion,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Drops what the record refers to and can no longer have.
    fn before_restore(
        &mut self,
        _connection: &mut PgConnection,
        _actor: &Actor,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// What comes back with it.
    fn after_restore(
        &self,
        _connection: &mut PgConnection,
        _actor: &Actor,
        _deletion: &Deletion,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// The record through which alone others are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The column that names it.
    pub column: &'static str,
    /// Its table.
    pub table: &'static str,
}

/// Where a record is found: its id, and its parent's if it is reached through one.
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
    /// As they were.
    pub former: Map<String, Value>,
    /// As they became.
    pub latter: Map<String, Value>,
}

impl Difference {
    /// Adds a field.
    ///
    /// # Errors
    /// [`Error::Internal`] if a value cannot be written as JSON.
    pub fn add(&mut self, name: &str, former: &impl Serialize, latter: &impl Serialize) -> Result<()> {
        self.former.insert(name.to_owned(), serde_json::to_value(former)?);
        self.latter.insert(name.to_owned(), serde_json::to_value(latter)?);
        Ok(())
    }
}

pub(crate) fn as_object(record: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(record)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::internal("a record is no JSON object")),
    }
}

/// The words by which a record is found, as the text of a `tsvector`.
pub(super) fn search_vector_of<R: Record>(record: &R, workspace_id: Uuid) -> String {
    search::vector(workspace_id, record.texts())
}
