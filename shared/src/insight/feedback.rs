//! Feedback analytics: response rates and ratings.
//!
//! A request belongs to the period in which it was sent, a rating to the period in which it was given. So the
//! response rate of a period still rises with late answers, while its ratings do not change.

mod dashboard;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::insight::reports::Report;
use crate::values::Time;

pub use dashboard::{FeedbackDashboard, FeedbackDashboardReport, OpenRequests};

/// The 97.5 % quantile of the normal distribution, for intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;
/// The most categories that are reported.
const MAX_CATEGORIES: usize = 100;

/// The feedback analytics of a period.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FeedbackFigures {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// The requests sent in the period.
    #[serde(flatten)]
    pub requests: Requests,
    /// The ratings given in the period.
    #[serde(flatten)]
    pub ratings: Ratings,
    /// The ratings by category, for the 100 categories with the most ratings.
    pub by_category: Vec<CategoryFigures>,
    /// The requests and ratings of each interval of the period.
    pub by_interval: Vec<IntervalFigures>,
}

/// Requests and their answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackRequests)]
pub struct Requests {
    /// The number of requests sent.
    pub sent: i64,
    /// The number of these requests that have been answered so far.
    pub answered: i64,
    /// The share of these requests that have been answered.
    pub response_rate: Rate,
    /// The median number of hours from request to answer; `null` without answers.
    pub median_hours_to_answer: Option<f64>,
}

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

/// The ratings of a category.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackCategoryFigures)]
pub struct CategoryFigures {
    /// The category; `null` for ratings without one.
    pub category: Option<String>,
    /// The ratings of the category.
    #[serde(flatten)]
    pub ratings: Ratings,
}

/// The requests and ratings of an interval.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackIntervalFigures)]
pub struct IntervalFigures {
    /// The start of the interval. The first one may start before the period.
    pub start: DateTime<Utc>,
    /// The requests sent in the interval.
    #[serde(flatten)]
    pub requests: Requests,
    /// The ratings given in the interval.
    #[serde(flatten)]
    pub ratings: Ratings,
}

impl Requests {
    fn new(sent: i64, answered: i64, median_hours_to_answer: Option<f64>) -> Self {
        Self { sent, answered, response_rate: Rate::new(answered, sent), median_hours_to_answer }
    }
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

#[derive(FromRow)]
struct Sent {
    /// The number of the interval, from 1; `None` for the whole period.
    bucket: Option<i32>,
    sent: i64,
    answered: i64,
    median: Option<f64>,
}

#[derive(FromRow)]
struct Given {
    /// The number of the interval, from 1; `None` for the row of a category.
    bucket: Option<i32>,
    category: Option<String>,
    rating: i16,
    count: i64,
}

/// The report of [`FeedbackFigures`].
#[derive(Debug)]
pub struct FeedbackReport {
    /// The period.
    pub period: Period,
}

impl Report for FeedbackReport {
    const NAME: &'static str = "feedback/analytics";
    type Figures = FeedbackFigures;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<FeedbackFigures> {
        figures(connection, workspace_id, as_of, &self.period).await
    }
}

/// Computes the figures of a period.
pub async fn figures(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    as_of: Time,
    period: &Period,
) -> Result<FeedbackFigures> {
    let buckets = period.buckets();
    let sent = sent(connection, workspace_id, period, &buckets).await?;
    let given = given(connection, workspace_id, period, &buckets).await?;
    let of_bucket = |bucket: Option<i32>| {
        let found = sent.iter().find(|sent| sent.bucket == bucket);
        found.map_or_else(|| Requests::new(0, 0, None), |found| Requests::new(found.sent, found.answered, found.median))
    };
    let (mut all, mut by_bucket, mut by_category) = ([0; 5], HashMap::new(), BTreeMap::new());
    for Given { bucket, category, rating, count } in given {
        let counts = match bucket {
            Some(bucket) => {
                add(&mut all, rating, count);
                by_bucket.entry(bucket).or_insert([0; 5])
            }
            None => by_category.entry(category).or_insert([0; 5]),
        };
        add(counts, rating, count);
    }
    let by_interval = (1..).zip(buckets).map(|(bucket, start)| IntervalFigures {
        start,
        requests: of_bucket(Some(bucket)),
        ratings: Ratings::new(by_bucket.get(&bucket).copied().unwrap_or_default()),
    });
    Ok(FeedbackFigures {
        as_of,
        period: period.clone(),
        requests: of_bucket(None),
        ratings: Ratings::new(all),
        by_category: categories(by_category),
        by_interval: by_interval.collect(),
    })
}

fn add(counts: &mut [i64; 5], rating: i16, count: i64) {
    let total = usize::try_from(rating - 1).ok().and_then(|index| counts.get_mut(index));
    total.into_iter().for_each(|total| *total += count);
}

/// The categories with the most ratings; those with equally many are ordered by name.
fn categories(counted: BTreeMap<Option<String>, [i64; 5]>) -> Vec<CategoryFigures> {
    let mut all: Vec<CategoryFigures> = counted
        .into_iter()
        .map(|(category, counts)| CategoryFigures { category, ratings: Ratings::new(counts) })
        .collect();
    all.sort_by_key(|figures| std::cmp::Reverse(figures.ratings.n));
    all.truncate(MAX_CATEGORIES);
    all
}

/// The requests of each interval and of the whole period.
async fn sent(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
    buckets: &[Time],
) -> Result<Vec<Sent>> {
    Ok(sqlx::query_as(
        "SELECT bucket, count(*) AS sent, count(answered_at) AS answered,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM answered_at - requested_at)::float8 / 3600) AS median
         FROM (
             SELECT width_bucket(requested_at, $4) AS bucket, requested_at, answered_at FROM feedback
             WHERE workspace_id = $1 AND requested_at >= $2 AND requested_at < $3
         ) AS requests
         GROUP BY GROUPING SETS ((bucket), ())",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .bind(buckets)
    .fetch_all(connection)
    .await?)
}

/// The number of ratings of each value, for each interval and for each category.
async fn given(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
    buckets: &[Time],
) -> Result<Vec<Given>> {
    Ok(sqlx::query_as(
        "SELECT bucket, category, rating, count(*) AS count
         FROM (
             SELECT width_bucket(answered_at, $4) AS bucket, category, rating FROM feedback
             WHERE workspace_id = $1 AND answered_at >= $2 AND answered_at < $3
         ) AS answers
         GROUP BY GROUPING SETS ((bucket, rating), (category, rating))",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .bind(buckets)
    .fetch_all(connection)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `docs/insight.md`.
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
