//! Authentication of operators by their keys.

use axum::extract::Request;
use shared::accounts::OperatorKey;
use shared::operations::actions::{By, Source};
use shared::operations::operators;

use crate::AppState;
use crate::http::auth::bearer;
use crate::http::headers;
use crate::respond::{Problem, Result};

/// Adds the operator of a request.
///
/// # Errors
/// 400 for two keys; 401, or 429 for an address that sent many wrong keys; 503 while the database is unavailable.
pub(super) async fn authenticate(state: &AppState, mut request: Request) -> Result<Request> {
    headers::check_authorization(request.headers())?;
    let client = request.extensions().get().copied();
    let refused = || {
        state
            .limits
            .reject(client, Problem::new(axum::http::StatusCode::UNAUTHORIZED, "Invalid or missing operator key"))
    };
    let key = bearer(request.headers()).and_then(OperatorKey::parse).ok_or_else(refused)?;
    let operator = operators::open(&mut *state.connection().await?, &key).await?.ok_or_else(refused)?;
    request.extensions_mut().insert(By::operator(&operator, Source::Api));
    Ok(request)
}
