//! Suppressions as callers see them: listed, created, deleted, imported and exported. What they prevent is in
//! [`mail::suppressions`](crate::mail::suppressions).

use serde_json::{Value, json};
use sqlx::PgConnection;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use uuid::Uuid;

use crate::error::{self, Error, Result};
use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable, RowKey};
use crate::mail::suppressions::{self, Added, NewSuppression, Reason, Scope};
use crate::platform::email_keys;
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::record;
use crate::records::history::Actor;
use crate::records::link::Linked;
use crate::records::{self, Fields, Place, Record, RecordType, UniqueKey};
use crate::values::etag::Condition;
use crate::values::json_body::Object;
use crate::values::json_schema::{self, Shape};
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Email, EmailHash, Field, RequestId};

record! {
    /// An address that a workspace sends no email to.
    Suppression, SuppressionChanges in "suppressions" {
        /// The address; it is compared by its normal form. `null` if only its hash is known.
        optional email: Option<Email>,
        /// The SHA-256 of the normal form of the address in UTF-8, in hexadecimal, if the address is not known.
        optional email_hash: Option<EmailHash>,
        /// Why the address is suppressed.
        defaulted reason: Reason = Reason::Manual,
        /// Which emails the address does not get: `marketing` covers nurture, requests for feedback and reminders,
        /// `all` every email. By default `marketing` if the reason is `unsubscribed` or `imported`, else `all`.
        defaulted scope: Scope = Scope::All,
        /// The email that caused the suppression.
        fixed email_id: Option<Uuid>,
        /// The request that caused the suppression.
        fixed request_id: Option<RequestId>,
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
    /// They are about one workspace's requests and files.
    const NOT_EXPORTED: &'static [&'static str] = &["request_id", "job_id", "line"];

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
        if let (Patch::Set(reason), Patch::Keep) = (&changes.reason, &changes.scope) {
            changes.scope = Patch::Set(reason.scope());
        }
        if changes.email.value().is_some() {
            changes.email_hash = Patch::Keep;
        }
    }

    fn into_suppression(self) -> Option<NewSuppression> {
        let Self { id, email, email_hash, reason, scope, email_id, request_id, created_at, updated_at, .. } = self;
        let proof = None;
        Some(NewSuppression {
            id,
            email,
            email_hash,
            reason,
            scope,
            email_id,
            request_id,
            proof,
            created_at,
            updated_at,
        })
    }

    fn email_key(changes: &SuppressionChanges) -> Option<String> {
        suppressions::key(changes.email.value(), changes.email_hash.value())
    }
}

/// The request body's schema for the OpenAPI document.
pub fn create_schema() -> RefOr<Schema> {
    let body = ObjectBuilder::new().description(Some("A suppression to create."));
    let body = body.property("email", Email::shape()).required("email");
    let body =
        body.property("reason", ObjectBuilder::from(Reason::shape()).default(Some(Reason::Manual.as_str().into())));
    let about = "By default `marketing` if the reason is `unsubscribed` or `imported`, else `all`.";
    let body = body.property("scope", ObjectBuilder::from(Scope::shape()).description(Some(about)));
    json_schema::closed(body.examples([json!({ "email": "jane@example.com", "reason": "complained" })]))
}

/// Returns a suppression.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Suppression> {
    records::get(connection, workspace_id, Place { parent: None, id }).await
}

/// Suppresses the address in the request body. Queued emails that the suppression covers are not sent. A suppression
/// of the address with a narrower scope gets the wider one.
///
/// # Errors
/// [`Error::Invalid`] with every error of the body; [`Error::Conflict`] for an address that is
/// already suppressed, as widely or more.
pub async fn create(connection: &mut PgConnection, actor: &Actor, mut body: Object) -> Result<(Suppression, Added)> {
    let workspace_id = actor.workspace_id;
    let email: Option<Email> = body.required("email");
    let reason: Reason = body.present("reason").unwrap_or(Reason::Manual);
    let scope: Scope = body.present("scope").unwrap_or(reason.scope());
    for field in Suppression::COLUMNS.iter().filter(|field| !["email", "reason", "scope"].contains(field)) {
        body.read_only(field, None::<&Uuid>);
    }
    body.finish()?;
    let email = email.ok_or_else(|| Error::internal("a body was accepted without an email"))?;
    let request_id = actor.request_id.as_deref().and_then(|id| RequestId::from_text(id).ok());
    let new = NewSuppression { scope, request_id, ..NewSuppression::new(&email, reason) };
    let added = suppressions::add(connection, actor, &new).await?;
    let owner = suppressions::owner(connection, workspace_id, &email.key()).await?;
    let owner = owner.ok_or_else(|| Error::Repeat("the suppression was removed in the meantime".to_owned()))?;
    match added {
        Added::Known => {
            Err(Error::conflict_with(owner, error::Reason::Taken, "email", "this email is already suppressed"))
        }
        Added::New | Added::Widened => Ok((get(connection, workspace_id, owner).await?, added)),
    }
}

/// Removes a suppression. Emails that it stopped stay unsent. If the address is suppressed for another reason too, it
/// has a suppression for that reason then. Needs a transaction.
pub async fn delete(connection: &mut PgConnection, actor: &Actor, id: Uuid, condition: &Condition) -> Result<()> {
    let deleted =
        records::lock::<Suppression>(connection, actor.workspace_id, &[id]).await?.pop().ok_or(Error::NotFound)?;
    condition.check(&deleted)?;
    suppressions::delete(connection, actor, id).await
}
