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

    /// Creates a conflict about a unique value that another record of the table has.
    pub(crate) fn taken(table: &str, field: &str, id: Option<Uuid>) -> Self {
        Self::Conflict(FieldError { id, ..taken(table, field) }.into())
    }

    /// Maps a violated unique constraint to an error.
    pub(super) fn of_unique_key(table: Option<&str>, constraint: &str) -> Self {
        match constraint {
            "feedback_open_key" => Self::open_request(None),
            "jobs_dedupe_key" => Self::conflict(Reason::AlreadyRunning, "id", "another job does the same work"),
            _ => {
                // Constraints are named after the table, the column and the kind.
                let table = table.unwrap_or_default();
                let rest = constraint.strip_prefix(table).and_then(|rest| rest.strip_prefix('_')).unwrap_or_default();
                let column = rest.strip_suffix("_key").filter(|column| UNIQUE.contains(column)).unwrap_or("id");
                Self::Conflict(taken(table, column).into())
            }
        }
    }

    /// Maps a violated foreign key to an error. Bodies can only name leads and customers; other references,
    /// such as the parent of an interaction, come from the path.
    pub(super) fn of_foreign_key(constraint: &str) -> Self {
        match constraint {
            "customers_lead_id_fkey" => Self::missing("lead_id"),
            "orders_customer_id_fkey" | "feedback_customer_id_fkey" => Self::missing("customer_id"),
            _ => Self::NotFound,
        }
    }

    /// Creates a conflict with the customer's unanswered feedback request.
    pub(crate) fn open_request(feedback_id: Option<Uuid>) -> Self {
        let message = "the customer has an unanswered request";
        let reason = FieldError::new("customer_id", Reason::OpenRequest.code(), message);
        Self::Conflict(FieldError { id: feedback_id, ..reason }.into())
    }
}

/// The columns that are unique within a workspace.
const UNIQUE: &[&str] = &["email", "lead_id", "name"];

fn taken(table: &str, field: &str) -> FieldError {
    let message = match (table, field) {
        ("suppressions", "email") => "this email is already suppressed".to_owned(),
        (_, "email" | "name") => format!("another {} has this {field}", singular(table)),
        (_, "lead_id") => format!("another {} belongs to this lead", singular(table)),
        _ => format!("a {} with this id already exists", singular(table)),
    };
    FieldError::new(field, Reason::Taken.code(), message)
}

fn singular(table: &str) -> &str {
    match table {
        "leads" => "lead",
        "customers" => "customer",
        "users" => "user",
        "orders" => "order",
        "workspaces" => "workspace",
        _ => "record",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(error: Error) -> (String, String, String) {
        match error {
            Error::Conflict(reason) | Error::Missing(reason) => {
                (reason.field, reason.code.into_owned(), reason.message.into_owned())
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn no_reason_names_a_constraint() {
        for (table, constraint, field, code, message) in [
            ("leads", "leads_email_key", "email", "taken", "another lead has this email"),
            ("leads", "leads_pkey", "id", "taken", "a lead with this id already exists"),
            ("customers", "customers_lead_id_key", "lead_id", "taken", "another customer belongs to this lead"),
            ("suppressions", "suppressions_email_key", "email", "taken", "this email is already suppressed"),
            ("workspaces", "workspaces_name_key", "name", "taken", "another workspace has this name"),
            ("feedback", "feedback_open_key", "customer_id", "open_request", "the customer has an unanswered request"),
            ("jobs", "jobs_dedupe_key", "id", "already_running", "another job does the same work"),
            ("emails", "emails_event_key", "id", "taken", "a record with this id already exists"),
            ("", "", "id", "taken", "a record with this id already exists"),
        ] {
            let reason = reason(Error::of_unique_key(Some(table), constraint));
            assert_eq!(reason, (field.into(), code.into(), message.into()), "{constraint}");
        }
        let missing = reason(Error::of_foreign_key("orders_customer_id_fkey"));
        assert_eq!(missing, ("customer_id".into(), "not_found".into(), "no customer has this id".into()));
        assert!(matches!(Error::of_foreign_key("lead_interactions_lead_id_fkey"), Error::NotFound));
    }
}
