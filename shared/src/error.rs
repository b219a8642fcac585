//! The error type of the domain.
//!
//! The API turns an error into a response in one place, the worker into the outcome of an attempt.

mod field_errors;
mod reason;
mod violation;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use tokio::task::JoinError;
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use reason::OwnerSearch;
pub use reason::{Conflict, NOT_FOUND, Reason};

pub use field_errors::FieldErrors;
use violation::Violation;

/// A result of the domain.
pub type Result<T, E = Error> = std::result::Result<T, E>;

static TROUBLES: AtomicU64 = AtomicU64::new(0);
static MISSED_NODES: AtomicU64 = AtomicU64::new(0);

/// How often this process found the database unavailable. After an increase, the pool pings each connection
/// before it is used.
pub(crate) fn troubles() -> u64 {
    TROUBLES.load(Relaxed)
}

/// How often this process got no answer of a node, although the database answered.
pub fn missed_nodes() -> u64 {
    MISSED_NODES.load(Relaxed)
}

/// The errors of the domain.
///
/// Every function that uses the database can fail with [`Error::Unavailable`], [`Error::Repeat`] or
/// [`Error::Internal`]. `# Errors` sections list only further errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record does not exist in this workspace.
    #[error("not found")]
    NotFound,
    /// A record that the body refers to does not exist in this workspace.
    #[error("not found: {} {}", .0.field, .0.message)]
    Missing(Box<FieldError>),
    /// The record was changed after the caller read it.
    #[error("changed since it was read")]
    Changed,
    /// A unique key is taken, or the state of the record does not allow the request.
    #[error("conflict: {} {}", .0.error.field, .0.error.message)]
    Conflict(Box<Conflict>),
    /// The caller's API key lacks these scopes.
    #[error("the key lacks {}", .0.join(","))]
    Forbidden(Vec<&'static str>),
    /// The caller's input is invalid, with every fault and not only the first.
    #[error("invalid: {0:?}")]
    Invalid(Vec<FieldError>),
    /// The cursor is so old that events after it may have been deleted.
    #[error("too old: the oldest readable cursor is {oldest}")]
    TooOld {
        /// The oldest cursor that can be read from.
        oldest: i64,
    },
    /// The file is larger than it may be.
    #[error("too large")]
    TooLarge,
    /// The attempt of a job is no longer the current one: the job was cancelled, or the lease expired and
    /// another worker claimed the job. The attempt's open transaction is discarded.
    #[error("another attempt has taken over")]
    Superseded,
    /// The database cannot be reached, closed the connection, or refuses work for now. A retry may succeed.
    #[error("database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The transaction conflicted with another one: a deadlock, a serialization failure, or a unique key
    /// that was free when it was checked. The same transaction may succeed when it is retried.
    #[error("transaction must be retried: {0}")]
    Repeat(String),
    /// A bug, or a broken environment. The text is for the log, never for the caller.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One fault of the caller's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The name of the field or query parameter; nested fields are written `a.b`. For a conflict, the
    /// field that causes it.
    pub field: String,
    /// A stable code for programs: `required`, `invalid`, `out_of_range`, …
    pub code: Cow<'static, str>,
    /// A message for people.
    pub message: Cow<'static, str>,
    /// The id of what is in the way of the request; only in a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<Uuid>,
}

impl FieldError {
    /// The most characters of a field's name; callers can send names of any length.
    pub const MAX_FIELD: usize = 200;
    /// The most characters of a message.
    pub const MAX_MESSAGE: usize = 1_000;

    /// Creates a fault of the named field. Truncates a name or message that is too long.
    pub fn new(
        field: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = match message.into() {
            message if message.len() <= Self::MAX_MESSAGE => message,
            message => truncated(message.into_owned(), Self::MAX_MESSAGE).into(),
        };
        Self { field: truncated(field.into(), Self::MAX_FIELD), code: code.into(), message, id: None }
    }

    /// The same fault of a field nested in `parent`.
    #[must_use]
    pub fn inside(self, parent: &str) -> Self {
        Self { field: truncated(format!("{parent}.{}", self.field), Self::MAX_FIELD), ..self }
    }
}

/// Truncates a text to at most `max` characters, the last of which is then an ellipsis.
fn truncated(mut text: String, max: usize) -> String {
    // A text has at most as many characters as bytes, so most texts are not counted.
    if text.len() > max && text.chars().count() > max {
        let end = text.char_indices().nth(max - 1).map_or(text.len(), |(end, _)| end);
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl Error {
    /// Creates an error for input with a single fault.
    pub fn invalid(field: impl Into<String>, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![FieldError::new(field, code, message)])
    }

    /// Returns both values, or the faults of both.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault; another error alone.
    pub fn both<A, B>(one: Result<A>, other: Result<B>) -> Result<(A, B)> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(Self::Invalid(mut errors)), Err(Self::Invalid(more))) => {
                errors.extend(more);
                Err(Self::Invalid(errors))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Converts an error that occurred while a connection was opened. Whatever it is, the database is
    /// unavailable: a proxy of a dead server may close the connection or send anything, and TLS may fail.
    pub fn while_connecting(error: sqlx::Error) -> Self {
        Self::unavailable(error)
    }

    /// How the error affects retries.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable(error) => match sqlstate(error).as_deref().map(|code| (code, ErrorClass::of(code))) {
                // Errors of these classes mean `Unavailable` only while a connection is opened.
                None | Some((_, ErrorClass::Defect)) => ErrorClass::Connection,
                Some(("57014" | "25P03", class)) => class,
                Some((_, ErrorClass::Ordinary)) => ErrorClass::Connection,
                Some((_, class)) => class,
            },
            Self::NotFound
            | Self::Missing(_)
            | Self::Conflict(_)
            | Self::Forbidden(_)
            | Self::Invalid(_)
            | Self::TooOld { .. }
            | Self::TooLarge => ErrorClass::Defect,
            Self::Changed | Self::Superseded | Self::Repeat(_) => ErrorClass::Ordinary,
            Self::Internal(error) => {
                let code = error.downcast_ref::<sqlx::Error>().and_then(sqlstate);
                code.map_or(ErrorClass::Ordinary, |code| ErrorClass::of(&code))
            }
        }
    }

    /// A description of the database's condition that is safe to show to anyone; `None` if the error is not
    /// about a condition of the database.
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
            "08000" | "08001" | "08003" | "08006" => "a node of the database cannot be reached",
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

    /// Counts the failure: other connections may be broken, too.
    fn unavailable(error: sqlx::Error) -> Self {
        TROUBLES.fetch_add(1, Relaxed);
        Self::Unavailable(error)
    }

    /// Whether the database rejected a value, such as a text with a NUL or a row that is too large. A retry
    /// cannot succeed.
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

    /// Converts the error of a joined task. If the task panicked, the caller panics, too.
    pub fn of_task(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Self::internal(error),
        }
    }

    /// Creates an internal error with its text for the log.
    pub fn internal(text: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(text.into())
    }
}

/// How an error affects retries of the work that failed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The database cannot be reached, or refuses connections: all work waits for it.
    Connection,
    /// The database answers, but a node that has rows of the work cannot be reached: only the work of its
    /// workspaces waits.
    Node,
    /// The database is short of resources such as disk space; the work itself may be fine.
    Resources,
    /// A relation is missing or locked, as while an operator restores or alters a table.
    Relation,
    /// A retry may succeed.
    Ordinary,
    /// A retry would fail again: the database rejects a value or a statement.
    Defect,
}

impl ErrorClass {
    /// The class of a SQLSTATE.
    fn of(code: &str) -> Self {
        match code {
            "57014" | "42501" => Self::Ordinary,
            "42P01" | "55P03" => Self::Relation,
            "08000" | "08001" | "08003" | "08006" => Self::Node,
            // Too many connections; the server stops or starts; the database was dropped or does not exist.
            "53300" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "3D000" => Self::Connection,
            // Read-only: a standby, as after a failover.
            "25006" => Self::Resources,
            code => match code.get(..2) {
                Some("08" | "28") => Self::Connection,
                Some("53" | "57" | "58") => Self::Resources,
                Some("22" | "23" | "42") => Self::Defect,
                _ => Self::Ordinary,
            },
        }
    }

    /// Whether the error is a condition of the database and not a fault of the work: it never counts against
    /// a job.
    pub fn is_condition(self) -> bool {
        matches!(self, Self::Connection | Self::Node | Self::Resources | Self::Relation)
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

impl From<sqlx::Error> for Error {
    /// Converts by SQLSTATE: a taken unique key is a conflict, a missing reference is not found. Writes do
    /// not check first, so the constraints report these. What a constraint means to a caller is said by
    /// what writes the row: see [`Error::breaks`].
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as Sql;
        let code = match &error {
            Sql::RowNotFound => return Self::NotFound,
            Sql::Io(_) | Sql::Tls(_) | Sql::PoolTimedOut | Sql::PoolClosed | Sql::WorkerCrashed => {
                return Self::unavailable(error);
            }
            Sql::Database(database) => match Violation::of(database.as_ref()) {
                Some(Violation::Unique) => return Self::taken(),
                Some(Violation::Reference) => return Self::NotFound,
                None if violation::is_of_split_shard(database.as_ref()) => return Self::Repeat(error.to_string()),
                None => database.code().unwrap_or_default().into_owned(),
            },
            _ => return Self::Internal(error.into()),
        };
        match code.as_str() {
            "40001" | "40P01" => Self::Repeat(error.to_string()),
            // Cancelled by this process at the time limit of a request, or by the server at the statement
            // timeout: the connection still works.
            "57014" => Self::Unavailable(error),
            // The server refuses any work for now. 55P03: a lock is not available; 25P03: idle in transaction
            // for too long; 25006: a standby, as after a failover; 3D000: the database does not exist yet.
            "55P03" | "25P03" | "25006" | "3D000" => Self::unavailable(error),
            // A server that answers cannot reach another one.
            _ if ErrorClass::of(&code) == ErrorClass::Node => {
                MISSED_NODES.fetch_add(1, Relaxed);
                Self::Unavailable(error)
            }
            // Classes: connection exceptions, authorization, resources such as connections and disks,
            // operator intervention, and system errors.
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
