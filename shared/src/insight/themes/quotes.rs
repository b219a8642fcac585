//! The comments that can be quoted about a theme.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::language::Language;
use super::{Scope, quote};
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;

/// The comments of a theme among which its quotes are picked.
const CANDIDATES: i64 = 8;

#[derive(Debug, FromRow)]
pub(super) struct Candidate {
    theme_id: Uuid,
    pub feedback_id: Uuid,
    pub rating: i16,
    comment: String,
    language: String,
}

impl Candidate {
    pub fn excerpt(&self, keys: &[String]) -> String {
        quote::excerpt(&self.comment, keys, Language::of_code(&self.language).unwrap_or(Language::En))
    }
}

/// The candidates for the quotes of each theme, the latest first.
pub(super) async fn quotes(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    period: &Period,
    themes: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Candidate>>> {
    let mut sql = Sql::new(
        "WITH candidates AS (
             SELECT theme_id, feedback_id, row_number() OVER (PARTITION BY theme_id ORDER BY at DESC, feedback_id) AS place
             FROM (",
    );
    if scope.filters.is_empty() {
        push_of_days(&mut sql, scope, period, themes);
    } else {
        push_of_readings(&mut sql, scope, period, themes);
    }
    sql.push(
        ") AS quoted
         )
         SELECT candidates.theme_id, feedback.id AS feedback_id, feedback.rating, feedback.comment, reading.language
         FROM candidates
         JOIN feedback ON feedback.id = candidates.feedback_id
         JOIN feedback_readings AS reading ON reading.feedback_id = feedback.id
         WHERE feedback.workspace_id = ",
    );
    sql.push_bind(scope.workspace_id).push(" AND reading.workspace_id = ").push_bind(scope.workspace_id);
    sql.push(" AND place <= ").push_bind(CANDIDATES);
    sql.push(" AND feedback.answered_at >= ").push_bind(period.from);
    sql.push(" AND feedback.answered_at < ").push_bind(period.to);
    sql.push(
        " AND feedback.comment IS NOT NULL AND candidates.theme_id = ANY (reading.themes)
         ORDER BY candidates.theme_id, place",
    );
    let mut by_theme = HashMap::<Uuid, Vec<Candidate>>::new();
    for candidate in sql.build_query_as::<Candidate>().fetch_all(connection).await? {
        by_theme.entry(candidate.theme_id).or_default().push(candidate);
    }
    Ok(by_theme)
}

/// The candidates that are stored for each day of UTC.
fn push_of_days(sql: &mut Sql, scope: Scope<'_>, period: &Period, themes: &[Uuid]) {
    sql.push("SELECT theme_id, day AS at, unnest(quotes) AS feedback_id FROM theme_days WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    sql.push(" AND day >= ").push_bind(period.from.date_naive());
    sql.push(" AND day <= ").push_bind((period.to - chrono::Duration::microseconds(1)).date_naive());
    sql.push(" AND theme_id = ANY (").push_bind(themes.to_vec()).push(")");
}

/// The candidates among the answers that match the filters.
fn push_of_readings(sql: &mut Sql, scope: Scope<'_>, period: &Period, themes: &[Uuid]) {
    sql.push(
        "SELECT mentioned AS theme_id, reading.answered_at AS at, reading.feedback_id
         FROM feedback_readings AS reading CROSS JOIN unnest(reading.themes) AS mentioned",
    );
    scope.push_join(sql);
    sql.push(" WHERE reading.workspace_id = ");
    sql.push_bind(scope.workspace_id).push(" AND reading.quotable");
    sql.push(" AND reading.answered_at >= ").push_bind(period.from);
    sql.push(" AND reading.answered_at < ").push_bind(period.to);
    sql.push(" AND mentioned = ANY (").push_bind(themes.to_vec()).push(")");
    scope.push(sql);
}
