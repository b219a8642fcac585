//! Records: what leads, customers, interactions, orders and feedback have in common.
//!
//! A noun declares its fields with [`record!`](crate::record) and implements [`Record`] for what is
//! its own: how it is listed, found by words, and what hangs on it. Making, reading, changing,
//! deleting and restoring are written once, here.

mod batch;
mod bulk;
pub mod csv;
mod define;
pub mod history;
pub mod link;
mod restore;
pub mod schema;
mod statements;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::db;
use crate::query::Spec;
use crate::string_enum;
use crate::values::cell::Cells;
use crate::values::etag::Condition;
use crate::values::json_body::Object;
use crate::values::json_schema::Property;
use crate::values::search;
use crate::values::{Fault, Time};
use history::{Action, Actor, Deletion, Entry};

pub use batch::{Answer, MAX_BATCH, batch};
pub use bulk::{insert_all, lock, page_end, update_all};
pub use restore::{RESTORABLE_DAYS, restore};
pub use statements::Statements;

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
    /// What is unique in a workspace: the fields, the indexed expressions, and their types, in the order of
    /// [`Record::keys`].
    const UNIQUE: &'static [(&'static str, &'static str, &'static str)] = &[];
    /// The columns that name other records, with those records' tables.
    const REFERENCES: &'static [(&'static str, &'static str)] = &[];
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

    /// The values that are [`Record::UNIQUE`].
    fn keys(&self) -> Vec<Option<String>> {
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

/// Checks that the parent is there, under which records are listed.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn check_parent(connection: &mut PgConnection, workspace_id: Uuid, parent: Parent, id: Uuid) -> Result<()> {
    let sql = format!("SELECT 1 FROM {} WHERE workspace_id = $1 AND id = $2", parent.table);
    let _: i32 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(workspace_id).bind(id).fetch_one(connection).await?;
    Ok(())
}

/// Where a record is found: its id, and its parent's if it is reached through one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The parent's id.
    pub parent: Option<Uuid>,
    /// The record's id.
    pub id: Uuid,
}

/// Whether a body touches nothing but the record itself, so that writing it needs no transaction.
pub fn is_alone<R: Record>(body: &Object) -> bool {
    !R::LINKS.iter().any(|link| body.names(link))
}

/// As [`is_alone`], for the body of an update.
pub fn changes_alone<R: Record>(body: &Object) -> bool {
    is_alone::<R>(body) && !R::has_consequences(body)
}

/// One record.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, place: Place) -> Result<R> {
    let query = sqlx::query_as(R::statements().get).bind(workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    Ok(query.fetch_one(connection).await?)
}

/// Makes a record from the body of a request, under its parent if it has one.
///
/// # Errors
/// [`Error::Invalid`] with every fault of the body; [`Error::Conflict`] if its email is taken;
/// [`Error::NotFound`] if a record it refers to does not exist.
pub async fn create<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    parent: Option<Uuid>,
    body: Object,
) -> Result<R> {
    let record: R = draft(parent, body)?;
    let words = search_vector_of(&record, actor.workspace_id);
    let query = record.bind(sqlx::query(R::statements().insert).bind(actor.workspace_id));
    let query = if R::SEARCHABLE { query.bind(words) } else { query };
    query.execute(&mut *connection).await?;
    record.after_write(connection, actor, None).await?;
    Ok(record)
}

/// A record as a body describes it, not written yet.
pub(crate) fn draft<R: Record>(parent: Option<Uuid>, body: Object) -> Result<R> {
    let mut changes = R::read(body, None)?;
    if let (Some(Parent { column, .. }), Some(parent)) = (R::PARENT, parent) {
        R::set(&mut changes, column, &parent.to_string()).map_err(|fault| Error::internal(fault.message))?;
    }
    let record = R::new(Uuid::now_v7(), db::now(), changes);
    let mut record = record.ok_or_else(|| Error::internal("a body was taken without what a record must have"))?;
    record.derive_fields(None);
    Ok(record)
}

/// Says that a record was changed at that time, with all that follows from it.
pub(crate) fn mark_changed<R: Record>(before: &R, after: &mut R, at: Time) {
    after.touch(at);
    after.derive_fields(Some(before));
}

/// Changes the fields of a record that the body of a request names; without any, or with their
/// present values, nothing is written.
///
/// The record is read, and written if it is still the row that was read; if another writer came
/// between, all of it is done again. So a change needs no transaction of its own.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold; [`Error::Invalid`] with
/// every fault of the body; [`Error::Conflict`] if the new email is taken.
pub async fn update<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    place: Place,
    body: &Object,
    condition: &Condition,
) -> Result<R> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let Versioned { record: present, version } = versioned::<R>(connection, actor.workspace_id, place).await?;
        condition.check(&present)?;
        let mut record = present.clone();
        record.apply(R::read(body.clone(), Some(&present))?);
        if record == present {
            return Ok(record);
        }
        mark_changed(&present, &mut record, db::now());
        if write(connection, actor, &present, &record, &version).await? {
            record.after_write(connection, actor, Some(&present)).await?;
            let changes = [(present, record)];
            R::after_changes(connection, actor, &changes).await?;
            let [(_, record)] = changes;
            return Ok(record);
        }
    }
    Err(Error::Repeat(format!("{} {} changes all the time", R::TABLE, place.id)))
}

/// A record with the version of its row, which is another one after each write.
#[derive(FromRow)]
struct Versioned<T> {
    #[sqlx(flatten)]
    record: T,
    version: String,
}

async fn versioned<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, place: Place) -> Result<Versioned<R>> {
    let query = sqlx::query_as(R::statements().get_versioned).bind(workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    Ok(query.fetch_one(connection).await?)
}

/// Writes a changed record and its entry in the history in one statement, if its row is still of
/// the version; tells whether it was.
async fn write<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    before: &R,
    after: &R,
    version: &str,
) -> Result<bool> {
    let Difference { former, latter } = before.difference(after)?;
    let query = sqlx::query(R::statements().update)
        .bind(actor.workspace_id)
        .bind(version)
        .bind(Uuid::now_v7())
        .bind(actor.kind)
        .bind(actor.id)
        .bind(&actor.request_id)
        .bind(Value::Object(former))
        .bind(Value::Object(latter))
        .bind(db::now());
    let words = search_vector_of(after, actor.workspace_id);
    let query = after.bind(query);
    let query = if R::SEARCHABLE { query.bind(words) } else { query };
    Ok(query.execute(connection).await?.rows_affected() == 1)
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

/// Deletes a record. Needs a transaction: what hangs on it goes with it, and its history remains.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold.
pub async fn delete<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    place: Place,
    condition: &Condition,
) -> Result<()> {
    let query = sqlx::query_as(R::statements().lock_row).bind(actor.workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    let Whole::<R> { record, row } = query.fetch_one(&mut *connection).await?;
    condition.check(&record)?;
    let deletion = Deletion::default();
    record.before_delete(connection, actor, &deletion).await?;
    sqlx::query(R::statements().delete).bind(actor.workspace_id).bind(place.id).execute(&mut *connection).await?;
    let entry = Entry { id: deletion.id, former: Some(row), ..Entry::new(R::TYPE, record.id(), Action::Deleted) };
    history::keep(connection, actor, vec![entry]).await
}

/// A record with all of its row, as JSON.
#[derive(FromRow)]
struct Whole<T> {
    #[sqlx(flatten)]
    record: T,
    row: Value,
}

pub(crate) fn search_vector_of<R: Record>(record: &R, workspace_id: Uuid) -> String {
    search::vector(workspace_id, record.texts())
}
