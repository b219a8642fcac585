//! What a key must allow for an operation. The router enforces what the operation declares, and the OpenAPI
//! document lists it.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use shared::accounts::scopes::{Scope, Scopes};
use shared::jobs::{self, JobUse};
use shared::values::Field;
use uuid::Uuid;

use crate::AppState;
use crate::http::auth::Caller;
use crate::respond::{Problem, Result};

/// What a key must allow for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every key is allowed.
    AnyKey,
    /// All of these scopes.
    Scopes(Scopes),
    /// The scope that starts the job's kind, and those of the job's use. Without a job: any scope that starts jobs.
    Job(JobUse),
}

/// What a response shows to keys that may write, but not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Nothing that needs another scope.
    Own,
    /// Records that need this scope. Other keys get their ids.
    Records(Scope),
    /// As [`Shows::Records`], unless the record was created by the request.
    Existing(Scope),
    /// A job, in whose result a preview needs `records:read`.
    Job,
}

/// The rule of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub access: Access,
    /// Whether it returns a whole list without the parameter `limit`, which needs `exports`.
    pub is_list: bool,
    pub shows: Shows,
}

impl Access {
    /// The sets of scopes of which one suffices, for the document.
    pub fn alternatives(self) -> Vec<Scopes> {
        match self {
            Self::AnyKey => vec![Scopes::NONE],
            Self::Scopes(scopes) => vec![scopes],
            Self::Job(usage) => {
                let rows = if usage == JobUse::Rows { Scopes::of(&[Scope::RecordsRead]) } else { Scopes::NONE };
                Scope::STARTING.map(|scope| Scopes::of(&[scope]).and(rows)).to_vec()
            }
        }
    }
}

/// Runs an operation if the key allows it.
///
/// # Errors
/// 403 with the scopes that the key lacks.
pub(crate) async fn enforce(
    State((state, rule)): State<(AppState, Rule)>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else { return Err(Problem::unauthorized()) };
    if caller.scopes.allows(Scope::All) {
        return Ok(next.run(request).await);
    }
    let (has_limit, job_id) = (has_limit(request.uri()), job_id(request.uri()));
    check(&state, &caller, rule, has_limit, job_id).await?;
    let response = next.run(request).await;
    restrict(rule.shows, caller.scopes, response).await
}

async fn check(state: &AppState, caller: &Caller, rule: Rule, has_limit: bool, job_id: Option<Uuid>) -> Result<()> {
    match rule.access {
        Access::AnyKey => Ok(()),
        Access::Scopes(scopes) if rule.is_list && !has_limit => caller.must(scopes.and(Scopes::of(&[Scope::Exports]))),
        Access::Scopes(scopes) => caller.must(scopes),
        Access::Job(usage) => {
            if !Scope::STARTING.iter().any(|scope| caller.scopes.allows(*scope)) {
                return caller.must(Scopes::of(&Scope::STARTING[..1]));
            }
            // The handler answers for a job that does not exist, and for an invalid id.
            let Some(id) = job_id else { return Ok(()) };
            let needed = jobs::needed(&mut *state.connection().await?, caller.workspace_id, id, usage).await?;
            caller.must(needed.unwrap_or(Scopes::NONE))
        }
    }
}

/// Whether the parameter `limit` is given, in whatever way it is written.
fn has_limit(uri: &Uri) -> bool {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.map(|pair| pair.split('=').next().unwrap_or_default()).any(|name| percent_decode_str(name).eq(*b"limit"))
}

/// The id after `/jobs/` in a path.
fn job_id(uri: &Uri) -> Option<Uuid> {
    let (_, rest) = uri.path().rsplit_once("/jobs/")?;
    Uuid::from_text(&percent_decode_str(rest.split('/').next()?).decode_utf8_lossy()).ok()
}

/// Leaves out of a response what a key with these scopes may not read.
async fn restrict(shows: Shows, scopes: Scopes, response: Response) -> Result<Response> {
    let needed = match shows {
        Shows::Own => return Ok(response),
        Shows::Existing(_) if response.status() == StatusCode::CREATED => return Ok(response),
        Shows::Records(scope) | Shows::Existing(scope) => scope,
        Shows::Job => Scope::RecordsRead,
    };
    if scopes.allows(needed) || !response.status().is_success() {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    // Such responses are not streamed, so their handlers have bounded them.
    let bytes = to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(error.to_string()))?;
    if bytes.is_empty() {
        return Ok((head, Body::empty()).into_response());
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| Problem::internal(error.to_string()))?;
    let value = if shows == Shows::Job { without_preview(value) } else { ids(value) };
    head.headers.remove(CONTENT_LENGTH);
    Ok((head, Body::from(value.to_string())).into_response())
}

fn without_preview(mut job: Value) -> Value {
    if let Some(preview) = job.pointer_mut("/result/preview") {
        *preview = Value::Null;
    }
    job
}

/// Reduces each record to its id. Errors of the items of a batch stay.
fn ids(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => match fields.remove("id") {
            Some(id) => Value::Object(Map::from_iter([("id".to_owned(), id)])),
            None => {
                let reduce = |(name, value)| if name == "error" { (name, value) } else { (name, ids(value)) };
                Value::Object(fields.into_iter().map(reduce).collect())
            }
        },
        Value::Array(items) => Value::Array(items.into_iter().map(ids).collect()),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_reduced_to_their_ids() {
        let error = json!({ "message": "taken", "errors": [{ "id": "3", "field": "email", "code": "taken" }] });
        let batch = json!({ "results": [
            { "status": 201, "record": { "id": "1", "name": "Ada" } },
            { "status": 409, "error": error },
        ] });
        let expected = json!({ "results": [
            { "status": 201, "record": { "id": "1" } },
            { "status": 409, "error": error },
        ] });
        assert_eq!(ids(batch), expected);
        let converted = json!({ "customer": { "id": "1", "name": "Ada" }, "lead": { "id": "2", "notes": "x" } });
        assert_eq!(ids(converted), json!({ "customer": { "id": "1" }, "lead": { "id": "2" } }));
        assert_eq!(ids(json!({ "id": "1", "name": "Ada" })), json!({ "id": "1" }));
    }

    #[test]
    fn a_limit_is_found_as_parameters_are_read() {
        let has = |uri: &str| has_limit(&uri.parse().unwrap());
        assert!(has("/leads?limit=1") && has("/leads?q=a&%6cimit=1"));
        assert!(!has("/leads") && !has("/leads?q=limit") && !has("/leads?limits=1"));
    }
}
