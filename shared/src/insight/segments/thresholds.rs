//! Thresholds: from which values on customers score 2, 3, 4 and 5.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::values::Time;

/// With fewer customers who have orders than these, fixed limits say more than ranks do.
const RANKED_FROM: i64 = 500;
/// The limits of days since the last order, of orders and of quantity, for the scores 2, 3, 4 and 5.
const DAYS: [u64; 4] = [180, 90, 60, 30];
const ORDERS: [i64; 4] = [2, 4, 6, 10];
const QUANTITY: [i64; 4] = [4, 10, 20, 50];

/// The values from which on customers score 2, 3, 4 and 5: a score is 1 and one more for each cut that
/// the value reaches.
///
/// For ranks, the score of a value x among n customers is ⌈5·c/n⌉ with c customers at x or below. That
/// is more than k exactly if c > k·n/5, so if x reaches the value at the place ⌊k·n/5⌋, counted from 0,
/// of all values in their order. So one customer is scored alone as among all.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Thresholds {
    /// How many customers have orders.
    pub buyers: i64,
    /// Of the time of the last order.
    pub recency_cuts: Vec<Time>,
    /// Of the number of orders.
    pub frequency_cuts: Vec<i64>,
    /// Of the quantity that was ordered.
    pub monetary_cuts: Vec<i64>,
}

impl Thresholds {
    /// The fixed limits, as of a day.
    pub fn fixed(buyers: i64, today: NaiveDate) -> Self {
        let start = |days| today.checked_sub_days(Days::new(days)).unwrap_or(today).and_time(NaiveTime::MIN).and_utc();
        Self {
            buyers,
            recency_cuts: DAYS.map(start).into(),
            frequency_cuts: ORDERS.into(),
            monetary_cuts: QUANTITY.into(),
        }
    }

    /// Whether they come from the ranks of all customers with orders.
    pub fn are_ranks(&self) -> bool {
        self.buyers >= RANKED_FROM
    }

    /// The cuts of a workspace as its scores are now.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
    pub async fn of(connection: &mut PgConnection, workspace_id: Uuid, today: NaiveDate) -> Result<Self> {
        let buyers: i64 =
            sqlx::query_scalar("SELECT count(*) FROM customer_scores WHERE workspace_id = $1 AND orders > 0")
                .bind(workspace_id)
                .fetch_one(&mut *connection)
                .await?;
        if buyers < RANKED_FROM {
            return Ok(Self::fixed(buyers, today));
        }
        let (recency_cuts, frequency_cuts, monetary_cuts): (Vec<DateTime<Utc>>, Vec<i64>, Vec<i64>) = sqlx::query_as(
            "SELECT percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY last_order_at),
                 percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY orders),
                 percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY quantity)
             FROM customer_scores WHERE workspace_id = $1 AND orders > 0",
        )
        .bind(workspace_id)
        .bind(fractions(buyers))
        .fetch_one(connection)
        .await?;
        Ok(Self { buyers, recency_cuts, frequency_cuts, monetary_cuts })
    }
}

/// What `percentile_disc` must be asked for to give the values at the places ⌊k·n/5⌋ from 0: it takes
/// the one at ⌈fraction·n⌉, counted from 1, and a half less is not lost in rounding.
#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn fractions(buyers: i64) -> Vec<f64> {
    (1..=4).map(|k| ((k * buyers / 5) as f64 + 0.5) / buyers as f64).collect()
}
