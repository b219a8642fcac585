//! What operators did: the audit of their actions.
//!
//! A row is committed before its action begins, and completed after it. So whatever an operator changed has its row,
//! and an action whose process died is one that has no end.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::operators::Operator;
use crate::error::Result;
use crate::events::{Actor, ActorKind};
use crate::query::parameters::Parameters;
use crate::string_enum;
use crate::values::Time;

/// How many days actions are kept.
const KEPT_DAYS: i32 = 400;

string_enum! {
    /// Where an action came from.
    Source {
        /// A command on the server.
        Cli = "cli",
        /// The operator API.
        Api = "api",
        /// The Operations page of the console.
        Console = "console",
    }
}

/// Who acts, and from where.
#[derive(Debug, Clone)]
pub struct By {
    operator_id: Option<Uuid>,
    actor: String,
    source: Source,
}

impl By {
    /// A user of a machine, such as `ada@db1`, with a command.
    pub fn command(actor: String) -> Self {
        Self { operator_id: None, actor, source: Source::Cli }
    }

    /// An operator with a request.
    pub fn operator(operator: &Operator, source: Source) -> Self {
        Self { operator_id: Some(operator.id), actor: operator.name.clone(), source }
    }
}

/// The actor of what an action changes in a workspace.
pub fn actor(workspace_id: Uuid, action_id: Uuid) -> Actor {
    Actor { workspace_id, kind: ActorKind::Operator, id: action_id, request_id: None }
}

/// An action of an operator.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
pub struct OperatorAction {
    /// The action's id; ids rise with time. In the audit log of a workspace, it is the id of the actor.
    pub id: Uuid,
    /// The operator; `null` for a command on the server.
    pub operator_id: Option<Uuid>,
    /// The operator's name, or the user and the machine of a command.
    pub actor: String,
    /// `cli`, `api` or `console`.
    pub source: String,
    /// What was done, such as `jobs.retry`.
    pub action: String,
    /// To what, and how.
    pub arguments: Value,
    /// How many jobs or emails it was asked to change.
    pub matched: Option<i64>,
    /// How many it changed.
    pub done: Option<i64>,
    /// What else became of it, such as the jobs that it left out.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `null` while it runs, and if its process died.
    pub finished_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, operator_id, actor, source, action, arguments, matched, done, result, error, started_at, finished_at"
    };
}

/// Records that an action begins, and returns its id. Must not be called in a transaction: the row has to be there
/// whatever becomes of the action.
pub async fn begin(
    connection: &mut PgConnection,
    by: &By,
    action: &str,
    arguments: &Value,
    matched: Option<i64>,
) -> Result<Uuid> {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO operator_actions (id, operator_id, actor, source, action, arguments, matched, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, now())",
    )
    .bind(id)
    .bind(by.operator_id)
    .bind(&by.actor)
    .bind(by.source.as_str())
    .bind(action)
    .bind(arguments)
    .bind(matched)
    .execute(connection)
    .await?;
    Ok(id)
}

/// What an action did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// How many jobs or emails it changed.
    pub done: Option<i64>,
    /// What else became of it.
    pub result: Option<Value>,
}

/// Records how an action ended, and returns it.
pub async fn finish(
    connection: &mut PgConnection,
    id: Uuid,
    outcome: Result<Outcome, String>,
) -> Result<OperatorAction> {
    let (Outcome { done, result }, error) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(error) => (Outcome::default(), Some(error)),
    };
    let update = concat!(
        "UPDATE operator_actions SET done = $2, result = $3, error = $4, finished_at = clock_timestamp()
         WHERE id = $1 RETURNING ",
        columns!()
    );
    Ok(sqlx::query_as(update).bind(id).bind(done).bind(result).bind(error).fetch_one(connection).await?)
}

/// Returns an action.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<OperatorAction> {
    let select = concat!("SELECT ", columns!(), " FROM operator_actions WHERE id = $1");
    Ok(sqlx::query_as(select).bind(id).fetch_one(connection).await?)
}

/// Which actions to list.
#[derive(Debug, Clone, Default)]
pub struct ActionFilter {
    since: Option<Time>,
    operator: Option<String>,
    action: Option<String>,
}

impl ActionFilter {
    /// Takes the filter from parameters: `since`, `operator` (the name, the user of a command, or the id) and `action`.
    pub fn take(given: &mut Parameters<'_>) -> Self {
        let text = |text: &str| Ok(text.to_owned());
        Self {
            since: given.take("since"),
            operator: given.take_as("operator", text),
            action: given.take_as("action", text),
        }
    }

    /// The time from which on actions are listed.
    pub fn since(&self) -> Option<Time> {
        self.since
    }
}

/// Lists actions, the newest first.
pub async fn list(connection: &mut PgConnection, filter: &ActionFilter, limit: i64) -> Result<Vec<OperatorAction>> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM operator_actions
         WHERE ($1::timestamptz IS NULL OR started_at >= $1)
             AND ($2::text IS NULL OR actor = $2 OR split_part(actor, '@', 1) = $2 OR operator_id::text = $2)
             AND ($3::text IS NULL OR action = $3 OR starts_with(action, $3 || '.'))
         ORDER BY started_at DESC, id DESC LIMIT $4"
    );
    let listed = sqlx::query_as(select).bind(filter.since).bind(&filter.operator).bind(&filter.action).bind(limit);
    Ok(listed.fetch_all(connection).await?)
}

/// Deletes up to `limit` actions that are older than 400 days, and returns their number.
pub async fn prune(connection: &mut PgConnection, limit: i64) -> Result<u64> {
    let pruned = sqlx::query(
        "DELETE FROM operator_actions WHERE id = ANY (ARRAY(
             SELECT id FROM operator_actions WHERE started_at < now() - make_interval(days => $1)
             ORDER BY started_at LIMIT $2
         ))",
    );
    Ok(pruned.bind(KEPT_DAYS).bind(limit).execute(connection).await?.rows_affected())
}
