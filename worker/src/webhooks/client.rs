//! Requests to receivers: no redirects, no proxies, and limits of time and size.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use shared::platform::config;
use shared::platform::trace::TraceContext;

use super::connector::{Connector, Resolve};

/// The time for everything: finding the address, connecting, sending, and reading the response.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// The idle connections to one receiver.
const IDLE_CONNECTIONS: usize = 8;
/// How much of a response is read, and how much is kept.
const READ: usize = 64 * 1024;
const KEPT: usize = 1024;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("crm-webhooks/", env!("CARGO_PKG_VERSION")));

/// A client for receivers.
pub(super) struct ReceiverClient(Client<HttpsConnector<Connector>, Full<Bytes>>);

/// What a receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of its body.
    pub body: String,
}

/// The headers of a message.
pub(super) struct Message<'a> {
    pub id: &'a str,
    pub timestamp: i64,
    pub signature: &'a str,
    pub headers: &'a BTreeMap<String, String>,
    /// The trace that the receiver continues, if there is one.
    pub trace: Option<&'a TraceContext>,
}

impl ReceiverClient {
    pub fn new(settings: &config::Webhooks, resolve: Resolve) -> anyhow::Result<Self> {
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(Arc::new(settings.clone()), resolve));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a message, and returns the answer or why there is none.
    pub async fn post(&self, url: &str, message: Message<'_>, body: Bytes) -> Result<Answer, String> {
        match tokio::time::timeout(TIMEOUT, self.exchange(url, message, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("the receiver did not answer within {} seconds", TIMEOUT.as_secs())),
        }
    }

    async fn exchange(&self, url: &str, message: Message<'_>, body: Bytes) -> Result<Answer, String> {
        let mut request = Request::post(url).body(Full::new(body)).map_err(|_| "the URL is invalid".to_owned())?;
        *request.headers_mut() = message.header_map()?;
        let mut response = self.0.request(request).await.map_err(|error| describe(&error))?;
        let retry_after = retry_after(response.headers(), Utc::now());
        let body = beginning(&mut response).await?;
        Ok(Answer { status: response.status().as_u16(), retry_after, body })
    }
}

impl Message<'_> {
    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(7 + self.headers.len());
        let own = [
            ("webhook-id", self.id),
            ("webhook-timestamp", &self.timestamp.to_string()),
            ("webhook-signature", self.signature),
        ];
        let further = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let trace = self.trace.map(|trace| ("traceparent", trace.parent()));
        let state = self.trace.and_then(|trace| Some(("tracestate", trace.state()?)));
        for (name, value) in further.chain(own).chain(trace).chain(state) {
            let name = HeaderName::try_from(name).map_err(|_| "a header is invalid")?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|_| "a header is invalid")?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, AGENT);
        Ok(headers)
    }
}

/// Reads a response up to the limit, and returns the beginning as text. What is left of a longer one is not read: its
/// connection is closed.
async fn beginning(response: &mut Response<Incoming>) -> Result<String, String> {
    let (mut kept, mut read) = (Vec::new(), 0);
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| describe(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        kept.extend_from_slice(&data[..data.len().min(KEPT.saturating_sub(kept.len()))]);
        read += data.len();
        if read >= READ {
            break;
        }
    }
    // PostgreSQL stores no NUL, and the last character may be cut.
    let text = String::from_utf8_lossy(&kept).replace('\0', "");
    Ok(if kept.len() == KEPT { text.trim_end_matches('\u{fffd}').to_owned() } else { text })
}

/// Reads `Retry-After`: seconds, or a time.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok()
}

/// The innermost reason of an error.
fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut reason = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_asks_to_wait_for_seconds_or_until_a_time() {
        let now = DateTime::parse_from_rfc3339("2026-11-30T09:30:00Z").unwrap().to_utc();
        let wait = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Mon, 30 Nov 2026 09:31:00 GMT"), Some(60));
        for nothing in ["Mon, 30 Nov 2026 09:29:00 GMT", "-1", "soon", ""] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
