//! What operators can do: one list for the command line, the operator API and the console.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::actions::{self, By, OperatorAction, Outcome};
use super::batches::{Changed, Sum};
use super::emails::{self, Decision, EmailFilter};
use super::filter::{BATCH, workspace_id};
use super::found::{Found, by_workspace};
use super::jobs::{self, JobDecision, JobFilter};
use super::pauses::{self, Target};
use super::workers;
use crate::accounts::workspaces;
use crate::error::{Error, Result};
use crate::queue::notify::notify_now;

/// How often a transaction is tried that meets concurrent ones.
const TRIES: usize = 5;

/// Jobs or emails to change.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection<F> {
    /// Those that match a filter, if their number is the expected one.
    Matching {
        /// The filter.
        filter: F,
        /// Their number; without one nothing is changed.
        expect: Option<i64>,
    },
    /// Those with these ids.
    Ids(Vec<Uuid>),
}

/// What can be paused, with workspaces as operators name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// A queue.
    Queue(String),
    /// A kind of job.
    Kind(String),
    /// The name or the id of a workspace.
    Workspace(String),
}

/// Something that an operator does.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Retries or cancels jobs.
    Jobs(JobDecision, Selection<JobFilter>),
    /// Decides about emails.
    Emails(Decision, Selection<EmailFilter>),
    /// Pauses a queue, a kind or a workspace, for a reason.
    Pause(Paused, Option<String>),
    /// Resumes it.
    Resume(Paused),
    /// Drains a worker.
    Drain(Uuid),
    /// Lets a worker claim again.
    Undrain(Uuid),
    /// Suspends a workspace, by its name or id.
    Suspend(String),
    /// Ends the suspension of a workspace.
    Unsuspend(String),
}

/// Why a command was not begun.
#[derive(Debug)]
pub enum Refusal {
    /// The number of matching jobs or emails is not the expected one, or none was given.
    CountDiffers {
        /// The number.
        matched: i64,
    },
    /// It cannot be done.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<F: Serialize> Selection<F> {
    fn arguments(&self) -> Result<Value> {
        Ok(match self {
            Self::Matching { filter, expect } => json!({ "filter": serde_json::to_value(filter)?, "expect": expect }),
            Self::Ids(ids) => json!({ "ids": ids }),
        })
    }

    fn filter(self) -> F
    where
        F: Default,
    {
        match self {
            Self::Matching { filter, .. } => filter,
            Self::Ids(_) => F::default(),
        }
    }
}

impl Command {
    /// The name of its action, such as `jobs.retry`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Jobs(JobDecision::Retry, _) => "jobs.retry",
            Self::Jobs(JobDecision::Cancel, _) => "jobs.cancel",
            Self::Emails(Decision::Resend, _) => "emails.resend",
            Self::Emails(Decision::MarkSent, _) => "emails.mark_sent",
            Self::Emails(Decision::Cancel, _) => "emails.cancel",
            Self::Pause(Paused::Queue(_), _) => "queues.pause",
            Self::Pause(Paused::Kind(_), _) => "kinds.pause",
            Self::Pause(Paused::Workspace(_), _) => "workspaces.pause",
            Self::Resume(Paused::Queue(_)) => "queues.resume",
            Self::Resume(Paused::Kind(_)) => "kinds.resume",
            Self::Resume(Paused::Workspace(_)) => "workspaces.resume",
            Self::Drain(_) => "workers.drain",
            Self::Undrain(_) => "workers.undrain",
            Self::Suspend(_) => "workspaces.suspend",
            Self::Unsuspend(_) => "workspaces.unsuspend",
        }
    }

    fn arguments(&self) -> Result<Value> {
        let mut arguments = Map::new();
        match self {
            Self::Jobs(_, selection) => return selection.arguments(),
            Self::Emails(_, selection) => return selection.arguments(),
            Self::Pause(paused, reason) => {
                arguments.extend(paused.argument());
                arguments.extend(reason.as_ref().map(|reason| ("reason".to_owned(), json!(reason))));
            }
            Self::Resume(paused) => arguments.extend(paused.argument()),
            Self::Drain(id) | Self::Undrain(id) => arguments.extend([("worker".to_owned(), json!(id))]),
            Self::Suspend(workspace) | Self::Unsuspend(workspace) => {
                arguments.extend([("workspace".to_owned(), json!(workspace))]);
            }
        }
        Ok(Value::Object(arguments))
    }

    /// Finds what the command is about. Changes nothing.
    ///
    /// # Errors
    /// [`Refusal::CountDiffers`], or [`Error::Invalid`] for what does not exist.
    pub async fn prepare(self, connection: &mut PgConnection) -> Result<Prepared, Refusal> {
        let (found, expect) = match &self {
            Self::Jobs(decision, Selection::Matching { filter, expect }) => {
                (decision.find(connection, filter).await?, Some(*expect))
            }
            Self::Emails(decision, Selection::Matching { filter, expect }) => {
                (decision.find(connection, filter).await?, Some(*expect))
            }
            Self::Jobs(_, Selection::Ids(ids)) => (all_of(ids, jobs::locate(connection, ids).await?)?, None),
            Self::Emails(_, Selection::Ids(ids)) => (all_of(ids, emails::locate(connection, ids).await?)?, None),
            _ => return Ok(Prepared { command: self, found: Vec::new(), matched: None }),
        };
        let matched = found.iter().map(|(_, ids)| ids.len()).sum::<usize>();
        let matched = i64::try_from(matched).unwrap_or(i64::MAX);
        match expect {
            Some(expect) if expect != Some(matched) => Err(Refusal::CountDiffers { matched }),
            _ => Ok(Prepared { command: self, found, matched: Some(matched) }),
        }
    }
}

/// Groups rows by workspace.
///
/// # Errors
/// [`Error::Invalid`] if one of the ids is unknown.
fn all_of(ids: &[Uuid], located: Vec<(Uuid, Uuid)>) -> Result<Found> {
    match ids.iter().find(|id| !located.iter().any(|(_, found)| found == *id)) {
        Some(unknown) => Err(Error::invalid("ids", "unknown", format!("{unknown} does not exist"))),
        None => Ok(by_workspace(located)),
    }
}

impl Paused {
    fn argument(&self) -> Option<(String, Value)> {
        Some(match self {
            Self::Queue(name) => ("queue".to_owned(), json!(name)),
            Self::Kind(name) => ("kind".to_owned(), json!(name)),
            Self::Workspace(name) => ("workspace".to_owned(), json!(name)),
        })
    }

    async fn target(self, connection: &mut PgConnection) -> Result<Target> {
        Ok(match self {
            Self::Queue(name) => Target::Queue(name),
            Self::Kind(name) => Target::Kind(name),
            Self::Workspace(name) => Target::Workspace(workspace_id(connection, &name).await?),
        })
    }
}

/// A command, and what it is about.
#[derive(Debug)]
pub struct Prepared {
    command: Command,
    found: Found,
    matched: Option<i64>,
}

/// A command whose action is recorded.
#[derive(Debug)]
pub struct Begun {
    /// The id of the action.
    pub id: Uuid,
    prepared: Prepared,
}

impl Prepared {
    /// How many jobs or emails it is about.
    pub fn matched(&self) -> Option<i64> {
        self.matched
    }

    /// Records that the action begins.
    pub async fn begin(self, connection: &mut PgConnection, by: &By) -> Result<Begun> {
        let (name, arguments) = (self.command.name(), self.command.arguments()?);
        let id = actions::begin(connection, by, name, &arguments, self.matched).await?;
        Ok(Begun { id, prepared: self })
    }
}

impl Begun {
    /// Does it, and records how that ended. If the process dies, what was committed stays, the action has no end, and
    /// the command can be given again.
    ///
    /// # Errors
    /// The error of the command, which is recorded as well.
    pub async fn run(self, connection: &mut PgConnection) -> Result<OperatorAction> {
        let id = self.id;
        match self.apply(connection).await {
            Ok(outcome) => actions::finish(connection, id, Ok(outcome)).await,
            Err(error) => {
                let recorded = actions::finish(connection, id, Err(error.to_string())).await;
                if let Err(unrecorded) = recorded {
                    tracing::warn!(action = %id, error = %unrecorded, "the end of an operator's action was not recorded");
                }
                Err(error)
            }
        }
    }

    async fn apply(self, connection: &mut PgConnection) -> Result<Outcome> {
        let Self { id, prepared: Prepared { command, found, matched: _ } } = self;
        let result = match command {
            Command::Jobs(decision, selection) => {
                return Change::Jobs(decision, selection.filter()).apply(connection, id, found).await;
            }
            Command::Emails(decision, selection) => {
                return Change::Emails(decision, selection.filter()).apply(connection, id, found).await;
            }
            Command::Pause(paused, reason) => {
                let target = paused.target(connection).await?;
                serde_json::to_value(pauses::pause(connection, &target, reason.as_deref()).await?)?
            }
            Command::Resume(paused) => {
                let target = paused.target(connection).await?;
                json!({ "was_paused": pauses::resume(connection, &target).await? })
            }
            Command::Drain(worker) => serde_json::to_value(workers::drain(connection, worker).await?)?,
            Command::Undrain(worker) => serde_json::to_value(workers::undrain(connection, worker).await?)?,
            Command::Suspend(workspace) => {
                let workspace = workspace_id(connection, &workspace).await?;
                serde_json::to_value(workspaces::suspend(connection, workspace).await?)?
            }
            Command::Unsuspend(workspace) => {
                let workspace = workspace_id(connection, &workspace).await?;
                serde_json::to_value(workspaces::unsuspend(connection, workspace).await?)?
            }
        };
        Ok(Outcome { done: None, result: Some(result) })
    }
}

/// A change of many jobs or emails.
enum Change {
    Jobs(JobDecision, JobFilter),
    Emails(Decision, EmailFilter),
}

impl Change {
    /// Changes what was found in transactions of at most 500, and wakes the workers of what they have to do.
    async fn apply(self, connection: &mut PgConnection, action_id: Uuid, found: Found) -> Result<Outcome> {
        let (mut sum, mut queues) = (Sum::default(), BTreeSet::new());
        let matched = found.iter().map(|(_, ids)| ids.len()).sum();
        for (workspace_id, ids) in found {
            for batch in ids.chunks(BATCH) {
                let changed = self.apply_batch(connection, action_id, workspace_id, batch).await?;
                sum.add(&changed);
                queues.extend(changed.queues);
            }
        }
        if !queues.is_empty() {
            notify_now(connection, &queues.into_iter().collect::<Vec<_>>()).await?;
        }
        Ok(sum.outcome(matched))
    }

    /// Changes a batch in one transaction, which is repeated if it met a concurrent one.
    async fn apply_batch(
        &self,
        connection: &mut PgConnection,
        action_id: Uuid,
        workspace_id: Uuid,
        ids: &[Uuid],
    ) -> Result<Changed> {
        let mut tries = 1;
        loop {
            let done = match self {
                Self::Jobs(decision, filter) => decision.apply(connection, action_id, workspace_id, ids, filter).await,
                Self::Emails(decision, filter) => {
                    decision.apply(connection, action_id, workspace_id, ids, filter).await
                }
            };
            match done {
                Err(Error::Repeat(_)) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }
}
