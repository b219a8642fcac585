//! `/dev/crm/me`: who the caller is, and which limits apply to it.

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use shared::accounts::identity::{self, CallerKey, CallerWorkspace, Identity};
use shared::accounts::scopes::{Scope, Scopes};
use shared::accounts::workspaces::{self, OwnLimit};
use shared::mail::place;
use shared::query::MAX_LIMIT;
use shared::records::MAX_BATCH;
use utoipa::ToSchema;

use crate::AppState;
use crate::extract::NoQuery;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists::MAX_URL;
use crate::respond::reply::Reply;

pub(crate) fn operations() -> Vec<Operation> {
    let me = Operation::get("/me", read)
        .needs_no_scope()
        .named("get", "Get the caller")
        .about(
            "The workspace and the name of the key, what the key may do, and which limits apply. A `limits` field that \
             is `null` has no limit. `email_hold` is why no email leaves. Needs no scope, so it is the request to \
             check a key with.",
        )
        .returns::<Me>(200, "The caller.");
    tagged("Account", [me])
}

/// The caller, and the limits that apply to it.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// The workspace of the key.
    workspace: CallerWorkspace,
    /// The key that the request was sent with.
    key: CallerKey,
    /// What the key may do; `*` is everything.
    #[schema(value_type = Vec<Scope>)]
    scopes: Scopes,
    /// The limits of requests.
    limits: CallerLimits,
    /// Why no email leaves this installation until an operator releases it; `null` while email is not on hold.
    #[schema(example = "email is on hold: an operator holds it")]
    email_hold: Option<String>,
}

/// The limits of requests with this key.
#[derive(Debug, Serialize, ToSchema)]
struct CallerLimits {
    /// Requests per minute.
    requests_per_minute: Option<u32>,
    /// Requests that can be sent at once after a pause.
    burst: Option<u32>,
    /// Bytes of a URL's path and query.
    url_bytes: usize,
    /// Bytes of a body that is neither a batch nor an upload.
    body_bytes: usize,
    /// Bytes of the body of a batch.
    batch_bytes: usize,
    /// Items of a batch.
    batch_items: usize,
    /// Bytes of an uploaded file.
    upload_bytes: u64,
    /// Records of a page.
    page_records: u32,
}

impl CallerLimits {
    fn of(state: &AppState, own: OwnLimit) -> Self {
        let api = &state.settings.api;
        let quota = state.limits.of(own);
        Self {
            requests_per_minute: quota.map(|quota| quota.per_minute),
            burst: quota.map(|quota| quota.burst),
            url_bytes: MAX_URL,
            body_bytes: api.max_body_bytes,
            batch_bytes: api.max_batch_bytes,
            batch_items: MAX_BATCH,
            upload_bytes: state.settings.imports.max_bytes,
            page_records: MAX_LIMIT,
        }
    }
}

async fn read(State(state): State<AppState>, caller: Caller, _: NoQuery) -> Result {
    let Caller { workspace_id, key_id, scopes, .. } = caller;
    let mut connection = state.connection().await?;
    let Identity { workspace, key } = identity::get(&mut connection, workspace_id, key_id).await?;
    let limits = CallerLimits::of(&state, workspaces::own_limit(&mut connection, workspace_id).await?);
    let email_hold =
        place::status(&mut connection, state.settings.own_url()).await?.hold().map(|hold| hold.to_string());
    Ok(Reply::json(&Me { workspace, key, scopes, limits, email_hold })?.into_response())
}
