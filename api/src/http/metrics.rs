//! The metrics of this process.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::http::StatusCode;
use shared::platform::metrics::{HistogramVec, IntCounter, IntCounterVec, IntGauge, Page, ProcessMetrics};

/// Bounds for the time of requests.
const TIMES: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// All metrics of the API.
#[derive(Debug)]
pub struct HttpMetrics {
    page: Page,
    /// What both programs report.
    pub(crate) process: ProcessMetrics,
    is_database_up: AtomicBool,
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGauge,
    abandoned: IntCounterVec,
    rejections: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) max_connections: IntGauge,
    uploads: IntGauge,
    upload_bytes: IntCounter,
}

/// Why a request or a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// A key has used its requests.
    RateLimit,
    /// An address has used its requests.
    AddressRateLimit,
    /// The process has as many connections as it may.
    ConnectionLimit,
    /// An address has as many connections as it may.
    AddressConnectionLimit,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 408: the body did not arrive in time.
    Timeout,
    /// 413.
    TooLarge,
    /// 431.
    HeadersTooLarge,
    /// 503.
    Unavailable,
}

impl Rejection {
    const ALL: [Self; 10] = [
        Self::RateLimit,
        Self::AddressRateLimit,
        Self::ConnectionLimit,
        Self::AddressConnectionLimit,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Timeout,
        Self::TooLarge,
        Self::HeadersTooLarge,
        Self::Unavailable,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::AddressRateLimit => "address_rate_limit",
            Self::ConnectionLimit => "connection_limit",
            Self::AddressConnectionLimit => "address_connection_limit",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Unavailable => "unavailable",
        }
    }

    /// The reason that a status says; a 429 has several.
    fn of(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::UNAUTHORIZED => Some(Self::Unauthorized),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            StatusCode::REQUEST_TIMEOUT => Some(Self::Timeout),
            StatusCode::PAYLOAD_TOO_LARGE => Some(Self::TooLarge),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Self::HeadersTooLarge),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            _ => None,
        }
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let (page, route) = (Page::default(), ["method", "route"]);
        let rejections = page.counters(
            "crm_http_rejections_total",
            "Requests and connections that were turned away, by reason.",
            &["reason"],
        );
        for rejection in Rejection::ALL {
            rejections.with_label_values(&[rejection.label()]);
        }
        Self {
            process: ProcessMetrics::new(&page, "crm-api", env!("CARGO_PKG_VERSION")),
            is_database_up: AtomicBool::new(false),
            requests: page.counters(
                "crm_http_requests_total",
                "Requests that were answered.",
                &["method", "route", "status"],
            ),
            durations: page.histograms(
                "crm_http_request_duration_seconds",
                "Time from the head of a request to the head of its response.",
                &TIMES,
                &route,
            ),
            in_flight: page.count("crm_http_requests_in_flight", "Requests that have no response yet."),
            abandoned: page.counters(
                "crm_http_requests_abandoned_total",
                "Requests whose clients disconnected before the response.",
                &route,
            ),
            rejections,
            connections: page.count("crm_http_connections", "Open connections of clients."),
            max_connections: page.count("crm_http_max_connections", "The most connections of clients."),
            uploads: page.count("crm_uploads_in_progress", "Files that are being received."),
            upload_bytes: page.counter("crm_upload_bytes_total", "Bytes of files received."),
            page,
        }
    }
}

impl HttpMetrics {
    /// Counts a request that begins.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, method: &str, route: &str, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[method, route, status.as_str()]).inc();
        self.durations.with_label_values(&[method, route]).observe(took.as_secs_f64());
        if let Some(rejection) = Rejection::of(status) {
            self.rejected(rejection);
        }
    }

    /// Counts a request whose client disconnected.
    pub(crate) fn abandoned(&self, method: &str, route: &str) {
        self.abandoned.with_label_values(&[method, route]).inc();
    }

    /// Counts what was turned away.
    pub(crate) fn rejected(&self, rejection: Rejection) {
        self.rejections.with_label_values(&[rejection.label()]).inc();
    }

    /// Counts a file that is being received.
    pub(crate) fn receive(&self) -> Receiving<'_> {
        self.uploads.inc();
        Receiving(self)
    }

    /// Records whether the database answers.
    pub(crate) fn found_database(&self, is_up: bool) {
        self.is_database_up.store(is_up, Relaxed);
    }

    /// The page, with the present values.
    pub(crate) fn render(&self) -> String {
        self.process.refresh(self.is_database_up.load(Relaxed));
        self.page.render()
    }
}

/// A request without a response.
pub(crate) struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A file that is being received.
pub(crate) struct Receiving<'a>(&'a HttpMetrics);

impl Receiving<'_> {
    /// Counts a piece of the file.
    pub fn piece(&self, bytes: usize) {
        self.0.upload_bytes.inc_by(bytes as u64);
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.uploads.dec();
    }
}
