//! Bulk changes: one request changes all records that match a filter.
//!
//! The transaction that accepts the request also counts the records and stores their ids, in chunks. The worker
//! processes the chunks in order, one transaction per chunk: the transaction changes the records, stores the
//! reasons of those that cannot be changed, updates the counts and deletes the chunk. Every record is therefore
//! changed exactly once, whichever process dies.

mod accept;
mod changes;
mod request;
mod targets;
mod undo;

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::db;
use crate::queue::{Page, Pages, Payload};
use crate::records::Outcome;
use crate::records::history::Actor;
use crate::records::link::Linked;
use crate::string_enum;
use crate::values::json_body::Object;

pub use accept::accept;
pub use request::Request;
pub use undo::{Undo, UndoBulk, undo};

string_enum! {
    /// What a bulk change does to each record.
    BulkAction {
        /// Sets fields, as an update of the record does.
        Update = "update",
        /// Sets the user responsible for the record.
        Assign = "assign",
        /// Deletes the record, with what is deleted with it.
        Delete = "delete",
        /// Restores the deleted record, with what was deleted with it.
        Restore = "restore",
        /// Converts the lead to a customer.
        Convert = "convert",
        /// Enrols the lead for nurture.
        Enroll = "enroll",
        /// Takes the lead out of nurture.
        Unenroll = "unenroll",
    }
}

impl BulkAction {
    /// The number of records that one transaction changes, so that it takes few seconds.
    fn chunk(self) -> i64 {
        match self {
            Self::Update | Self::Assign | Self::Enroll | Self::Unenroll => 5_000,
            Self::Delete | Self::Restore => 1_000,
            Self::Convert => 500,
        }
    }

    /// Whether the number of records must be confirmed however few they are.
    fn is_grave(self) -> bool {
        matches!(self, Self::Delete | Self::Convert)
    }
}

/// What a request does to the enrolment of leads for nurture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// Enrols them.
    Enroll {
        /// Whether leads that left the sequence are brought back.
        again: bool,
    },
    /// Unenrols them.
    Unenroll,
}

/// From this number of records on, a bulk change must be confirmed.
const MANY: i64 = 1_000;

/// A kind of record that is changed in bulk.
pub trait BulkChanged: Linked {
    /// The kind of the job.
    const JOB: &'static str;
    /// What can be done.
    const ACTIONS: &'static [BulkAction];

    /// Checks the fields that a conversion sets.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    fn check_conversion(_set: Object) -> Result<()> {
        Err(Error::internal("records of this kind are not converted"))
    }

    /// Converts a record. A dry run writes nothing.
    fn convert(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _id: Uuid,
        _set: Object,
        _dry_run: bool,
    ) -> impl Future<Output = Result<Outcome>> + Send {
        async { Err(Error::internal("records of this kind are not converted")) }
    }

    /// Enrols or unenrols records for nurture, and returns what became of each, in the order of the ids. A dry run
    /// writes nothing.
    fn enroll(
        _connection: &mut PgConnection,
        _actor: &Actor,
        _ids: &[Uuid],
        _enrolment: Enrolment,
        _dry_run: bool,
    ) -> impl Future<Output = Result<Vec<Outcome>>> + Send {
        async { Err(Error::internal("records of this kind are not nurtured")) }
    }
}

/// The job of a bulk change of records of one kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct BulkChange<R> {
    /// What to do.
    pub action: BulkAction,
    /// The fields to set.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// Whether leads that left the nurture sequence are brought back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Whether only the result and the rejected records are stored.
    #[serde(default)]
    pub dry_run: bool,
    #[serde(skip)]
    records: PhantomData<fn() -> R>,
}

impl<R: BulkChanged> Payload for BulkChange<R> {
    const KIND: &'static str = R::JOB;
    const QUEUE: &'static str = "imports";
    const WRITES_RECORDS: bool = true;

    type Result = BulkResult;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// The result of a bulk change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkResult {
    /// What was done.
    action: BulkAction,
    /// Records that matched when the request was accepted: in the end the sum of `changed`, `unchanged` and `failed`.
    matched: i64,
    /// Changed records.
    changed: i64,
    /// Records that already were as the change would have made them.
    unchanged: i64,
    /// Rejected records; the job's `errors` list them.
    failed: i64,
    /// Whether this was a dry run, which changes no records.
    dry_run: bool,
    /// The number that the request needs as `confirm`; `null` if it needs none.
    confirm: Option<i64>,
}

impl<R: BulkChanged> Pages for BulkChange<R> {
    /// The number of the next chunk.
    type Cursor = i64;
    type Tally = BulkResult;

    fn begin(&self) -> BulkResult {
        let (action, dry_run) = (self.action, self.dry_run);
        BulkResult { action, matched: 0, changed: 0, unchanged: 0, failed: 0, dry_run, confirm: None }
    }

    fn done(&self, result: &BulkResult) -> i64 {
        result.changed + result.unchanged + result.failed
    }

    async fn page(&self, page: &mut Page<'_>, cursor: Option<i64>, result: &mut BulkResult) -> Result<Option<i64>> {
        let (connection, actor) = (&mut *page.connection, &page.job.actor());
        db::plan_afresh(connection).await?;
        let seq = cursor.unwrap_or_default();
        if cursor.is_none() {
            result.matched = targets::count(connection, actor).await?;
            result.confirm = self.action.needs_confirmation(result.matched).then_some(result.matched);
        }
        page.total = Some(result.matched);
        if result.matched == 0 {
            return Ok(None);
        }
        let ids = targets::take(connection, actor, seq).await?;
        let outcomes = self.change(connection, actor, &ids).await?;
        changes::tally::<R>(connection, actor, ids.into_iter().zip(outcomes), result).await?;
        Ok((self.done(result) < result.matched).then_some(seq + 1))
    }
}

impl BulkAction {
    /// Whether the number of records must be confirmed.
    fn needs_confirmation(self, matched: i64) -> bool {
        self.is_grave() || matched > MANY
    }
}
