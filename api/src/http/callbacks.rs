//! The query parameters of every request that starts a job, which say who wants to know its end.

use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::webhooks::callbacks::PARAMETERS;

use crate::extract::Query;

/// The parameters as they were given; an extension of the request.
#[derive(Debug, Clone)]
pub struct CallbackParameters(pub Vec<(String, String)>);

/// Takes the parameters out of the query string, so that handlers need not know them. What starts a job reads them.
pub async fn take(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let names = |pair: &&str| PARAMETERS.contains(&pair.split('=').next().unwrap_or_default());
    let query = parts.uri.query().unwrap_or_default();
    if query.split('&').any(|pair| names(&pair)) {
        let all = match Query::from_request_parts(&mut parts, &()).await {
            Ok(Query(all)) => all,
            Err(problem) => return problem.into_response(),
        };
        let query = parts.uri.query().unwrap_or_default();
        let others: Vec<&str> = query.split('&').filter(|pair| !names(pair)).collect();
        parts.uri = with_query(&parts.uri, &others.join("&"));
        let own = all.into_iter().filter(|(name, _)| PARAMETERS.contains(&name.as_str()));
        parts.extensions.insert(CallbackParameters(own.collect()));
    }
    next.run(Request::from_parts(parts, body)).await
}

/// The same URI with another query string, which is a part of the present one.
fn with_query(uri: &Uri, query: &str) -> Uri {
    let separator = if query.is_empty() { "" } else { "?" };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(format!("{}{separator}{query}", uri.path())).ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_string_keeps_its_other_parameters() {
        let uri: Uri = "/leads/import?key=id&webhook_id=1".parse().unwrap();
        assert_eq!(with_query(&uri, "key=id").to_string(), "/leads/import?key=id");
        assert_eq!(with_query(&uri, "").to_string(), "/leads/import");
    }
}
