//! The one error type of the domain.
//!
//! The API turns it into a response in one place, the worker into the fate of a job.

mod field_errors;
mod reason;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use tokio::task::JoinError;
use utoipa::ToSchema;
use uuid::Uuid;

pub use reason::{NOT_FOUND, Reason};

pub use field_errors::FieldErrors;

/// Shorthand for results of the domain.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How often the database could not be used.
static TROUBLES: AtomicU64 = AtomicU64::new(0);

/// How often the database could not be used, by anything in this process: when this has risen, no connection
/// is trusted before it was looked at.
pub(crate) fn troubles() -> u64 {
    TROUBLES.load(Relaxed)
}

/// Everything that can go wrong below the API and the worker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record does not exist in this workspace.
    #[error("not found")]
    NotFound,
    /// A record that the body refers to does not exist in this workspace.
    #[error("not found: {} {}", .0.field, .0.message)]
    Missing(Box<FieldError>),
    /// The record is no longer what the caller has seen.
    #[error("changed meanwhile")]
    Changed,
    /// A unique key is taken, or something else stands in the way.
    #[error("conflict: {} {}", .0.field, .0.message)]
    Conflict(Box<FieldError>),
    /// The caller's input is wrong; every fault of it, not only the first.
    #[error("invalid: {0:?}")]
    Invalid(Vec<FieldError>),
    /// The attempt of a job that tried to write is no longer the present one: it was cancelled,
    /// or its lease ran out and another worker has it. Whatever it did is thrown away.
    #[error("another attempt has taken over")]
    Superseded,
    /// The database cannot be reached, ended the connection, or does not do what is asked for now. Trying
    /// again later may help.
    #[error("database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction came between: a deadlock, a serialization failure, or a unique key that
    /// was free when it was looked at. The same transaction may succeed when it is run again.
    #[error("transaction must be run again: {0}")]
    Repeat(String),
    /// A defect, or a broken environment. Its text is for the log, never for the caller.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One fault of the caller's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field as the caller named it; nested fields as `a.b`, query parameters by their name. Of a
    /// conflict, the field that stands in the way.
    pub field: String,
    /// The kind of fault, stable, for programs: `required`, `invalid`, `out_of_range`, …
    pub code: Cow<'static, str>,
    /// The fault for people.
    pub message: Cow<'static, str>,
    /// The record that stands in the way of what was asked, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<Uuid>,
}

impl FieldError {
    /// The most characters of a field's name; callers can send names of any length.
    pub const MAX_FIELD: usize = 200;
    /// The most characters of a message.
    pub const MAX_MESSAGE: usize = 1_000;

    /// A fault of the named field. A name or message that is too long is cut.
    pub fn new(
        field: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = match message.into() {
            message if message.len() <= Self::MAX_MESSAGE => message,
            message => cut(message.into_owned(), Self::MAX_MESSAGE).into(),
        };
        Self { field: cut(field.into(), Self::MAX_FIELD), code: code.into(), message, id: None }
    }

    /// The same fault, of a field inside of the one at `place`.
    #[must_use]
    pub fn inside(self, place: &str) -> Self {
        Self { field: cut(format!("{place}.{}", self.field), Self::MAX_FIELD), ..self }
    }
}

/// A text of at most so many characters, the last of which says if it was cut.
fn cut(mut text: String, max: usize) -> String {
    // Bytes bound characters from above, so most texts are never counted.
    if text.len() > max && text.chars().count() > max {
        let end = text.char_indices().nth(max - 1).map_or(text.len(), |(end, _)| end);
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl Error {
    /// Input with a single fault.
    pub fn invalid(field: impl Into<String>, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![FieldError::new(field, code, message)])
    }

    /// An error met while a connection was opened. Whatever it is (a proxy in front of a dead server closes the
    /// connection, says nothing or anything; TLS fails), the database cannot be used.
    pub fn while_connecting(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }

    /// What the error says about a retry.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable(error) => match sqlstate(error).as_deref().map(|code| (code, ErrorClass::of(code))) {
                // Only a connection that was being opened is unavailable for any other reason.
                None | Some((_, ErrorClass::Defect)) => ErrorClass::Connection,
                Some(("57014" | "25P03", class)) => class,
                Some((_, ErrorClass::Ordinary)) => ErrorClass::Connection,
                Some((_, class)) => class,
            },
            Self::NotFound | Self::Missing(_) | Self::Conflict(_) | Self::Invalid(_) => ErrorClass::Defect,
            Self::Changed | Self::Superseded | Self::Repeat(_) => ErrorClass::Ordinary,
            Self::Internal(error) => {
                let code = error.downcast_ref::<sqlx::Error>().and_then(sqlstate);
                code.map_or(ErrorClass::Ordinary, |code| ErrorClass::of(&code))
            }
        }
    }

    /// What is wrong with the database, for anybody to read; `None` if nothing is known to be.
    pub fn condition(&self) -> Option<String> {
        let error = match self {
            Self::Unavailable(error) => error,
            Self::Internal(error) => error.downcast_ref::<sqlx::Error>()?,
            _ => return None,
        };
        let Some(code) = sqlstate(error) else {
            return matches!(self, Self::Unavailable(_)).then(|| "the database cannot be reached".to_owned());
        };
        let what = match code.as_str() {
            "53100" => "the database's disk is full",
            "53200" => "the database is out of memory",
            "53300" => "the database accepts no more connections",
            "57014" => "a statement took too long",
            "25006" => "the database is read-only",
            "25P03" => "a transaction was idle for too long",
            "42P01" => "a table is missing",
            "55P03" => "a table or row is locked",
            code => match code.get(..2) {
                Some("28") => "the database refuses the login",
                Some("53") => "the database is short of resources",
                Some("57") => "the database is stopping, starting or under maintenance",
                Some("58") => "the database server reports a system error",
                _ if matches!(self, Self::Unavailable(_)) => "the database cannot be used",
                _ => return None,
            },
        };
        Some(format!("{what} (SQLSTATE {code})"))
    }

    /// The database is away for one, so it may be for all.
    fn unavailable(error: sqlx::Error) -> Self {
        TROUBLES.fetch_add(1, Relaxed);
        Self::Unavailable(error)
    }

    /// Whether the database refused a value, such as a text with a NUL or a row that is too large: it will
    /// refuse it always.
    pub fn is_of_data(&self) -> bool {
        let Self::Internal(error) = self else { return false };
        match error.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54"))
            }
            Some(sqlx::Error::Encode(_)) => true,
            _ => false,
        }
    }

    /// A task that is waited for did not end by itself. If it panicked, so does the caller: its defect is theirs.
    pub fn of_task(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Self::internal(error),
        }
    }

    /// A defect with its text for the log.
    pub fn internal(text: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(text.into())
    }
}

/// What an error says about a retry of the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The database cannot be reached, or lets nobody in: nothing works until it does.
    Connection,
    /// The database answers, but is short of something such as disk space: it says nothing about the work.
    Resources,
    /// A relation is missing or locked, as while an operator restores or alters a table.
    Relation,
    /// It may pass.
    Ordinary,
    /// The same work will meet it again: a value or a statement that the database refuses.
    Defect,
}

impl ErrorClass {
    /// The class of a SQLSTATE.
    fn of(code: &str) -> Self {
        match code {
            "57014" | "42501" => Self::Ordinary,
            "42P01" | "55P03" => Self::Relation,
            // No connection is free; it ends sessions, starts or was dropped; there is no such database.
            "53300" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "3D000" => Self::Connection,
            // A standby, as after a failover.
            "25006" => Self::Resources,
            code => match code.get(..2) {
                Some("08" | "28") => Self::Connection,
                Some("53" | "57" | "58") => Self::Resources,
                Some("22" | "23" | "42") => Self::Defect,
                _ => Self::Ordinary,
            },
        }
    }

    /// Whether it says nothing about the work: it never counts against a job.
    pub fn is_condition(self) -> bool {
        matches!(self, Self::Connection | Self::Resources | Self::Relation)
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

impl From<sqlx::Error> for Error {
    /// SQLSTATE decides: a taken unique key is a conflict, a missing reference is not found.
    /// Nothing is checked first and written after, so the constraints are where this is known. What a constraint
    /// means to a caller is said by what writes the row: see [`Error::breaks`].
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as Sql;
        let code = match &error {
            Sql::RowNotFound => return Self::NotFound,
            Sql::Io(_) | Sql::Tls(_) | Sql::PoolTimedOut | Sql::PoolClosed | Sql::WorkerCrashed => {
                return Self::unavailable(error);
            }
            Sql::Database(database) => database.code().unwrap_or_default().into_owned(),
            _ => return Self::Internal(error.into()),
        };
        match code.as_str() {
            "23505" => Self::taken(),
            "23503" => Self::NotFound,
            "40001" | "40P01" => Self::Repeat(error.to_string()),
            // Cancelled, by us at the end of a request's time or by the server at the end of a statement's: the
            // connection is as well as before.
            "57014" => Self::Unavailable(error),
            // It says nothing about what was asked, only that the server does not do it now. 57: the server
            // ends the session or is starting up; 55P03: a lock was not to be had; 25P03: idle in transaction
            // for too long; 25006: a standby, as after a failover; 3D000: there is no such database yet.
            "55P03" | "25P03" | "25006" | "3D000" => Self::unavailable(error),
            // Classes: connection exceptions, who may log in, resources such as connections and disks,
            // operators who intervene, and errors of the system.
            _ if ["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Self::unavailable(error),
            _ => Self::Internal(error.into()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.into())
    }
}
