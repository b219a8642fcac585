//! The report on the themes of a period.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::counts::{Counts, counts};
use super::quotes::{Candidate, quotes};
use super::select::weight;
use super::{Scope, quote};
use crate::error::Result;
use crate::insight::feedback::FILTERS;
use crate::insight::filters::Filters;
use crate::insight::period::Period;
use crate::insight::ratio::{Comparison, Rate};
use crate::insight::reports::Report;
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::values::Time;

/// The most themes that the report has.
const MAX_THEMES: usize = 50;
/// The comments that a theme needs in the period.
const LEAST: i64 = 2;

/// The themes of a period, the most significant first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Themes {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The period of the answers.
    pub period: Period,
    /// The number of answers in the period.
    pub answers: i64,
    /// The number of these answers with a comment.
    pub comments: i64,
    /// The mean rating of these answers; `null` without answers.
    pub mean_rating: Option<f64>,
    /// When the themes were last found; `null` before the first time.
    pub found_at: Option<DateTime<Utc>>,
    /// The themes, at most 50.
    pub themes: Vec<Theme>,
}

/// A topic of feedback comments.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Theme {
    /// The permanent id of the theme.
    pub id: Uuid,
    /// The phrase of the theme, in its most frequent form.
    pub label: String,
    /// The number of comments of the period about the theme.
    pub count: i64,
    /// The share of all comments of the period.
    pub share: Rate,
    /// The mean rating of the comments about the theme.
    pub mean_rating: f64,
    /// The sentiment of these comments, from -1 to 1: half from the words of the sentences about the theme, half
    /// from the ratings.
    pub sentiment: f64,
    /// `count` compared with the period before.
    pub change: Comparison,
    /// The effect of the theme on the mean rating: the mean of all answers minus the mean of the answers that are
    /// not about the theme. `null` if all answers are about it.
    pub impact: Option<f64>,
    /// Up to three comments, with different ratings if possible.
    pub quotes: Vec<Quote>,
    /// The path of the request that lists the comments of the period about the theme, without the filters of the
    /// report.
    pub query: String,
}

/// A quoted comment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Quote {
    /// The id of the feedback.
    pub id: Uuid,
    /// The part of the comment that is about the theme.
    pub excerpt: String,
    /// The rating of the feedback.
    pub rating: i16,
}

#[derive(Debug, FromRow)]
struct Listed {
    id: Uuid,
    key: String,
    keys: Vec<String>,
    label: String,
}

/// The rows of a table of themes.
pub(in crate::insight) const ROWS: Rows = Rows::Spread(
    &[
        "id",
        "label",
        "count",
        "share.rate",
        "mean_rating",
        "sentiment",
        "change.before",
        "change.change",
        "change.relative_change",
        "impact",
        "query",
    ],
    ("quotes", "excerpt", "quote_"),
);

/// The report of [`Themes`].
#[derive(Debug, Clone, Copy)]
pub struct ThemesReport;

impl Report for ThemesReport {
    const NAME: &'static str = "feedback/themes";
    const OFFERS: Offers = Offers { period: true, interval: false, filters: FILTERS };
    const TABLES: &'static [Table] = &[Table { name: "themes", at: "/themes", rows: ROWS }];
    type Figures = Themes;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<Themes>> {
        let filters = request.filters.with_spellings(connection, workspace_id).await?;
        let mut all = Vec::new();
        for periods in request.with_those_before() {
            all.push(of_period(connection, workspace_id, as_of, periods, &filters, MAX_THEMES).await?);
        }
        Ok(all)
    }
}

/// The first themes of a period, compared with the period before it. Categories in the filters must be as they
/// are written.
pub(in crate::insight) async fn of_period(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    as_of: Time,
    (period, before): (&Period, &Period),
    filters: &Filters,
    limit: usize,
) -> Result<Themes> {
    let scope = Scope { workspace_id, filters };
    let listed: Vec<Listed> =
        sqlx::query_as("SELECT id, key, keys, label FROM themes WHERE workspace_id = $1 AND listed ORDER BY id")
            .bind(workspace_id)
            .fetch_all(&mut *connection)
            .await?;
    let before = counts(connection, scope, before).await?;
    let mut present = counts(connection, scope, period).await?;
    let all = present.remove(&Uuid::nil()).unwrap_or_default();
    let ranked = rank(&listed, &present, &all, limit);
    let ids: Vec<Uuid> = ranked.iter().map(|(theme, _)| theme.id).collect();
    let mut quotes = quotes(connection, scope, period, &ids).await?;
    let themes = ranked
        .into_iter()
        .map(|(theme, counts)| {
            let was = before.get(&theme.id).map_or(0, |counts| counts.comments);
            let candidates = quotes.remove(&theme.id).unwrap_or_default();
            described(theme, period, (&counts, &all, was), candidates)
        })
        .collect();
    Ok(Themes {
        as_of,
        period: period.clone(),
        answers: all.answers,
        comments: all.comments,
        mean_rating: (all.answers > 0).then(|| all.of_ratings().mean()),
        found_at: found_at(connection, workspace_id).await?,
        themes,
    })
}

/// The themes with the highest weight.
fn rank<'a>(
    listed: &'a [Listed],
    present: &BTreeMap<Uuid, Counts>,
    all: &Counts,
    limit: usize,
) -> Vec<(&'a Listed, Counts)> {
    let mut ranked: Vec<(f64, &Listed, Counts)> = listed
        .iter()
        .filter_map(|theme| Some((theme, *present.get(&theme.id)?)))
        .filter(|(_, counts)| counts.comments >= LEAST)
        .map(|(theme, counts)| {
            let words = theme.key.split(' ').count();
            #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
            let weight = weight(words, &counts.of_ratings(), all.comments as f64, &all.of_ratings());
            (weight, theme, counts)
        })
        .collect();
    ranked.sort_by(|(one, a, _), (other, b, _)| other.total_cmp(one).then_with(|| a.id.cmp(&b.id)));
    ranked.into_iter().take(limit).map(|(_, theme, counts)| (theme, counts)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn described(
    theme: &Listed,
    period: &Period,
    (counts, all, was): (&Counts, &Counts, i64),
    candidates: Vec<Candidate>,
) -> Theme {
    let mean = counts.of_ratings().mean();
    let without = (all.ratings - counts.ratings) as f64 / (all.answers - counts.answers) as f64;
    let excerpts: Vec<(i16, String)> =
        candidates.iter().map(|candidate| (candidate.rating, candidate.excerpt(&theme.keys))).collect();
    let quotes = quote::pick(&excerpts, mean).into_iter();
    let quotes = quotes.map(|index| Quote {
        id: candidates[index].feedback_id,
        excerpt: excerpts[index].1.clone(),
        rating: candidates[index].rating,
    });
    Theme {
        id: theme.id,
        label: theme.label.clone(),
        count: counts.comments,
        share: Rate::new(counts.comments, all.comments),
        mean_rating: mean,
        sentiment: counts.moods as f64 / counts.answers as f64 / 100.0,
        change: Comparison::of_counts(counts.comments, was),
        impact: (all.answers > counts.answers).then(|| all.of_ratings().mean() - without),
        quotes: quotes.collect(),
        query: list_query(theme.id, period),
    }
}

/// The path of the list of the feedback of a period about a theme.
fn list_query(theme: Uuid, period: &Period) -> String {
    let [from, to] = [period.from, period.to].map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    format!("/dev/crm/feedback?theme={theme}&answered_at[gte]={from}&answered_at[lt]={to}")
}

async fn found_at(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Time>> {
    let found: Option<Option<Time>> = sqlx::query_scalar("SELECT found_at FROM theme_states WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(found.flatten())
}
