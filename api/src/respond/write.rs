//! Writes run in one transaction, and only once for an `Idempotency-Key`.
//!
//! The transaction also stores the response for the key. If the process dies after the commit,
//! before the client has the response, a repeated request returns the stored response.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::header::{HeaderName, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use shared::accounts::idempotency::{self, Existing, Kept, Key};
use shared::error::FieldError;
use shared::jobs;
use shared::platform::db::Transaction;
use shared::queue::{self, Payload};
use shared::records::history::Actor;
use shared::values::etag::Condition;
use shared::webhooks::callbacks::{self, Callback};
use shared::{Error, Result as Written};
use sqlx::PgConnection;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::http::callbacks::CallbackParameters;
use crate::http::conditional;
use crate::http::headers::IDEMPOTENCY_KEY;
use crate::respond::reply::Reply;
use crate::respond::{Problem, Result};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// How often a transaction is attempted when others conflict with it.
const ATTEMPTS: usize = 5;

/// A closure that does a request's write on a connection, as the actor.
///
/// It returns a boxed future, because the compiler cannot prove that an async closure's future is
/// `Send`.
pub trait WriteHandler<'c>: Fn(&'c mut PgConnection, &'c Actor) -> BoxFuture<'c, Written<Reply>> + Send + Sync {}

impl<'c, F> WriteHandler<'c> for F where
    F: Fn(&'c mut PgConnection, &'c Actor) -> BoxFuture<'c, Written<Reply>> + Send + Sync
{
}

/// A request that writes: its actor, condition and idempotency key.
#[derive(Debug)]
pub struct Write {
    state: AppState,
    /// Who makes the change.
    pub actor: Actor,
    /// The condition in `If-Match`.
    pub condition: Condition,
    key: Option<[u8; 32]>,
    /// The request's fingerprint so far: path and query, then the body as it is read.
    request: Sha256,
    /// Who wants to know the end of the job that it starts.
    callback: Option<Callback>,
}

impl FromRequestParts<AppState> for Write {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let key = match parts.method {
            Method::POST => idempotency_key(&parts.headers)?,
            _ => None,
        };
        let key = key.map(|key| digest([caller.key_id.as_bytes(), route.as_bytes(), key.as_bytes()]));
        let mut request = Sha256::new();
        // Only stored responses are compared with their requests.
        if key.is_some() {
            request.update(parts.uri.path());
            let Query(mut parameters) = Query::from_request_parts(parts, state).await?;
            parameters.sort();
            request.update(format!("{parameters:?}"));
        }
        let callback = match parts.extensions.get::<CallbackParameters>() {
            Some(CallbackParameters(parameters)) => {
                request.update(format!("{parameters:?}"));
                Callback::read(parameters, &state.settings.webhooks)?
            }
            None => None,
        };
        let actor = caller.actor();
        let condition = condition(&parts.headers)?;
        Ok(Self { state: state.clone(), actor, condition, key, request, callback })
    }
}

/// SHA-256 over parts, each prefixed by its length.
fn digest<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.trim().len()) => Ok(Some(key.trim().to_owned())),
        _ => {
            let message = "must have from 1 to 255 visible ASCII characters";
            Err(Problem::invalid(vec![FieldError::new("Idempotency-Key", "invalid", message)]))
        }
    }
}

/// Reads `If-Match`: any of its tags may match, and `*` matches every existing record.
fn condition(headers: &HeaderMap) -> Result<Condition> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(Condition::None) };
    let Some(tags) = value.to_str().ok().and_then(conditional::entity_tags) else {
        let message = "must be a list of entity tags in quotes, or *";
        return Err(Problem::invalid(vec![FieldError::new("If-Match", "invalid", message)]));
    };
    Ok(if tags.contains(&"*") {
        Condition::None
    } else {
        Condition::Tags(tags.into_iter().map(str::to_owned).collect())
    })
}

impl Write {
    /// A write without an API key, by a page for people.
    pub fn of(state: &AppState, actor: Actor) -> Self {
        let (condition, key, request, callback) = (Condition::None, None, Sha256::new(), None);
        Self { state: state.clone(), actor, condition, key, request, callback }
    }

    /// Whether the request has an `Idempotency-Key`, so that its whole body belongs to the
    /// fingerprint.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Adds a piece of the body to the fingerprint.
    pub fn add(&mut self, piece: &[u8]) {
        self.request.update(piece);
    }

    /// Starts a run over the workspace, or returns the active one.
    ///
    /// # Errors
    /// As [`Write::run`].
    pub async fn start_run<P: Payload>(self, payload: P) -> Result {
        let payload = Arc::new(payload);
        self.run(&[], move |connection, actor| {
            let payload = payload.clone();
            Box::pin(async move {
                let request_id = actor.request_id.as_deref();
                Reply::accepted(&queue::start_run(connection, actor.workspace_id, request_id, &*payload).await?)
            })
        })
        .await
    }

    /// As [`Write::run`], but a write that is a single statement (`alone`) needs no transaction,
    /// unless its response must be stored.
    ///
    /// # Errors
    /// Those of `handler`.
    pub async fn run_as(self, alone: bool, body: &[u8], handler: impl for<'c> WriteHandler<'c>) -> Result {
        if !alone || self.key.is_some() {
            return self.run(body, handler).await;
        }
        let mut connection = self.state.connection().await?;
        match handler(&mut connection, &self.actor).await {
            Ok(reply) => Ok(reply.into_response()),
            // Another transaction was in the way, or a shard that has moved, and nothing was written.
            Err(Error::Repeat(_)) => {
                drop(connection);
                self.run(body, handler).await
            }
            Err(error) => Err(explained(error, &mut connection).await),
        }
    }

    /// Runs `handler` in a transaction, or returns the stored response of the same request.
    ///
    /// The handler may run several times before the commit, when other transactions conflict.
    ///
    /// # Errors
    /// Those of `handler`; 409 for an idempotency key whose request is still running, and 422 for
    /// one that was used with a different request.
    pub async fn run(mut self, body: &[u8], handler: impl for<'c> WriteHandler<'c>) -> Result {
        if self.has_key() {
            self.add(body);
        }
        let key = match self.key {
            Some(hash) => Some(Key {
                workspace_id: self.actor.workspace_id,
                hash,
                fingerprint: self.request.clone().finalize().into(),
                may_be_earlier: self.state.has_earlier_responses().await?,
            }),
            None => None,
        };
        let mut attempt = 1;
        loop {
            let mut transaction = Transaction::begin(&self.state.pool).await?;
            match once(&mut transaction, (&self.actor, self.callback.as_ref()), key.as_ref(), &handler).await {
                Ok(Done::Now(reply)) => {
                    transaction.commit().await?;
                    if let Some(queue) = reply.notify {
                        self.state.notifier.notify(queue);
                    }
                    return Ok(reply.into_response());
                }
                Ok(Done::Before(kept)) => {
                    transaction.rollback().await?;
                    return replay(kept);
                }
                Ok(Done::Refused(problem)) => {
                    transaction.rollback().await?;
                    return Err(problem);
                }
                Err(Error::Repeat(_)) if attempt < ATTEMPTS => {
                    transaction.rollback().await?;
                    attempt += 1;
                }
                Err(error) => {
                    transaction.rollback().await?;
                    return Err(match error {
                        error @ Error::Conflict(_) => explained(error, &mut *self.state.connection().await?).await,
                        error => error.into(),
                    });
                }
            }
        }
    }
}

/// The response to an error, with the id of the record that causes a conflict.
async fn explained(mut error: Error, connection: &mut PgConnection) -> Problem {
    if let Error::Conflict(conflict) = &mut error
        && let Err(error) = conflict.find_owner(connection).await
    {
        return error.into();
    }
    error.into()
}

enum Done {
    Now(Reply),
    Before(Kept),
    Refused(Problem),
}

async fn once(
    connection: &mut PgConnection,
    (actor, callback): (&Actor, Option<&Callback>),
    key: Option<&Key>,
    handler: &impl for<'c> WriteHandler<'c>,
) -> Written<Done> {
    if let Some(key) = key {
        match idempotency::take(connection, key).await? {
            Existing::Free => {}
            Existing::Kept(kept) => return Ok(Done::Before(kept)),
            Existing::OtherRequest => {
                return Ok(Done::Refused(Problem::other_request()));
            }
            Existing::Running => {
                return Ok(Done::Refused(Problem::running()));
            }
        }
    }
    let reply = handler(connection, actor).await?;
    if let Some(job) = &reply.accepted {
        jobs::report_created(connection, actor, job).await?;
        if let Some(callback) = callback {
            callbacks::add(connection, actor.workspace_id, job.id, callback).await?;
        }
    }
    if let Some(key) = key {
        idempotency::keep(connection, key, &reply.to_kept()).await?;
    }
    Ok(Done::Now(reply))
}

/// Whether a response is a stored one.
pub fn is_replayed(answer: &Response) -> bool {
    answer.headers().contains_key(REPLAYED)
}

/// Marks a response as a stored one.
pub fn mark_replayed(answer: &mut Response) {
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}

fn replay(kept: Kept) -> Result {
    let mut response = Reply::from_kept(kept).into_response();
    mark_replayed(&mut response);
    Ok(response)
}
