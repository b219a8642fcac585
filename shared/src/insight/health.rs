//! Customer health: a score from 0 to 100, with its parts and the facts that each part follows from.
//!
//! [`Health::of`] computes health from the [`Facts`] of a customer as of a day: for a single customer, for
//! all customers in the nightly snapshot, and for customers whose records changed. `docs/insight/health.md`
//! explains the formulas, with reasons and an example.

mod history;
mod parts;
mod snapshot;

use serde::Serialize;
use utoipa::ToSchema;

use crate::crm::customers::Band;
use crate::insight::scoring::Facts;
use crate::string_enum;

pub use history::{CustomerHealth, Snapshot, TABLES, Trend, get};
pub use parts::{Part, PartName};
pub use snapshot::{SnapshotHealth, prune};

/// The maxima of the parts with data that a score needs for a band: 30 of 100.
const LEAST_COVERED: i64 = 30;

string_enum! {
    /// A health band, or none, by which customers are counted.
    HealthBand {
        /// 70 and above.
        Healthy = "healthy",
        /// From 40 to 69.
        Watch = "watch",
        /// Below 40.
        AtRisk = "at_risk",
        /// The coverage of the score is below 0.3, or there is no score.
        None = "none",
    }
}

impl HealthBand {
    /// The band.
    pub fn band(self) -> Option<Band> {
        match self {
            Self::Healthy => Some(Band::Healthy),
            Self::Watch => Some(Band::Watch),
            Self::AtRisk => Some(Band::AtRisk),
            Self::None => None,
        }
    }
}

impl Band {
    /// The band of a score.
    pub fn of(score: i16) -> Self {
        match score {
            70.. => Self::Healthy,
            40..70 => Self::Watch,
            _ => Self::AtRisk,
        }
    }
}

/// The health of a customer on a day.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Health {
    /// The score from 0 to 100: the points of the parts with data, as a percentage of their maxima; `null`
    /// without any data.
    pub score: Option<i16>,
    /// The band of the score; `null` if its coverage is below 0.3.
    pub band: Option<Band>,
    /// The share of the score that has data: the maxima of the parts with data, divided by 100.
    pub coverage: f64,
    /// The parts of the score. A part without data has no points and does not count.
    pub parts: Vec<Part>,
}

impl Health {
    /// Computes the health from the facts.
    pub fn of(facts: &Facts) -> Self {
        let parts = Part::all(facts);
        let known = || parts.iter().filter_map(|part| part.hundredths().map(|points| (points, part.maximum)));
        let maximum: i64 = known().map(|(_, maximum)| maximum).sum();
        // Hundredths of points divided by whole maxima are the percentage, rounded half up.
        let points: i64 = known().map(|(points, _)| points).sum();
        let score = (maximum > 0).then(|| (2 * points + maximum) / (2 * maximum));
        let score = score.and_then(|score| i16::try_from(score).ok());
        #[expect(clippy::cast_precision_loss, reason = "it is at most 100")]
        let coverage = maximum as f64 / 100.0;
        let band = score.filter(|_| maximum >= LEAST_COVERED).map(Band::of);
        Self { score, band, coverage, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_start_at_40_and_70() {
        let bands = [0, 39, 40, 69, 70, 100].map(Band::of);
        assert_eq!(bands, [Band::AtRisk, Band::AtRisk, Band::Watch, Band::Watch, Band::Healthy, Band::Healthy]);
    }

    #[test]
    fn a_customer_without_data_has_no_score() {
        let health = Health::of(&Facts::default());
        assert_eq!((health.score, health.band, health.coverage), (None, None, 0.0));
        assert!(health.parts.iter().all(|part| part.points.is_none()));
        assert_eq!(health.parts.iter().map(|part| part.maximum).sum::<i64>(), 100);
    }

    /// The example of `docs/insight/health.md`.
    #[test]
    fn the_worked_example() {
        let facts = Facts {
            last_order_age: Some(45),
            order_ages: vec![45, 75, 105, 135],
            quantity: 9,
            met_ages: vec![0, 30, 60],
            support_ages: vec![30],
            actions: 2,
            action_ages: vec![10],
            action_met_ages: vec![60],
            ratings: vec![5, 4, 3],
            ..Facts::default()
        };
        let health = Health::of(&facts);
        let points: Vec<(&str, Option<f64>)> =
            health.parts.iter().map(|part| (part.name.as_str(), part.points)).collect();
        assert_eq!(
            points,
            [
                ("order_recency", Some(22.5)),
                ("order_trend", Some(15.0)),
                ("engagement", Some(14.05)),
                ("feedback", Some(15.0)),
                ("support_load", Some(8.0)),
                ("next_actions", Some(5.0)),
            ]
        );
        assert_eq!((health.score, health.band, health.coverage), (Some(80), Some(Band::Healthy), 1.0));
    }

    #[test]
    fn parts_without_data_are_left_out_and_the_rest_is_scaled() {
        let facts = Facts { ratings: vec![4], ..Facts::default() };
        let health = Health::of(&facts);
        assert_eq!((health.score, health.coverage), (Some(75), 0.2));
    }

    #[test]
    fn a_score_of_little_data_has_no_band() {
        // A rating alone says too little; with a next action, 25 of 100 points are known.
        let rated = Facts { ratings: vec![5], ..Facts::default() };
        let planned = Facts { actions: 1, ..rated.clone() };
        for (facts, coverage) in [(&rated, 0.2), (&planned, 0.25)] {
            let health = Health::of(facts);
            assert_eq!((health.score, health.band, health.coverage), (Some(100), None, coverage));
        }
        // Engagement 20, support load 10: just enough.
        let met = Facts { met_ages: vec![0; 10], ..Facts::default() };
        let health = Health::of(&met);
        assert_eq!((health.band, health.coverage), (Some(Band::Healthy), 0.3));
    }

    #[test]
    fn bands_are_counted_by_their_names() {
        let names: Vec<_> =
            HealthBand::ALL.iter().filter_map(|band| Some((band.band()?.as_str(), band.as_str()))).collect();
        assert!(names.len() == Band::ALL.len() && names.iter().all(|(band, counted)| band == counted));
    }
}
