//! The audit log: who did what, and when.
//!
//! It has no table of its own. Everything that happens is an event, and what records were before a change is in
//! their history. Events of types that are not public are only in the audit log.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::scopes::{Scope, Scopes};
use crate::error::Result;
use crate::events::feed::{EventActor, changes};
use crate::events::{ActorKind, EventId, EventType, Subject, SubjectType};
use crate::query::{Columns, Item, ListField, Order, OrderKind, Spec};

use crate::values::kind::Kind;

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEntry {
    /// The id of the event.
    pub id: EventId,
    /// What was done.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When it was done.
    pub created_at: DateTime<Utc>,
    /// Who did it.
    pub actor: EventActor,
    /// What it was done to.
    pub subject: Subject,
    /// The request that did it, or that created the job that did it.
    pub request_id: Option<String>,
    /// For an update of a record, each changed field with its value before (`from`) and after (`to`). `null` also for
    /// keys that may not read the record.
    #[schema(value_type = Option<Object>)]
    pub changes: Option<Map<String, Value>>,
}

impl Item for AuditEntry {}

impl<'r> FromRow<'r, PgRow> for AuditEntry {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let change: Option<Json<Change>> = row.try_get("change")?;
        let (kind, id): (ActorKind, Option<Uuid>) = (row.try_get("actor_type")?, row.try_get("actor_id")?);
        let (subject, subject_id): (SubjectType, Uuid) = (row.try_get("subject_type")?, row.try_get("subject_id")?);
        Ok(Self {
            id: EventId(row.try_get("id")?),
            event_type: row.try_get("type")?,
            created_at: row.try_get("created_at")?,
            actor: EventActor::new(kind, id),
            subject: Subject { kind: subject, id: subject_id },
            request_id: row.try_get("request_id")?,
            changes: change.map(|Json(change)| changes(change.former, change.latter)),
        })
    }
}

/// The values before and after a change.
#[derive(serde::Deserialize)]
struct Change {
    former: Map<String, Value>,
    latter: Option<Map<String, Value>>,
}

/// The kinds of actors, as the log shows them.
const ACTORS: &[&str] =
    &["api_key", "session", "job", "customer", "operator", "import", "conversion", "schedule", "worker"];

/// Which events are in the log.
macro_rules! listed {
    () => {
        "(NOT starts_with(type, 'email.') OR type IN ('email.resent', 'email.marked_sent', 'email.cancelled'))
             AND type NOT IN ('job.changed', 'ping')"
    };
}

/// How the log is listed. Ids rise with time. What workers do with each email, and the progress of jobs, are events
/// of the feed alone.
pub const LIST: Spec = Spec {
    table: "audit_log",
    fields: &[
        ListField::new("id", Kind::Json),
        ListField::new("type", Kind::Word(EventType::WORDS)),
        ListField::new("created_at", Kind::Time),
        ListField::new("actor", Kind::Json),
        ListField::new("subject", Kind::Json),
        ListField::new("request_id", Kind::Line),
        ListField::new("changes", Kind::Json),
    ],
    filters: &[
        ListField::computed(
            "actor.type",
            Kind::Word(ACTORS),
            "CASE actor_type WHEN 'key' THEN 'api_key' ELSE actor_type END",
        ),
        ListField::computed("actor.id", Kind::Id, "actor_id"),
        ListField::computed("subject.type", Kind::Word(SubjectType::WORDS), "subject_type"),
        ListField::computed("subject.id", Kind::Id, "subject_id"),
    ],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &["subject.id"],
    searchable: false,
    branches: None,
    only: Some(listed!()),
};

macro_rules! stored {
    () => {
        "id, type, subject_type, subject_id, actor_type, actor_id, request_id, created_at"
    };
}

/// The columns with the changes of the subjects that meet a condition.
macro_rules! columns {
    ($readable:literal) => {
        Columns {
            stored: stored!(),
            selected: concat!(
                stored!(),
                ", (SELECT json_build_object('former', former, 'latter', latter) FROM history
                    WHERE history.workspace_id = $1 AND history.record_id = audit_log.subject_id
                        AND history.id = audit_log.id AND history.action = 'updated' AND ",
                $readable,
                ") AS change"
            ),
        }
    };
}

/// The newest entries of a workspace's log, without the values of records, for operators.
pub async fn recent(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let select = concat!(
        "SELECT ",
        stored!(),
        ", NULL::json AS change FROM audit_log
         WHERE workspace_id = $1 AND created_at >= coalesce($2, '-infinity'::timestamptz) AND ",
        listed!(),
        " ORDER BY id DESC LIMIT $3"
    );
    Ok(sqlx::query_as(select).bind(workspace_id).bind(since).bind(limit).fetch_all(connection).await?)
}

/// The columns for a key with these scopes, without the values of records that it may not read.
pub fn columns_for(scopes: Scopes) -> Columns {
    match (scopes.allows(Scope::RecordsRead), scopes.allows(Scope::Settings)) {
        (true, true) => columns!("audit_log.subject_type <> 'suppression'"),
        (true, false) => columns!("audit_log.subject_type NOT IN ('suppression', 'user')"),
        (false, true) => columns!("audit_log.subject_type = 'user'"),
        (false, false) => Columns { stored: stored!(), selected: concat!(stored!(), ", NULL::json AS change") },
    }
}
