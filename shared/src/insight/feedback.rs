//! Feedback analytics: response rates and ratings.
//!
//! A request belongs to the period in which it was sent, a rating to the period in which it was given. So the
//! response rate of a period still rises with late answers, while its ratings do not change.

mod dashboard;
mod ratings;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::insight::filters::{FilterBy, Filters, Sql, folded};
use crate::insight::period::{Bucket, Period};
use crate::insight::ratio::Rate;
use crate::insight::reports::Report;
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::values::Time;

pub use dashboard::{FeedbackDashboard, FeedbackDashboardReport, OpenRequests};
pub use ratings::{Csat, Nps, Ratings};

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

/// The ratings of a category.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackCategoryFigures)]
pub struct CategoryFigures {
    /// The category in its most frequent spelling, whatever the case; `null` for ratings without one.
    pub category: Option<String>,
    /// The ratings of the category.
    #[serde(flatten)]
    pub ratings: Ratings,
}

/// The requests and ratings of an interval.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = FeedbackIntervalFigures)]
pub struct IntervalFigures {
    /// The interval.
    #[serde(flatten)]
    pub interval: Bucket,
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

/// The filters of all reports about feedback.
pub(in crate::insight) const FILTERS: &[FilterBy] = &[FilterBy::Category, FilterBy::Segment, FilterBy::CustomerType];

/// The columns of ratings.
macro_rules! with_ratings {
    ($($column:literal),+) => {
        &[
            $($column,)+ "n", "mean_rating", "csat.rate", "csat.low", "csat.high", "nps.value", "distribution.1",
            "distribution.2", "distribution.3", "distribution.4", "distribution.5",
        ]
    };
}
const BY_INTERVAL: Rows = Rows::Items(with_ratings!(
    "label",
    "start",
    "end",
    "partial",
    "sent",
    "answered",
    "response_rate.rate",
    "median_hours_to_answer"
));
const BY_CATEGORY: Rows = Rows::Items(with_ratings!("category"));
const DISTRIBUTION: Rows = Rows::Counts("rating", "answers");

/// The report of [`FeedbackFigures`].
#[derive(Debug, Clone, Copy)]
pub struct FeedbackReport;

impl Report for FeedbackReport {
    const NAME: &'static str = "feedback/analytics";
    const OFFERS: Offers = Offers { period: true, interval: true, filters: FILTERS };
    const TABLES: &'static [Table] = &[
        Table { name: "by_interval", at: "/by_interval", rows: BY_INTERVAL },
        Table { name: "by_category", at: "/by_category", rows: BY_CATEGORY },
        Table { name: "distribution", at: "/distribution", rows: DISTRIBUTION },
    ];
    type Figures = FeedbackFigures;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<FeedbackFigures>> {
        let filters = request.filters.with_spellings(connection, workspace_id).await?;
        let scope = Scope { workspace_id, filters: &filters };
        let mut all = Vec::new();
        for period in &request.periods {
            all.push(figures(connection, scope, as_of, period).await?);
        }
        Ok(all)
    }
}

/// The feedback that a report is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    workspace_id: Uuid,
    /// With categories as they are written.
    filters: &'a Filters,
}

impl Scope<'_> {
    /// Adds the conditions on feedback.
    fn push(&self, sql: &mut Sql) {
        self.filters.push_category(sql, "feedback.category");
        self.filters.push_customer_of(sql, self.workspace_id, "feedback.customer_id");
    }
}

/// Computes the figures of a period.
async fn figures(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    as_of: Time,
    period: &Period,
) -> Result<FeedbackFigures> {
    let sent: HashMap<Option<i32>, Requests> = sent(connection, scope, period).await?;
    let of_bucket = |bucket| sent.get(&bucket).copied().unwrap_or_else(|| Requests::new(0, 0, None));
    let (mut all, mut by_bucket, mut by_category) = ([0; 5], HashMap::new(), Categories::default());
    for Given { bucket, category, rating, count } in given(connection, scope, period).await? {
        match bucket {
            Some(bucket) => {
                add(&mut all, rating, count);
                add(by_bucket.entry(bucket).or_insert([0; 5]), rating, count);
            }
            None => by_category.add(category, rating, count),
        }
    }
    let by_interval = (1..).zip(period.buckets()).map(|(bucket, interval)| IntervalFigures {
        interval,
        requests: of_bucket(Some(bucket)),
        ratings: Ratings::new(by_bucket.get(&bucket).copied().unwrap_or_default()),
    });
    Ok(FeedbackFigures {
        as_of,
        period: period.clone(),
        requests: of_bucket(None),
        ratings: Ratings::new(all),
        by_category: by_category.figures(),
        by_interval: by_interval.collect(),
    })
}

fn add(counts: &mut [i64; 5], rating: i16, count: i64) {
    let total = usize::try_from(rating - 1).ok().and_then(|index| counts.get_mut(index));
    total.into_iter().for_each(|total| *total += count);
}

/// The ratings of each category, whose spellings differ only in case.
#[derive(Debug, Default)]
struct Categories(BTreeMap<Option<String>, Category>);

#[derive(Debug, Default)]
struct Category {
    counts: [i64; 5],
    /// The number of ratings with each spelling.
    spellings: BTreeMap<String, i64>,
}

impl Categories {
    fn add(&mut self, written: Option<String>, rating: i16, count: i64) {
        let category = self.0.entry(written.as_deref().map(folded)).or_default();
        add(&mut category.counts, rating, count);
        if let Some(written) = written {
            *category.spellings.entry(written).or_default() += count;
        }
    }

    /// The categories with the most ratings; those with equally many are in the order of their names.
    fn figures(self) -> Vec<CategoryFigures> {
        let figures = self.0.into_values().map(|Category { counts, spellings }| CategoryFigures {
            // Of equally frequent spellings the first one.
            category: spellings.into_iter().rev().max_by_key(|(_, count)| *count).map(|(spelling, _)| spelling),
            ratings: Ratings::new(counts),
        });
        let mut all: Vec<CategoryFigures> = figures.collect();
        all.sort_by_key(|figures| std::cmp::Reverse(figures.ratings.n));
        all.truncate(MAX_CATEGORIES);
        all
    }
}

/// The requests of each interval, and of the whole period under `None`.
async fn sent(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    period: &Period,
) -> Result<HashMap<Option<i32>, Requests>> {
    let mut sql = Sql::new(
        "SELECT bucket, count(*) AS sent, count(answered_at) AS answered,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY date_part('epoch', answered_at - requested_at) / 3600) AS median
         FROM (SELECT requested_at, answered_at, width_bucket(requested_at, ",
    );
    sql.push_bind(period.bucket_starts()).push(") AS bucket FROM feedback WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    sql.push(" AND requested_at >= ").push_bind(period.from).push(" AND requested_at < ").push_bind(period.to);
    scope.push(&mut sql);
    sql.push(") AS requests GROUP BY GROUPING SETS ((bucket), ())");
    let rows: Vec<Sent> = sql.build_query_as().fetch_all(connection).await?;
    let of = |row: Sent| (row.bucket, Requests::new(row.sent, row.answered, row.median));
    Ok(rows.into_iter().map(of).collect())
}

/// The number of ratings of each value, for each interval and for each spelling of a category.
async fn given(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<Vec<Given>> {
    let mut sql = Sql::new(
        "SELECT bucket, category, rating, count(*) AS count FROM (SELECT category, rating, width_bucket(answered_at, ",
    );
    sql.push_bind(period.bucket_starts()).push(") AS bucket FROM feedback WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    sql.push(" AND answered_at >= ").push_bind(period.from).push(" AND answered_at < ").push_bind(period.to);
    scope.push(&mut sql);
    sql.push(") AS answers GROUP BY GROUPING SETS ((bucket, rating), (category, rating))");
    Ok(sql.build_query_as().fetch_all(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_that_differ_in_case_are_one() {
        let mut categories = Categories::default();
        for (written, rating, count) in
            [("Support", 5, 2), ("support", 4, 3), ("SUPPORT", 1, 1), ("Größe", 3, 1), ("GRÖSSE", 3, 1)]
        {
            categories.add(Some(written.to_owned()), rating, count);
        }
        categories.add(None, 2, 1);
        let figures = categories.figures();
        let named: Vec<(Option<&str>, i64)> =
            figures.iter().map(|figures| (figures.category.as_deref(), figures.ratings.n)).collect();
        // Lower case has no ß for SS.
        assert_eq!(named, [(Some("support"), 6), (None, 1), (Some("GRÖSSE"), 1), (Some("Größe"), 1)]);
    }
}
