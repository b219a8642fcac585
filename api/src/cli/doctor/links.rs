//! Links in emails: whether `public_url` leads to this API.

use std::error::Error;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use shared::doctor::{Finding, Level};
use shared::platform::config::Settings;
use tokio_rustls::rustls::crypto::ring;

use super::within;

const CHECK: &str = "links";
/// The most that a check of links takes.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns nothing if `public_url` is not set, which a warning of the settings says.
pub(super) async fn check(settings: &Settings, limit: Duration) -> Option<Finding> {
    let url = settings.own_url()?;
    let found = within(CHECK, limit.min(LIMIT), examine(url)).await;
    // Some networks do not let a server reach its own public address.
    let level = if found.level == Level::Fault { Level::Warning } else { found.level };
    Some(Finding { level, ..found })
}

async fn examine(url: &str) -> Finding {
    let action = "Check the proxy and DNS, or correct public_url.";
    match answer(&format!("{url}/healthz")).await {
        Ok(StatusCode::OK) => Finding::ok(CHECK, format!("{url} leads to the API.")),
        Ok(status) => Finding::fault(CHECK, format!("{url}/healthz answers {status}."), action),
        Err(reason) => Finding::fault(CHECK, format!("{url} cannot be reached from here: {reason}."), action),
    }
}

async fn answer(url: &str) -> Result<StatusCode, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(ring::default_provider())
        .map_err(|error| error.to_string())?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(url).body(Empty::<Bytes>::new()).map_err(|_| "it is not a valid URL".to_owned())?;
    client.request(request).await.map(|response| response.status()).map_err(|error| innermost(&error))
}

/// The last cause says most.
fn innermost(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => innermost(cause),
        None => error.to_string(),
    }
}
