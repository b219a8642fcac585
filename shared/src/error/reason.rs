//! Why a request conflicts with what is there, and what a broken constraint says about that.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Error, FieldError};

/// The kind of a conflict, as programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Another record has the value, which is unique.
    Taken,
    /// The lead has a customer.
    AlreadyConverted,
    /// The feedback has an answer.
    AlreadyAnswered,
    /// The customer has a request that is not answered yet.
    OpenRequest,
    /// The customer is blocked.
    Blocked,
    /// The customer's address is suppressed.
    Suppressed,
    /// The job succeeded.
    JobSucceeded,
    /// The job has not ended.
    JobUnfinished,
    /// Another job does the same work.
    AlreadyRunning,
    /// The job is none that can be undone.
    NotUndoable,
    /// The record is not deleted.
    NotDeleted,
    /// The email is in another state than the request is for.
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

/// The code of a reference to a record that does not exist.
pub const NOT_FOUND: &str = "not_found";

impl Error {
    /// A conflict about the named field.
    pub fn conflict(reason: Reason, field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict(FieldError::new(field, reason.code(), message).into())
    }

    /// A conflict with the record that has this id.
    pub fn conflict_with(
        id: Uuid,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Conflict(FieldError { id: Some(id), ..FieldError::new(field, reason.code(), message) }.into())
    }

    /// A reference in a body to a record that does not exist.
    pub fn missing(field: &str) -> Self {
        let noun = field.strip_suffix("_id").filter(|noun| !noun.is_empty()).unwrap_or("record");
        Self::Missing(FieldError::new(field, NOT_FOUND, format!("no {noun} has this id")).into())
    }

    /// Whether an error of the database is that a row would break this constraint.
    pub(crate) fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
        let database = error.as_database_error();
        database.is_some_and(|database| {
            let is_broken = database.is_unique_violation() || database.is_foreign_key_violation();
            is_broken && database.constraint() == Some(constraint)
        })
    }

    /// A taken key of which nothing more is known than that it is one.
    pub(super) fn taken() -> Self {
        Self::conflict(Reason::Taken, "id", "a record with this id exists already")
    }
}
