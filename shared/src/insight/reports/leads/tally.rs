//! The figures of leads, added up in one pass over all of them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Scope;
use crate::crm::leads::{LeadSource, LeadStatus};
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;
use crate::insight::reports::counts::Spread;
use crate::values::Time;

/// The number of stages after the first.
pub(super) const STAGES: usize = 6;

type At = Option<DateTime<Utc>>;

/// The columns of a lead that the report is about: its source, status, owner, score and creation, when it was first
/// `contacted`, `qualified`, in `proposal`, in `negotiation`, `converted` and `won`, and when it was `lost`.
type Row = (LeadSource, LeadStatus, Option<Uuid>, f64, DateTime<Utc>, At, At, At, At, At, At, At);

const COLUMNS: &str = "source, status, assigned_to, score, created_at, contacted_at, qualified_at, proposal_at, \
                       negotiation_at, converted_at, won_at, lost_at";

struct Lead {
    source: LeadSource,
    status: LeadStatus,
    owner: Option<Uuid>,
    score: f64,
    created_at: Time,
    /// When it was first in each of the stages.
    reached_at: [At; STAGES],
    lost_at: At,
}

impl Lead {
    fn new(row: Row) -> Self {
        let (
            source,
            status,
            owner,
            score,
            created_at,
            contacted,
            qualified,
            proposal,
            negotiation,
            converted,
            won,
            lost,
        ) = row;
        let reached_at = [contacted, qualified, proposal, negotiation, converted, won];
        Self { source, status, owner, score, created_at, reached_at, lost_at: lost }
    }

    fn is_converted(&self) -> bool {
        matches!(self.status, LeadStatus::Converted | LeadStatus::Won)
    }

    /// When it was converted, won and lost.
    fn outcomes_at(&self) -> [At; 3] {
        let [.., converted, won] = self.reached_at;
        [converted, won, self.lost_at]
    }

    /// The days from its creation. An imported lead may have reached a stage before, which counts as 0 days.
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    fn days_to(&self, time: Time) -> f64 {
        let micros = time.timestamp_micros() - self.created_at.timestamp_micros();
        (micros as f64 / 86_400_000_000.0).max(0.0)
    }
}

/// Leads, and those that are now converted or won.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Converted {
    pub leads: i64,
    pub conversions: i64,
}

impl Converted {
    fn add(&mut self, lead: &Lead) {
        self.leads += 1;
        self.conversions += i64::from(lead.is_converted());
    }
}

/// Leads by owner; unassigned ones are an owner of their own.
pub(super) type Owners = HashMap<Option<Uuid>, Converted>;

/// All leads, and those of each period.
#[derive(Debug)]
pub(super) struct Tally {
    /// The number of leads by status and by source, in the order of the words.
    pub by_status: Vec<i64>,
    pub by_source: Vec<i64>,
    pub owners: Owners,
    pub periods: Vec<InPeriod>,
}

/// The leads created in a period, and what happened in it.
#[derive(Debug)]
pub(super) struct InPeriod {
    from: Time,
    to: Time,
    /// The starts of its intervals.
    starts: Vec<Time>,
    pub all: Converted,
    pub lost: i64,
    pub score: f64,
    /// The leads that have reached each stage: it or a later one.
    pub reached: [i64; STAGES],
    pub by_source: Vec<Converted>,
    pub owners: Owners,
    /// The leads created in each interval, and those converted, won and lost in it.
    pub created: Vec<i64>,
    pub outcomes: Vec<[i64; 3]>,
    /// The days to each stage, of the leads that were in it, and to the first conversion.
    days: [Vec<f64>; STAGES],
    to_convert: Vec<f64>,
}

/// Reads all leads that match the filters once, whatever the number of periods.
pub(super) async fn tally(connection: &mut PgConnection, scope: Scope<'_>, periods: &[Period]) -> Result<Tally> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM leads WHERE workspace_id = "));
    sql.push_bind(scope.workspace_id);
    scope.filters.push_leads(&mut sql);
    let mut tally = Tally {
        by_status: vec![0; LeadStatus::ALL.len()],
        by_source: vec![0; LeadSource::ALL.len()],
        owners: Owners::new(),
        periods: periods.iter().map(InPeriod::new).collect(),
    };
    let mut rows = sql.build().fetch(connection);
    while let Some(row) = rows.try_next().await? {
        tally.add(&Lead::new(Row::from_row(&row)?));
    }
    Ok(tally)
}

impl Tally {
    fn add(&mut self, lead: &Lead) {
        self.by_status[lead.status as usize] += 1;
        self.by_source[lead.source as usize] += 1;
        self.owners.entry(lead.owner).or_default().add(lead);
        self.periods.iter_mut().for_each(|period| period.add(lead));
    }
}

impl InPeriod {
    fn new(period: &Period) -> Self {
        let starts = period.bucket_starts();
        Self {
            from: period.from,
            to: period.to,
            all: Converted::default(),
            lost: 0,
            score: 0.0,
            reached: [0; STAGES],
            by_source: vec![Converted::default(); LeadSource::ALL.len()],
            owners: Owners::new(),
            created: vec![0; starts.len()],
            outcomes: vec![[0; 3]; starts.len()],
            days: Default::default(),
            to_convert: Vec::new(),
            starts,
        }
    }

    fn add(&mut self, lead: &Lead) {
        for (outcome, at) in lead.outcomes_at().into_iter().enumerate() {
            if let Some(interval) = at.and_then(|at| self.interval(at)) {
                self.outcomes[interval][outcome] += 1;
            }
        }
        if let Some(interval) = self.interval(lead.created_at) {
            self.created[interval] += 1;
            self.add_created(lead);
        }
    }

    fn add_created(&mut self, lead: &Lead) {
        self.all.add(lead);
        self.by_source[lead.source as usize].add(lead);
        self.owners.entry(lead.owner).or_default().add(lead);
        self.lost += i64::from(lead.status == LeadStatus::Lost);
        self.score += lead.score;
        let stages = lead.reached_at.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.reached[..stages].iter_mut().for_each(|leads| *leads += 1);
        for (days, at) in self.days.iter_mut().zip(lead.reached_at) {
            days.extend(at.map(|at| lead.days_to(at)));
        }
        if lead.is_converted() {
            let [converted, won, _] = lead.outcomes_at();
            self.to_convert.extend(converted.into_iter().chain(won).min().map(|first| lead.days_to(first)));
        }
    }

    /// The interval of a time in the period.
    fn interval(&self, at: Time) -> Option<usize> {
        (self.from <= at && at < self.to)
            .then(|| self.starts.partition_point(|start| *start <= at).checked_sub(1))
            .flatten()
    }

    /// The median number of days to each stage.
    pub fn median_days(&mut self) -> [Option<f64>; STAGES] {
        std::array::from_fn(|stage| median(&mut self.days[stage]))
    }

    /// The days to the first conversion.
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    pub fn days_to_convert(&mut self) -> Spread {
        let (sum, count) = (self.to_convert.iter().sum::<f64>(), self.to_convert.len());
        Spread { mean: (count > 0).then(|| sum / count as f64), median: median(&mut self.to_convert) }
    }
}

/// The middle value, or the mean of the two middle values.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let is_odd = values.len() % 2 == 1;
    let (lower, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let below = lower.iter().copied().max_by(f64::total_cmp).filter(|_| !is_odd);
    Some(below.map_or(*upper, |below| f64::midpoint(below, *upper)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        for (values, expected) in
            [(vec![], None), (vec![3.0], Some(3.0)), (vec![4.0, 1.0], Some(2.5)), (vec![9.0, 1.0, 2.0], Some(2.0))]
        {
            assert_eq!(median(&mut values.clone()), expected, "{values:?}");
        }
    }
}
