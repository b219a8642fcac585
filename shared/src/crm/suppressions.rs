//! Suppressions as callers see them: listed, created, deleted, imported and exported. What they prevent is in
//! [`mail::suppressions`](crate::mail::suppressions).

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use uuid::Uuid;

use crate::error::{self, Error, Result};
use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable, RowKey};
use crate::mail::suppressions::{self, NewSuppression, Reason};
use crate::platform::email_keys;
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::record;
use crate::records::link::Linked;
use crate::records::{self, Fields, Place, Record, RecordType, UniqueKey};
use crate::values::etag::Condition;
use crate::values::json_body::Object;
use crate::values::json_schema::{self, Shape};
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Email, EmailHash};

record! {
    /// An address that a workspace sends no email to.
    Suppression, SuppressionChanges in "suppressions" {
        /// The address; it is compared by its normal form. `null` if only its hash is known.
        optional email: Option<Email>,
        /// The SHA-256 of the normal form of the address in UTF-8, in hexadecimal, if the address is not known.
        optional email_hash: Option<EmailHash>,
        /// Why the address is suppressed.
        defaulted reason: Reason = Reason::Manual,
        /// The email that caused the suppression.
        fixed email_id: Option<Uuid>,
        /// The job of the import that read the suppression in a file.
        fixed job_id: Option<Uuid>,
        /// The line of that file.
        fixed line: Option<i64>,
    }
}

impl Suppression {
    /// The form by which the address is compared, or its hash.
    fn key(&self) -> Option<String> {
        suppressions::key(self.email.as_ref(), self.email_hash.as_ref())
    }
}

/// An address has one suppression, and so has a hash.
const EMAIL: UniqueKey<Suppression> =
    UniqueKey::email("suppressions_email_key", "this email is already suppressed", Suppression::key);

impl Record for Suppression {
    const TYPE: RecordType = RecordType::Suppression;
    const UNIQUE: &'static [UniqueKey<Self>] = &[EMAIL];
    const LIST: Spec = Spec {
        table: "suppressions",
        fields: Self::FIELDS,
        filters: &[ListField::computed("import_job_id", Kind::Id, "job_id")],
        orders: &[
            Order { name: "created_at", expression: "id", kind: OrderKind::Id },
            Order { name: "email", expression: email_keys::COLUMN, kind: OrderKind::Text },
        ],
        indexed: &["email"],
        searchable: false,
        branches: None,
        only: None,
    };
    /// They are about one workspace's files.
    const NOT_EXPORTED: &'static [&'static str] = &["job_id", "line"];

    fn example() -> Value {
        json!({ "email": "jane@example.com" })
    }
}

impl Linked for Suppression {
    type Other = Self;
}

impl Importable for Suppression {
    const EMAIL: Option<&'static UniqueKey<Self>> = Some(&EMAIL);
    /// Suppressions of other systems have no ids that matter.
    const EXTERNAL_ID: &'static UniqueKey<Self> = &EMAIL;
    const KEYS: &'static [RowKey] = &[RowKey::Email];
    const HEADERS: Headers = Headers::Suppressions;
    const WORDS: &'static [(&'static str, Table)] = &[("reason", Table::SuppressionReasons)];
    const SUPPRESSES: bool = true;
    const BARE: Option<&'static str> = Some("email");

    fn row_external_id(_changes: &SuppressionChanges) -> Option<&str> {
        None
    }

    fn email(changes: &SuppressionChanges) -> Option<&Email> {
        changes.email.value()
    }

    fn address(&self) -> Option<&Email> {
        self.email.as_ref()
    }

    fn complete(changes: &mut SuppressionChanges, _given: &mut Given) {
        if changes.reason == Patch::Keep {
            changes.reason = Patch::Set(Reason::Imported);
        }
        if changes.email.value().is_some() {
            changes.email_hash = Patch::Keep;
        }
    }

    fn into_suppression(self) -> Option<NewSuppression> {
        let Self { id, email, email_hash, reason, email_id, created_at, updated_at, .. } = self;
        Some(NewSuppression { id, email, email_hash, reason, email_id, proof: None, created_at, updated_at })
    }

    fn email_key(changes: &SuppressionChanges) -> Option<String> {
        suppressions::key(changes.email.value(), changes.email_hash.value())
    }
}

/// The request body's schema for the OpenAPI document.
pub fn create_schema() -> RefOr<Schema> {
    let body = ObjectBuilder::new().description(Some("A suppression to create."));
    json_schema::closed(
        body.property("email", Email::shape()).required("email").examples([json!({ "email": "jane@example.com" })]),
    )
}

/// Returns a suppression.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Suppression> {
    records::get(connection, workspace_id, Place { parent: None, id }).await
}

/// Suppresses the address in the request body. Queued emails to the address are not sent.
///
/// # Errors
/// [`Error::Invalid`] with every error of the body; [`Error::Conflict`] for an address that is
/// already suppressed.
pub async fn create(connection: &mut PgConnection, workspace_id: Uuid, mut body: Object) -> Result<Suppression> {
    let email: Option<Email> = body.required("email");
    for field in Suppression::COLUMNS.iter().filter(|field| **field != "email") {
        body.read_only(field, None::<&Uuid>);
    }
    body.finish()?;
    let email = email.ok_or_else(|| Error::internal("a body was accepted without an email"))?;
    let new = NewSuppression::new(&email, Reason::Manual);
    if !suppressions::insert(connection, workspace_id, &new).await? {
        let owner = suppressions::owner(connection, workspace_id, &email.key()).await?;
        return Err(match owner {
            Some(id) => Error::conflict_with(id, error::Reason::Taken, "email", "this email is already suppressed"),
            None => Error::Repeat("the suppression was removed in the meantime".to_owned()),
        });
    }
    get(connection, workspace_id, new.id).await
}

/// Removes a suppression. Emails that it stopped stay unsent. Needs a transaction.
pub async fn delete(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, condition: &Condition) -> Result<()> {
    let deleted = records::lock::<Suppression>(connection, workspace_id, &[id]).await?.pop().ok_or(Error::NotFound)?;
    condition.check(&deleted)?;
    sqlx::query("DELETE FROM suppressions WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(id)
        .execute(&mut *connection)
        .await?;
    let hand_over = AssertSqlSafe(email_keys::hand_over("suppressions"));
    sqlx::query(hand_over).bind(workspace_id).bind(Vec::from_iter(deleted.key())).execute(connection).await?;
    Ok(())
}
