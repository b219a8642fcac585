//! The reasons of conflicts, and how violated constraints map to them.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Error, FieldError};

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
    /// The customer's address is suppressed.
    Suppressed,
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
            Self::JobSucceeded => "job_succeeded",
            Self::JobUnfinished => "job_unfinished",
            Self::AlreadyRunning => "already_running",
            Self::NotUndoable => "not_undoable",
            Self::NotDeleted => "not_deleted",
            Self::WrongState => "wrong_state",
        }
    }
}

/// The code for a reference to a record that does not exist.
pub const NOT_FOUND: &str = "not_found";

impl Error {
    /// Creates a conflict about the named field.
    pub fn conflict(reason: Reason, field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict(FieldError::new(field, reason.code(), message).into())
    }

    /// Creates a conflict with the record that has this id.
    pub fn conflict_with(
        id: Uuid,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Conflict(FieldError { id: Some(id), ..FieldError::new(field, reason.code(), message) }.into())
    }

    /// Creates an error for a reference in a body to a record that does not exist.
    pub fn missing(field: &str) -> Self {
        let noun = field.strip_suffix("_id").filter(|noun| !noun.is_empty()).unwrap_or("record");
        Self::Missing(FieldError::new(field, NOT_FOUND, format!("no {noun} has this id")).into())
    }

    /// Whether the database rejected a row because of this constraint.
    pub(crate) fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
        let database = error.as_database_error();
        database.is_some_and(|database| {
            let is_broken = database.is_unique_violation() || database.is_foreign_key_violation();
            is_broken && database.constraint() == Some(constraint)
        })
    }

    /// A conflict about a unique key of which nothing else is known.
    pub(super) fn taken() -> Self {
        Self::conflict(Reason::Taken, "id", "a record with this id already exists")
    }
}
