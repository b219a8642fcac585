//! The reasons of conflicts, and how violated constraints map to them.

use std::borrow::Cow;

use sqlx::{PgConnection, SqlStr};
use uuid::Uuid;

use super::violation::{self, Violation};
use super::{Error, FieldError, Result};

/// The reason of a conflict, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Another record has the same unique value.
    Taken,
    /// The lead was already converted to a customer.
    AlreadyConverted,
    /// The feedback was already answered.
    AlreadyAnswered,
    /// The customer has an unanswered feedback request.
    OpenRequest,
    /// The customer is blocked.
    Blocked,
    /// The address is suppressed.
    Suppressed,
    /// Leads with this status are not nurtured.
    NotNurtured,
    /// The lead has left the nurture sequence.
    LeftNurture,
    /// The job succeeded.
    JobSucceeded,
    /// The job has not finished.
    JobUnfinished,
    /// Another job does the same work.
    AlreadyRunning,
    /// Jobs of this kind or state cannot be undone.
    NotUndoable,
    /// The record is not deleted.
    NotDeleted,
    /// The state of the email does not allow the request.
    WrongState,
    /// Imports read all uploads of the workspace.
    UploadsInUse,
    /// The upload has another size than the request says.
    OffsetMismatch,
    /// The upload has fewer bytes than its length.
    UploadIncomplete,
    /// The workspace has as many records of this kind as it may have.
    LimitReached,
    /// The record belongs to the workspace and cannot be deleted.
    NotDeletable,
    /// The run of the date has taken place.
    AlreadyRun,
    /// A request with the same idempotency key is still running.
    RequestRunning,
    /// The API key has expired.
    KeyExpired,
    /// No other valid API key could manage keys.
    LastKey,
}

impl Reason {
    /// The code in `errors`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::AlreadyConverted => "already_converted",
            Self::AlreadyAnswered => "already_answered",
            Self::OpenRequest => "open_request",
            Self::Blocked => "blocked",
            Self::Suppressed => "suppressed",
            Self::NotNurtured => "not_nurtured",
            Self::LeftNurture => "left_nurture",
            Self::JobSucceeded => "job_succeeded",
            Self::JobUnfinished => "job_unfinished",
            Self::AlreadyRunning => "already_running",
            Self::NotUndoable => "not_undoable",
            Self::NotDeleted => "not_deleted",
            Self::WrongState => "wrong_state",
            Self::UploadsInUse => "uploads_in_use",
            Self::OffsetMismatch => "offset_mismatch",
            Self::UploadIncomplete => "upload_incomplete",
            Self::LimitReached => "limit_reached",
            Self::NotDeletable => "not_deletable",
            Self::AlreadyRun => "already_run",
            Self::RequestRunning => "request_running",
            Self::KeyExpired => "key_expired",
            Self::LastKey => "last_key",
        }
    }
}

/// A conflict, with its reason.
#[derive(Debug)]
pub struct Conflict {
    /// The reason, as callers read it.
    pub error: FieldError,
    /// How the record that causes the conflict is found, if its id is not known.
    search: Option<OwnerSearch>,
}

/// How the owner of a unique value is found.
#[derive(Debug)]
pub(crate) struct OwnerSearch {
    /// Returns the owners of the values `$2` in the workspace `$1`, each with its value.
    pub statement: SqlStr,
    /// The workspace.
    pub workspace_id: Uuid,
    /// The values.
    pub values: Vec<String>,
    /// The records that were to be written; they do not conflict with themselves.
    pub written: Vec<Uuid>,
}

impl Conflict {
    pub(crate) fn new(error: FieldError, search: Option<OwnerSearch>) -> Self {
        Self { error, search }
    }

    /// The error for a value that was free when it was checked: the transaction is run again.
    pub(crate) fn repeat(&self) -> Error {
        Error::Repeat(format!("{} was taken in the meantime", self.error.field))
    }

    /// Finds the id of the record that causes the conflict. The database reports a violated key without
    /// it, and ends the transaction; so this needs a connection after the rollback.
    pub async fn find_owner(&mut self, connection: &mut PgConnection) -> Result<()> {
        let Some(OwnerSearch { statement, workspace_id, values, written }) = self.search.take() else {
            return Ok(());
        };
        let owners: Vec<(String, Uuid)> =
            sqlx::query_as(statement).bind(workspace_id).bind(values).fetch_all(connection).await?;
        self.error.id = owners.into_iter().map(|(_, id)| id).find(|id| !written.contains(id));
        Ok(())
    }
}

/// The code for a reference to a record that does not exist.
pub const NOT_FOUND: &str = "not_found";

impl Error {
    /// Creates a conflict about the named field.
    pub fn conflict(reason: Reason, field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict(Conflict::new(FieldError::new(field, reason.code(), message), None).into())
    }

    /// Creates a conflict with the record that has this id.
    pub fn conflict_with(
        id: Uuid,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let error = FieldError { id: Some(id), ..FieldError::new(field, reason.code(), message) };
        Self::Conflict(Conflict::new(error, None).into())
    }

    /// Creates an error for a reference in a body to a record that does not exist.
    pub fn missing(field: &str) -> Self {
        let noun = field.strip_suffix("_id").filter(|noun| !noun.is_empty()).unwrap_or("record");
        Self::Missing(FieldError::new(field, NOT_FOUND, format!("no {noun} has this id")).into())
    }

    /// Whether the database rejected a row because of this constraint.
    pub(crate) fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
        let database = error.as_database_error();
        database.is_some_and(|database| Violation::of(database).is_some() && violation::names(database, constraint))
    }

    /// A conflict about a unique key of which nothing else is known.
    pub(super) fn taken() -> Self {
        Self::conflict(Reason::Taken, "id", "a record with this id already exists")
    }
}
