//! Suppressions: the addresses that a workspace sends no email to, and why.
//!
//! A suppression belongs to the address, not to a record: it remains when a record is changed or
//! deleted. An address has one suppression, the widest that it has been given; what else speaks
//! against emailing it is kept as [`grounds`].

mod grounds;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Event;
use crate::error::Result;
use crate::platform::db;
use crate::string_enum;
use crate::values::{Email, EmailHash, RequestId};

pub(crate) use grounds::add_all;
pub use grounds::{Added, add, delete, take_back};

string_enum! {
    /// Why an address is suppressed.
    Reason {
        /// Its owner unsubscribed.
        Unsubscribed = "unsubscribed",
        /// The mail server rejected the address as unknown.
        Bounced = "bounced",
        /// Its owner reported an email as spam.
        Complained = "complained",
        /// A caller added it.
        Manual = "manual",
        /// A file from another system says that its owner wants no email.
        Imported = "imported",
    }
}

string_enum! {
    /// Which emails an address does not get. The wider scope is the greater one.
    #[derive(PartialOrd, Ord)]
    Scope {
        /// Nurture, requests for feedback and their reminders.
        Marketing = "marketing",
        /// Every email.
        All = "all",
    }
}

impl Reason {
    /// The scope of a suppression that names none.
    pub fn scope(self) -> Scope {
        match self {
            Self::Unsubscribed | Self::Imported => Scope::Marketing,
            Self::Bounced | Self::Complained | Self::Manual => Scope::All,
        }
    }
}

impl Scope {
    /// Whether a suppression with this scope stops emails of an event.
    pub fn covers(self, event: Event) -> bool {
        match self {
            Self::Marketing => event.is_bulk(),
            Self::All => true,
        }
    }
}

/// A suppression to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSuppression {
    /// Its id.
    pub id: Uuid,
    /// The address, if it is known.
    pub email: Option<Email>,
    /// The hash of an address that is not known.
    pub email_hash: Option<EmailHash>,
    /// Why the address is suppressed.
    pub reason: Reason,
    /// Which emails it does not get.
    pub scope: Scope,
    /// The email that caused the suppression.
    pub email_id: Option<Uuid>,
    /// The request that caused the suppression.
    pub request_id: Option<RequestId>,
    /// The job of the import whose file has it, and the line.
    pub proof: Option<(Uuid, u64)>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl NewSuppression {
    /// A suppression of an address, from now on.
    pub fn new(email: &Email, reason: Reason) -> Self {
        let now = db::now();
        Self {
            id: Uuid::now_v7(),
            email: Some(email.clone()),
            email_hash: None,
            reason,
            scope: reason.scope(),
            email_id: None,
            request_id: None,
            proof: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The form by which the address is compared, or its hash.
    pub fn key(&self) -> Option<String> {
        key(self.email.as_ref(), self.email_hash.as_ref())
    }
}

/// The form by which an address is compared, or its hash if the address is not known.
pub(crate) fn key(email: Option<&Email>, hash: Option<&EmailHash>) -> Option<String> {
    email.map(Email::key).or_else(|| hash.map(EmailHash::key))
}

/// The condition that the workspace `$1` suppresses marketing to the address whose normal form is given, or to its
/// hash; with an event, that it suppresses emails of this event. Each address is looked up by the index; as a
/// join, which PostgreSQL makes of `EXISTS`, it is compared with all suppressions of the workspace while no statistics
/// know of them.
macro_rules! is_suppressed {
    ($key:literal) => {
        $crate::mail::suppressions::is_suppressed!(@ $key, "")
    };
    ($key:literal, $event:literal) => {
        $crate::mail::suppressions::is_suppressed!(@ $key, concat!(" AND (scope = 'all' OR ", $event, " <> 'followups')"))
    };
    (@ $key:literal, $scope:expr) => {
        concat!(
            "(SELECT true FROM suppressions WHERE workspace_id = $1 AND email_key IN (",
            $key,
            ", 'sha256:' || encode(sha256(convert_to(",
            $key,
            ", 'UTF8')), 'hex'))",
            $scope,
            " LIMIT 1) IS NOT NULL"
        )
    };
}

pub(crate) use is_suppressed;

/// Returns the id of the suppression of an address, given as [`Email::key`] formats it.
pub(crate) async fn owner(connection: &mut PgConnection, workspace_id: Uuid, email_key: &str) -> Result<Option<Uuid>> {
    let owner = "SELECT id FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2) AND email_duplicate = 0
        ORDER BY email_key LIMIT 1";
    let keys = [email_key.to_owned(), EmailHash::of(email_key).key()];
    Ok(sqlx::query_scalar(owner).bind(workspace_id).bind(keys).fetch_optional(connection).await?)
}

/// Returns which of these keys and ids suppressions have.
pub(crate) async fn taken(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (keys, ids): (&[String], &[Uuid]),
) -> Result<(HashSet<String>, HashSet<Uuid>)> {
    let found: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT id, email_key FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2)
         UNION
         SELECT id, email_key FROM suppressions WHERE workspace_id = $1 AND id = ANY ($3)",
    )
    .bind(workspace_id)
    .bind(keys)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(id, key)| (key, id)).unzip())
}

/// Returns which of the addresses, given as [`Email::key`] formats them, get no email of this event.
pub async fn suppressed(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    event: Event,
    emails: &[String],
) -> Result<HashSet<String>> {
    Ok(owners(connection, workspace_id, event, emails).await?.into_keys().collect())
}

/// Like [`suppressed`], with the id of a suppression of each address.
pub(crate) async fn owners(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    event: Event,
    emails: &[String],
) -> Result<HashMap<String, Uuid>> {
    let hashes: HashMap<String, &String> = emails.iter().map(|key| (EmailHash::of(key).key(), key)).collect();
    let keys: Vec<&String> = emails.iter().chain(hashes.keys()).collect();
    let found: Vec<(String, Uuid)> = sqlx::query_as(
        "SELECT email_key, id FROM suppressions
         WHERE workspace_id = $1 AND email_key = ANY ($2) AND (scope = 'all' OR $3)",
    )
    .bind(workspace_id)
    .bind(keys)
    .bind(event.is_bulk())
    .fetch_all(connection)
    .await?;
    let email = |key: String| hashes.get(&key).map_or(key, |email| (*email).clone());
    Ok(found.into_iter().map(|(key, id)| (email(key), id)).collect())
}
