//! A request for a report: its period, filters and table, parsed from the query string.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings;
use crate::error::{Error, Result};
use crate::insight::filters::{FilterBy, Filters};
use crate::insight::period::{Period, PeriodParameters};
use crate::insight::table::{Format, Table};
use crate::query::parameters::Parameters;
use crate::values::Time;

/// The parameters that a report has; any other is rejected.
#[derive(Debug, Clone, Copy)]
pub struct Offers {
    /// Whether it is about a period, which can be compared with another.
    pub period: bool,
    /// Whether the period is divided into intervals.
    pub interval: bool,
    /// The filters.
    pub filters: &'static [FilterBy],
}

/// A request for a report.
#[derive(Debug, Clone)]
pub struct Request {
    /// The time zone of the workspace, which defines the days of segments and health.
    pub zone: Tz,
    /// The period, and the one that it is compared with. A report without a period has none.
    pub periods: Vec<Period>,
    /// The period before the first one.
    pub before: Vec<Period>,
    /// The filters.
    pub filters: Filters,
    /// The requested table.
    pub table: Option<&'static Table>,
    /// A digest of the parameters in one form: requests with the same key share a report.
    pub key: String,
}

impl Request {
    /// Parses the parameters of a report.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault, including parameters that the report does
    /// not have.
    pub fn parse(offers: &Offers, format: Format, pairs: &[(String, String)], zone: Tz, now: Time) -> Result<Self> {
        let mut parameters = Parameters::new(pairs);
        let period = offers.period.then(|| PeriodParameters::take(&mut parameters, offers.interval));
        let filters = Filters::take(&mut parameters, offers.filters);
        let table = format.take(&mut parameters);
        parameters.finish()?;
        let (mut periods, mut before) = (Vec::new(), Vec::new());
        if let Some(parameters) = &period {
            let (asked, comparison) = parameters.resolve(zone, now)?;
            before.push(parameters.before(zone, now)?);
            periods.push(asked);
            if let Some(comparison) = comparison {
                before.push(comparison.before());
                periods.push(comparison);
            }
        }
        let key = format!("{} {} {zone}", period.map(|period| period.key(zone)).unwrap_or_default(), filters.key());
        let key = URL_SAFE_NO_PAD.encode(Sha256::digest(key));
        Ok(Self { zone, periods, before, filters, table, key })
    }

    /// The period of the request.
    ///
    /// # Errors
    /// [`Error::Internal`] for a report without a period.
    pub fn period(&self) -> Result<&Period> {
        self.periods.first().ok_or_else(|| Error::internal("a report about a period was requested without one"))
    }

    /// The periods, each with the one before it.
    pub fn with_those_before(&self) -> impl Iterator<Item = (&Period, &Period)> {
        self.periods.iter().zip(&self.before)
    }

    /// Whether the figures depend on the scores of customers.
    pub fn needs_scores(&self) -> bool {
        self.filters.has(FilterBy::Segment)
    }
}

/// The time zone of a workspace.
pub async fn zone(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Tz> {
    Ok(settings::get(connection, workspace_id).await?.time_zone.get())
}
