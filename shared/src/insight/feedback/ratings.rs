//! Ratings from 1 to 5, and what follows from them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::insight::ratio::Rate;

/// The 97.5 % quantile of the normal distribution, for intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Ratings from 1 to 5.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackRatings)]
pub struct Ratings {
    /// The number of ratings.
    pub n: i64,
    /// The mean rating; `null` without ratings.
    pub mean_rating: Option<f64>,
    /// The number of ratings of each value.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub distribution: BTreeMap<i16, i64>,
    /// The customer satisfaction score.
    pub csat: Csat,
    /// The net promoter score.
    pub nps: Nps,
}

/// The customer satisfaction score: the share of ratings of 4 and 5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Csat {
    /// The number of ratings of 4 and 5.
    pub numerator: i64,
    /// The number of all ratings.
    pub denominator: i64,
    /// The share; `null` without ratings.
    pub rate: Option<f64>,
    /// The lower bound of the 95 % Wilson interval of the share.
    pub low: Option<f64>,
    /// The upper bound of that interval.
    pub high: Option<f64>,
}

/// A net promoter score over ratings from 1 to 5: the share of 5 minus the share of 1 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Nps {
    /// The number of ratings of 5.
    pub promoters: i64,
    /// The number of ratings of 4.
    pub passives: i64,
    /// The number of ratings of 1 to 3.
    pub detractors: i64,
    /// The number of all ratings.
    pub n: i64,
    /// The score, from −1 to 1; `null` without ratings.
    pub value: Option<f64>,
}

impl Ratings {
    /// The figures of these numbers of ratings of 1, 2, 3, 4 and 5.
    pub fn new(counts: [i64; 5]) -> Self {
        let n = counts.iter().sum();
        let sum: i64 = counts.iter().zip(1..).map(|(count, rating)| count * rating).sum();
        let [.., passives, promoters] = counts;
        let detractors = n - passives - promoters;
        let (low, high) = wilson(passives + promoters, n).unzip();
        Self {
            n,
            mean_rating: Rate::new(sum, n).rate,
            distribution: (1..).zip(counts).collect(),
            csat: Csat {
                numerator: passives + promoters,
                denominator: n,
                rate: Rate::new(passives + promoters, n).rate,
                low,
                high,
            },
            nps: Nps { promoters, passives, detractors, n, value: Rate::new(promoters - detractors, n).rate },
        }
    }
}

/// The 95 % interval of a share after Wilson (1927), which is also valid for few ratings and extreme shares:
/// both solutions p of (share − p)² = z²·p·(1 − p)/n.
#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn wilson(numerator: i64, n: i64) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let (share, n) = (numerator as f64 / n as f64, n as f64);
    let z2 = Z * Z;
    let center = share + z2 / (2.0 * n);
    let margin = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let whole = 1.0 + z2 / n;
    Some((((center - margin) / whole).max(0.0), ((center + margin) / whole).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `docs/insight/feedback.md`.
    #[test]
    fn the_worked_example() {
        let ratings = Ratings::new([1, 0, 1, 2, 6]);
        assert_eq!((ratings.n, ratings.mean_rating), (10, Some(4.2)));
        assert_eq!((ratings.csat.numerator, ratings.csat.rate), (8, Some(0.8)));
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 0.000_05;
        assert!(near(ratings.csat.low, 0.4902) && near(ratings.csat.high, 0.9433), "{ratings:?}");
        assert_eq!((ratings.nps.promoters, ratings.nps.detractors, ratings.nps.value), (6, 2, Some(0.4)));
    }

    #[test]
    fn without_ratings_there_are_no_scores() {
        let ratings = Ratings::new([0; 5]);
        assert_eq!((ratings.n, ratings.mean_rating, ratings.csat.low, ratings.nps.value), (0, None, None, None));
        assert_eq!(ratings.distribution.values().sum::<i64>(), 0);
    }

    #[test]
    fn an_interval_lies_within_0_and_1() {
        for n in 1..200 {
            for numerator in [0, 1, n / 2, n] {
                let (low, high) = wilson(numerator, n).unwrap();
                let share = Rate::new(numerator, n).rate.unwrap();
                assert!(
                    0.0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1.0,
                    "{numerator} of {n}"
                );
            }
        }
    }
}
