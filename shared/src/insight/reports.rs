//! Reports about many records, and how callers share them.
//!
//! A report implements [`Report`] and is served through [`cached`]. A fast report is computed for each
//! caller. A slow report is cached, and callers share it for less than a minute; a cached report that is
//! about to expire is still returned immediately while one process refreshes it in the background.

mod activity;
mod cache;
mod counts;
mod customers;
mod dashboard;
mod headlines;
mod leads;

use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::insight::request::{Offers, Request};
use crate::insight::table::Table;
use crate::values::Time;

pub use activity::{Activity, ActivityType};
pub use cache::{cached, prune};
pub use counts::{Counts, IntervalCount, Spread};
pub use customers::{
    Cohort, CustomerMetrics, CustomerReport, CustomerTotals, CustomersCreated, InteractionMetrics, OrderMetrics,
};
pub use dashboard::{
    CustomerHeadline, Dashboard, DashboardReport, FeedbackHeadline, Followups, JobHeadline, LeadHeadline, OrderHeadline,
};
pub use headlines::{BandChange, HealthHeadline, SegmentChange, SegmentHeadline, ThemeHeadline};
pub use leads::{
    FunnelStage, FunnelStep, LeadMetrics, LeadReport, LeadTotals, LeadsCreated, OutcomeCount, Outcomes, OwnerCount,
    OwnerMetrics, SourceMetrics,
};

/// A report.
pub trait Report: Send + Sync + 'static {
    /// The unique name of the report.
    const NAME: &'static str;
    /// The parameters of the report.
    const OFFERS: Offers;
    /// The tables that can be requested as CSV.
    const TABLES: &'static [Table];
    /// Whether the figures depend on the scores of customers.
    const SHOWS_SCORES: bool = false;
    /// The content of the report. Its `as_of` is the time of the underlying data.
    type Figures: Serialize + ToSchema + Send;

    /// Computes the figures of each of the request's periods, or once for a report without a period, in a
    /// transaction with a snapshot of the data at `as_of` and more memory for sorting and grouping. Must not
    /// write.
    fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> impl Future<Output = Result<Vec<Self::Figures>>> + Send;
}

/// A report as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared<F> {
    #[serde(flatten)]
    figures: F,
    /// The same figures of the period that `compare` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<F>,
}

impl<F> Compared<F> {
    /// The figures of the period, which come first, and those of the other one; `None` without any.
    pub fn new(figures: Vec<F>) -> Option<Self> {
        let mut figures = figures.into_iter();
        Some(Self { figures: figures.next()?, comparison: figures.next() })
    }
}
