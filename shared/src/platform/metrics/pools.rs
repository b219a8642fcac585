//! Metrics of the connection pools of a process.

use std::sync::{Mutex, PoisonError};

use super::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Page};
use crate::platform::db::Pool;

/// From a connection that is free to one for which somebody waited as long as the settings allow by default.
const BOUNDS: [f64; 8] = [0.0001, 0.001, 0.01, 0.05, 0.25, 1.0, 2.5, 5.0];

/// The metrics of pools, by the pool's name.
#[derive(Debug)]
pub struct PoolMetrics {
    connections: IntGaugeVec,
    max_connections: IntGaugeVec,
    waiting: IntGaugeVec,
    acquire: HistogramVec,
    failures: IntCounterVec,
    pools: Mutex<Vec<(&'static str, Pool)>>,
}

/// What one pool counts.
#[derive(Debug)]
pub struct PoolHandles {
    pub(crate) waiting: IntGauge,
    pub(crate) acquire: Histogram,
    pub(crate) failures: IntCounter,
}

impl PoolMetrics {
    pub(super) fn new(page: &Page) -> Self {
        Self {
            connections: page.counts(
                "crm_db_pool_connections",
                "Open connections of a pool to the database, by what they do.",
                &["pool", "state"],
            ),
            max_connections: page.counts(
                "crm_db_pool_max_connections",
                "The most connections that a pool opens.",
                &["pool"],
            ),
            waiting: page.counts("crm_db_pool_waiting", "Callers that wait for a connection of a pool.", &["pool"]),
            acquire: page.histograms(
                "crm_db_pool_acquire_seconds",
                "How long callers waited for a connection of a pool, whether they got one or not.",
                &BOUNDS,
                &["pool"],
            ),
            failures: page.counters(
                "crm_db_pool_failures_total",
                "Callers that got no connection, because none was free in time or the database could not be reached.",
                &["pool"],
            ),
            pools: Mutex::default(),
        }
    }

    /// Adds a pool.
    pub fn add(&self, name: &'static str, pool: &Pool) {
        pool.count_with(PoolHandles {
            waiting: self.waiting.with_label_values(&[name]),
            acquire: self.acquire.with_label_values(&[name]),
            failures: self.failures.with_label_values(&[name]),
        });
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push((name, pool.clone()));
    }

    pub(super) fn refresh(&self) {
        for (name, pool) in self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (open, idle, max) = pool.size();
            let set = |gauge: &IntGaugeVec, labels: &[&str], value: usize| {
                gauge.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.connections, &[name, "idle"], idle);
            set(&self.connections, &[name, "used"], open.saturating_sub(idle));
            set(&self.max_connections, &[name], max);
        }
    }
}
