//! The thresholds of the scores 2, 3, 4 and 5.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::insight::scoring::Day;
use crate::values::Time;

/// With fewer customers with orders, fixed thresholds are more meaningful than quantiles.
const RANKED_FROM: i64 = 500;
/// The fixed thresholds of days since the last order, orders and quantity, for the scores 2, 3, 4 and 5.
const DAYS: [u64; 4] = [180, 90, 60, 30];
const ORDERS: [i64; 4] = [2, 4, 6, 10];
const QUANTITY: [i64; 4] = [4, 10, 20, 50];

/// The thresholds of the scores 2, 3, 4 and 5. A score is 1 plus the number of thresholds that the value
/// reaches.
///
/// With quantiles, the score of a value x among n customers is ⌈5·c/n⌉, where c customers have x or less.
/// That is more than k exactly if c > k·n/5, which means that x reaches the value at index ⌊k·n/5⌋ of all
/// sorted values. So the thresholds are enough to score a single customer.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Thresholds {
    /// The number of customers with orders.
    pub buyers: i64,
    /// The thresholds of the time of the last order.
    #[sqlx(rename = "recency_thresholds")]
    pub recency: Vec<Time>,
    /// The thresholds of the number of orders.
    #[sqlx(rename = "frequency_thresholds")]
    pub frequency: Vec<i64>,
    /// The thresholds of the quantity ordered.
    #[sqlx(rename = "monetary_thresholds")]
    pub monetary: Vec<i64>,
}

impl Thresholds {
    /// The fixed thresholds as of a day.
    pub fn fixed(buyers: i64, today: Day) -> Self {
        let recency = DAYS.map(|days| today.days_ago(days)).into();
        Self { buyers, recency, frequency: ORDERS.into(), monetary: QUANTITY.into() }
    }

    /// Whether the thresholds are quantiles of all customers with orders.
    pub fn are_ranks(&self) -> bool {
        self.buyers >= RANKED_FROM
    }

    /// Computes the thresholds of a workspace from its present scores.
    pub async fn of(connection: &mut PgConnection, workspace_id: Uuid, today: Day) -> Result<Self> {
        let buyers: i64 =
            sqlx::query_scalar("SELECT count(*) FROM customer_scores WHERE workspace_id = $1 AND orders > 0")
                .bind(workspace_id)
                .fetch_one(&mut *connection)
                .await?;
        if buyers < RANKED_FROM {
            return Ok(Self::fixed(buyers, today));
        }
        let (recency, frequency, monetary): (Vec<DateTime<Utc>>, Vec<i64>, Vec<i64>) = sqlx::query_as(
            "SELECT percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY last_order_at),
                 percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY orders),
                 percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY quantity)
             FROM customer_scores WHERE workspace_id = $1 AND orders > 0",
        )
        .bind(workspace_id)
        .bind(fractions(buyers))
        .fetch_one(connection)
        .await?;
        Ok(Self { buyers, recency, frequency, monetary })
    }
}

/// The fractions for which `percentile_disc` returns the values at the indexes ⌊k·n/5⌋. It returns the value
/// at ⌈fraction·n⌉, counted from 1; subtracting a half keeps clear of rounding errors.
#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn fractions(buyers: i64) -> Vec<f64> {
    (1..=4).map(|k| ((k * buyers / 5) as f64 + 0.5) / buyers as f64).collect()
}
