//! API keys: nobody gets past here without one.

mod streams;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use chrono::{DateTime, Utc};
use shared::accounts::workspaces::{self, Key, Opened};
use shared::platform::db::{self, Pool};
use uuid::Uuid;

use crate::http::headers;
use crate::http::observe::RequestId;
use crate::respond::{Problem, Result};
use crate::{AppState, CRM};
use streams::OpenStreams;

pub(crate) use streams::Cut;

/// For how long a key that opened is believed to open still. A revoked or expired key is refused
/// after this time at the latest, by every process: well below a second.
const TRUSTED: Duration = Duration::from_millis(500);
/// The most keys remembered. When there are more, the others cost a read each time.
const MAX_TRUSTED: usize = 10_000;

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace whose records exist for this caller.
    pub workspace_id: Uuid,
    /// The key it came with.
    pub key_id: Uuid,
    /// The request's id, for the jobs it starts.
    pub request_id: String,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(Problem::unauthorized)
    }
}

/// Opens a request under `/dev/crm` with its key, and makes its [`Caller`] known to handlers; any other
/// request needs none. It goes by the path alone, before it is known whether that path exists.
///
/// # Errors
/// 400 for two keys, 401, or 503 when the database is away and the key was not seen lately.
pub async fn require_key(state: &AppState, request: &mut Request) -> Result<Option<Opened>> {
    let under_crm = request.uri().path().strip_prefix(CRM);
    if !under_crm.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(None);
    }
    headers::check_authorization(request.headers())?;
    let key = bearer(request.headers()).and_then(Key::parse).ok_or_else(Problem::unauthorized)?;
    let opened = state.keys.open(&state.pool, &key).await?.ok_or_else(Problem::unauthorized)?;
    let RequestId(request_id) = request.extensions().get().cloned().unwrap_or_default();
    let Opened { workspace_id, key_id } = opened;
    request.extensions_mut().insert(Caller { workspace_id, key_id, request_id });
    Ok(Some(opened))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The keys that were seen lately: what they open, and when they were used.
#[derive(Debug, Default)]
pub struct Keys {
    /// By hash, so that no memory holds keys. Unknown keys are not remembered: they could be any number.
    trusted: Mutex<HashMap<[u8; 32], (Opened, Instant)>>,
    /// When keys were last used, until that is written.
    used: Mutex<HashMap<Uuid, DateTime<Utc>>>,
    streams: OpenStreams,
}

impl Keys {
    /// What a key opens, from memory or from the database.
    async fn open(&self, pool: &Pool, key: &Key) -> shared::Result<Option<Opened>> {
        let hash = key.hash();
        // Taken before the read: what the read says was true at that time.
        let now = Instant::now();
        let known = lock(&self.trusted).get(&hash).copied();
        let opened = match known {
            Some((opened, until)) if now < until => Some(opened),
            _ => {
                let opened = workspaces::open(&mut *pool.acquire().await?, key).await?;
                self.remember(hash, opened, now);
                opened
            }
        };
        if let Some(opened) = opened {
            lock(&self.used).insert(opened.key_id, db::now());
        }
        Ok(opened)
    }

    fn remember(&self, hash: [u8; 32], opened: Option<Opened>, now: Instant) {
        let mut trusted = lock(&self.trusted);
        if trusted.len() >= MAX_TRUSTED {
            trusted.retain(|_, (_, until)| now < *until);
        }
        match opened {
            Some(opened) if trusted.len() < MAX_TRUSTED => trusted.insert(hash, (opened, now + TRUSTED)),
            _ => trusted.remove(&hash),
        };
    }

    /// Ends a response with its key, if it is a stream.
    pub(crate) fn hold(&self, key_id: Uuid, cut: Option<Cut>, response: Response) -> Response {
        self.streams.hold(key_id, cut, response)
    }

    /// Ends the streams whose keys were revoked or have expired.
    pub(crate) async fn cut_revoked(&self, pool: &Pool) {
        self.streams.cut_revoked(pool).await;
    }

    /// Writes when keys were last used, in one statement for all of them.
    pub async fn flush(&self, pool: &Pool) {
        let used: Vec<_> = std::mem::take(&mut *lock(&self.used)).into_iter().collect();
        if used.is_empty() {
            return;
        }
        let written = async { workspaces::touch_keys(&mut *pool.acquire().await?, &used).await };
        if let Err(error) = written.await {
            tracing::warn!(%error, "when keys were last used is not written yet");
            let mut later = lock(&self.used);
            for (key_id, at) in used {
                later.entry(key_id).or_insert(at);
            }
        }
    }
}

/// The maps are whole even if a thread died while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
