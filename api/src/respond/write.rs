//! Writes: one transaction, one answer, and never twice for one `Idempotency-Key`.
//!
//! What a request does and the answer that is kept for its key are one transaction. If the process
//! dies between the commit and the answer, the same request sent again is given that answer.

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
use shared::platform::db::Transaction;
use shared::queue::{self, Payload};
use shared::records::history::{Actor, ActorKind};
use shared::values::etag::Condition;
use shared::{Error, Result as Written};
use sqlx::PgConnection;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::http::conditional;
use crate::http::headers::IDEMPOTENCY_KEY;
use crate::respond::{Problem, Reply, Result};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// How often a transaction is run when others slip in between.
const TRIES: usize = 5;

/// What a request does, on a connection or in a transaction, as the actor.
///
/// It is a closure that gives a boxed future: of an async closure the compiler does not see that it
/// can be sent between threads.
pub trait Effect<'c>: Fn(&'c mut PgConnection, &'c Actor) -> BoxFuture<'c, Written<Reply>> + Send + Sync {}

impl<'c, F> Effect<'c> for F where F: Fn(&'c mut PgConnection, &'c Actor) -> BoxFuture<'c, Written<Reply>> + Send + Sync {}

/// A request that writes: who sent it, and on which conditions.
#[derive(Debug)]
pub struct Write {
    state: AppState,
    /// Who writes.
    pub actor: Actor,
    /// What must hold of the record for the write to take place.
    pub condition: Condition,
    key: Option<[u8; 32]>,
    /// Over the path and the query; the body comes when it was read.
    request: Sha256,
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
        request.update(parts.uri.path());
        let Query(mut parameters) = Query::from_request_parts(parts, state).await?;
        parameters.sort();
        request.update(format!("{parameters:?}"));
        let actor = Actor {
            workspace_id: caller.workspace_id,
            kind: ActorKind::Key,
            id: caller.key_id,
            request_id: Some(caller.request_id),
        };
        Ok(Self { state: state.clone(), actor, condition: condition(&parts.headers)?, key, request })
    }
}

/// SHA-256 over parts that cannot run into each other.
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

/// `If-Match`: any of the tags, or `*`, for which it is enough that the record is there.
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
    /// A write that no API key asks for: that of a page for people.
    pub fn of(state: &AppState, actor: Actor) -> Self {
        Self { state: state.clone(), actor, condition: Condition::None, key: None, request: Sha256::new() }
    }

    /// Whether the request has an `Idempotency-Key`, so that all of it must be looked at.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Adds a piece of the body to what makes this request another one than the next.
    pub fn add(&mut self, piece: &[u8]) {
        self.request.update(piece);
    }

    /// Starts a run over the workspace, or returns the one under way.
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

    /// As [`Write::run`], but what is one statement by itself is no transaction, unless its answer
    /// must be kept.
    ///
    /// # Errors
    /// What `effect` gives, as its answer.
    pub async fn run_as(self, alone: bool, body: &[u8], effect: impl for<'c> Effect<'c>) -> Result {
        if !alone || self.key.is_some() {
            return self.run(body, effect).await;
        }
        let mut connection = self.state.connection().await?;
        Ok(effect(&mut connection, &self.actor).await?.into_response())
    }

    /// Does something in a transaction, or answers as the same request was answered before.
    ///
    /// It may be done more than once before it is committed, when other transactions come between.
    ///
    /// # Errors
    /// What `effect` gives, as its answer; 409 and 422 for an idempotency key that is at work or was
    /// used with another request.
    pub async fn run(mut self, body: &[u8], effect: impl for<'c> Effect<'c>) -> Result {
        self.add(body);
        let key = self.key.map(|hash| Key {
            workspace_id: self.actor.workspace_id,
            hash,
            fingerprint: self.request.clone().finalize().into(),
        });
        let mut tries = 1;
        loop {
            let mut step = Transaction::begin(&self.state.pool).await?;
            match once(&mut step, &self.actor, key.as_ref(), &effect).await {
                Ok(Done::Now(reply)) => {
                    step.commit().await?;
                    if let Some(queue) = reply.notify {
                        self.state.notifier.notify(queue);
                    }
                    return Ok(reply.into_response());
                }
                Ok(Done::Before(kept)) => {
                    step.rollback().await?;
                    return replay(kept);
                }
                Ok(Done::Refused(problem)) => {
                    step.rollback().await?;
                    return Err(problem);
                }
                Err(Error::Repeat(_)) if tries < TRIES => {
                    step.rollback().await?;
                    tries += 1;
                }
                Err(error) => {
                    step.rollback().await?;
                    return Err(error.into());
                }
            }
        }
    }
}

enum Done {
    Now(Reply),
    Before(Kept),
    Refused(Problem),
}

async fn once(
    connection: &mut PgConnection,
    actor: &Actor,
    key: Option<&Key>,
    effect: &impl for<'c> Effect<'c>,
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
    let reply = effect(connection, actor).await?;
    if let Some(key) = key {
        idempotency::keep(connection, key, &reply.to_kept()).await?;
    }
    Ok(Done::Now(reply))
}

/// Whether an answer is one that was given before.
pub fn is_replayed(answer: &Response) -> bool {
    answer.headers().contains_key(REPLAYED)
}

fn replay(kept: Kept) -> Result {
    let mut response = Reply::from_kept(kept).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
