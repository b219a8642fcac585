//! Metrics for operators, in Prometheus' text format.
//!
//! A program declares its metrics once and keeps their handles, so that counting costs an atomic. Values that
//! something else knows, such as the number of open connections, are set when a page is rendered.

mod pools;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

pub use pools::{PoolHandles, PoolMetrics};
pub use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::platform::db::CLOCK;

/// The type of the pages.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The commit that the program was built from, if whoever built it said so.
const REVISION: &str = match option_env!("CRM_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// The metrics of a page.
#[derive(Debug, Clone, Default)]
pub struct Page(Registry);

impl Page {
    /// Declares a counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    /// Declares counters with labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// Declares a gauge of a number.
    pub fn count(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    /// Declares gauges of numbers with labels.
    pub fn counts(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// Declares a gauge of a measure.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    /// Declares gauges of measures with labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    /// Declares a histogram with the upper bounds of its buckets.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec())))
    }

    /// Declares histograms with labels.
    pub fn histograms(&self, name: &str, help: &str, bounds: &[f64], labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels))
    }

    /// Names are literals, so a wrong or repeated one is a defect that the first start of the program shows.
    #[expect(clippy::expect_used, reason = "names are literals, which every start checks")]
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("metrics have valid names");
        self.0.register(Box::new(metric.clone())).expect("metrics have different names");
        metric
    }

    /// The page. Metrics without a value are left out.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be rendered");
            String::new()
        })
    }
}

/// What both programs report about themselves.
#[derive(Debug)]
pub struct ProcessMetrics {
    database_up: IntGauge,
    clock_skew: Gauge,
    /// The pools of the process.
    pub pools: PoolMetrics,
}

impl ProcessMetrics {
    /// Declares the metrics of a program.
    pub fn new(page: &Page, program: &str, version: &str) -> Self {
        let build =
            page.counts("crm_build_info", "Always 1. The labels say what runs.", &["program", "version", "revision"]);
        build.with_label_values(&[program, version, REVISION]).set(1);
        // Fails only if another collector has its names.
        let _ = page.0.register(Box::new(ProcessCollector::for_self()));
        Self {
            database_up: page
                .count("crm_database_up", "Whether the database answered when this process last asked it."),
            clock_skew: page.gauge(
                "crm_clock_skew_seconds",
                "How far this machine's clock is ahead of the database's; negative if it is behind.",
            ),
            pools: PoolMetrics::new(page),
        }
    }

    /// Sets what is read when the page is rendered.
    pub fn refresh(&self, is_database_up: bool) {
        self.database_up.set(i64::from(is_database_up));
        self.clock_skew.set(CLOCK.skew_seconds());
        self.pools.refresh();
    }
}
