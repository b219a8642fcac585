//! How often each theme occurs in a period.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Scope;
use super::select::Ratings;
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;
use crate::values::Time;

/// The comments about a theme, or all answers.
#[derive(Debug, Clone, Copy, Default, FromRow)]
pub(super) struct Counts {
    theme_id: Uuid,
    pub answers: i64,
    pub comments: i64,
    pub ratings: i64,
    squares: i64,
    pub moods: i64,
}

impl Counts {
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    pub fn of_ratings(&self) -> Ratings {
        Ratings { count: self.answers as f64, sum: self.ratings as f64, squares: self.squares as f64 }
    }
}

/// The counts of a period by theme, and of all answers under the nil id. Without filters, whole days are read
/// from their sums, and only the times before the first and after the last whole day from the readings.
pub(super) async fn counts(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    period: &Period,
) -> Result<BTreeMap<Uuid, Counts>> {
    let days = match scope.filters.is_empty() {
        true => Whole::of(connection, scope.workspace_id, period).await?,
        false => Whole::none(period),
    };
    let mut sql = Sql::new("WITH edges AS MATERIALIZED (");
    push_readings(&mut sql, scope, (period.from, days.from));
    sql.push(" UNION ALL ");
    push_readings(&mut sql, scope, (days.to, period.to.max(days.to)));
    sql.push(
        "), parts AS (
             SELECT theme_id, answers, comments, ratings, squares, moods FROM theme_days WHERE workspace_id = ",
    );
    sql.push_bind(scope.workspace_id);
    sql.push(" AND day >= ").push_bind(days.from.date_naive()).push(" AND day < ").push_bind(days.to.date_naive());
    sql.push(
        " UNION ALL
             SELECT mention.theme_id, 1, 1, rating, rating * rating, mention.mood
             FROM edges, unnest(themes, moods) AS mention (theme_id, mood)
             UNION ALL
             SELECT '00000000-0000-0000-0000-000000000000', 1, commented::integer, rating, rating * rating, 0 FROM edges
         )
         SELECT theme_id, sum(answers)::bigint AS answers, sum(comments)::bigint AS comments,
             sum(ratings)::bigint AS ratings, sum(squares)::bigint AS squares, sum(moods)::bigint AS moods
         FROM parts GROUP BY theme_id",
    );
    let counts: Vec<Counts> = sql.build_query_as().fetch_all(connection).await?;
    Ok(counts.into_iter().map(|counts| (counts.theme_id, counts)).collect())
}

/// Adds the readings between two times.
fn push_readings(sql: &mut Sql, scope: Scope<'_>, (from, to): (Time, Time)) {
    sql.push("SELECT reading.rating, commented, themes, moods FROM feedback_readings AS reading");
    scope.push_join(sql);
    sql.push(" WHERE reading.workspace_id = ").push_bind(scope.workspace_id);
    sql.push(" AND reading.answered_at >= ").push_bind(from).push(" AND reading.answered_at < ").push_bind(to);
    scope.push(sql);
}

/// The days in UTC that are entirely in a period.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Whole {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Whole {
    /// A last day that continues after the period also counts as whole, if there are no later answers.
    async fn of(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<Self> {
        let last: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT max(answered_at) FROM feedback_readings WHERE workspace_id = $1")
                .bind(workspace_id)
                .fetch_one(connection)
                .await?;
        let open = last.is_none_or(|last| last < period.to);
        Ok(Self::between(period.from, if open { next_midnight(period.to) } else { period.to }))
    }

    /// No whole day: everything is before the first.
    fn none(period: &Period) -> Self {
        Self { from: period.to, to: period.to }
    }

    fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let (first, end) = (next_midnight(from), midnight(to.date_naive()));
        // No whole day: everything is before the first.
        if first < end { Self { from: first, to: end } } else { Self { from: to, to } }
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// The first midnight that is not before a time.
fn next_midnight(time: DateTime<Utc>) -> DateTime<Utc> {
    let today = midnight(time.date_naive());
    let tomorrow = time.date_naive().checked_add_days(Days::new(1)).map(midnight);
    if time == today { today } else { tomorrow.unwrap_or(time) }
}
