//! The report on the themes of a period.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Days, Duration, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::language::Language;
use super::quote;
use super::select::{Ratings, weight};
use crate::error::Result;
use crate::insight::period::{self, Period};
use crate::insight::ratio::{Comparison, Rate};
use crate::insight::reports::Report;
use crate::query::parameters::{Parameters, whole};
use crate::values::Time;

/// The default number of themes.
pub const LIMIT: usize = 20;
/// The most themes that can be requested.
pub const MAX_LIMIT: usize = 100;
/// The comments that a theme needs in the period.
const LEAST: i64 = 2;
/// The comments of a theme among which its quotes are picked.
const CANDIDATES: i64 = 8;

/// The themes of a period, the most significant first.
#[derive(Debug, Serialize, ToSchema)]
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
    /// The themes.
    pub themes: Vec<Theme>,
}

/// A topic of feedback comments.
#[derive(Debug, Serialize, ToSchema)]
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
}

/// A quoted comment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quote {
    /// The id of the feedback.
    pub id: Uuid,
    /// The part of the comment that is about the theme.
    pub excerpt: String,
    /// The rating of the feedback.
    pub rating: i16,
}

/// The report of [`Themes`].
#[derive(Debug, Clone)]
pub struct ThemesReport {
    /// The period.
    pub period: Period,
    /// The most themes to return.
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, Default, FromRow)]
struct Counts {
    theme_id: Uuid,
    answers: i64,
    comments: i64,
    ratings: i64,
    squares: i64,
    moods: i64,
}

impl Counts {
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    fn of_ratings(&self) -> Ratings {
        Ratings { count: self.answers as f64, sum: self.ratings as f64, squares: self.squares as f64 }
    }
}

#[derive(Debug, FromRow)]
struct Listed {
    id: Uuid,
    key: String,
    keys: Vec<String>,
    label: String,
}

impl ThemesReport {
    /// Parses the parameters of a [`Period`], and `limit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn parse(parameters: &[(String, String)], now: Time) -> Result<Self> {
        let mut parameters = Parameters::new(parameters);
        let limit = parameters.take_as("limit", |text| whole(text, 1..=MAX_LIMIT as u32));
        let asked = period::Asked::read(&mut parameters);
        parameters.finish()?;
        Ok(Self { period: Period::new(asked, now)?, limit: limit.map_or(LIMIT, |limit| limit as usize) })
    }

    fn rank<'a>(
        &self,
        listed: &'a [Listed],
        present: &BTreeMap<Uuid, Counts>,
        all: &Counts,
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
        ranked.into_iter().take(self.limit).map(|(_, theme, counts)| (theme, counts)).collect()
    }
}

impl Report for ThemesReport {
    const NAME: &'static str = "feedback/themes";
    type Figures = Themes;

    fn key(&self) -> String {
        format!("{} {}", self.period.key(), self.limit)
    }

    /// Adds up the days of the period and of the period before, ranks the themes, and quotes their comments.
    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<Themes> {
        let listed: Vec<Listed> =
            sqlx::query_as("SELECT id, key, keys, label FROM themes WHERE workspace_id = $1 AND listed ORDER BY id")
                .bind(workspace_id)
                .fetch_all(&mut *connection)
                .await?;
        let before = counts(connection, workspace_id, &self.period.before()).await?;
        let mut present = counts(connection, workspace_id, &self.period).await?;
        let all = present.remove(&Uuid::nil()).unwrap_or_default();
        let ranked = self.rank(&listed, &present, &all);
        let mut quotes = quotes(connection, workspace_id, &self.period, &ranked).await?;
        let themes = ranked
            .into_iter()
            .map(|(theme, counts)| {
                let was = before.get(&theme.id).map_or(0, |counts| counts.comments);
                let candidates = quotes.remove(&theme.id).unwrap_or_default();
                described(theme, &counts, &all, was, candidates)
            })
            .collect();
        Ok(Themes {
            as_of,
            period: self.period.clone(),
            answers: all.answers,
            comments: all.comments,
            mean_rating: (all.answers > 0).then(|| all.of_ratings().mean()),
            found_at: found_at(connection, workspace_id).await?,
            themes,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn described(theme: &Listed, counts: &Counts, all: &Counts, was: i64, candidates: Vec<Candidate>) -> Theme {
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
    }
}

/// The counts of a period by theme, and of all answers under the nil id. Whole days are read from their sums,
/// and the times before the first and after the last whole day from the readings.
async fn counts(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<BTreeMap<Uuid, Counts>> {
    let days = Whole::of(connection, workspace_id, period).await?;
    let counts: Vec<Counts> = sqlx::query_as(
        "WITH edges AS MATERIALIZED (
             SELECT rating, commented, themes, moods FROM feedback_readings
             WHERE workspace_id = $1 AND answered_at >= $2 AND answered_at < $3
             UNION ALL
             SELECT rating, commented, themes, moods FROM feedback_readings
             WHERE workspace_id = $1 AND answered_at >= $4 AND answered_at < $5
         ), parts AS (
             SELECT theme_id, answers, comments, ratings, squares, moods FROM theme_days
             WHERE workspace_id = $1 AND day >= $6 AND day < $7
             UNION ALL
             SELECT mention.theme_id, 1, 1, rating, rating * rating, mention.mood
             FROM edges, unnest(themes, moods) AS mention (theme_id, mood)
             UNION ALL
             SELECT '00000000-0000-0000-0000-000000000000', 1, commented::integer, rating, rating * rating, 0 FROM edges
         )
         SELECT theme_id, sum(answers)::bigint AS answers, sum(comments)::bigint AS comments, sum(ratings)::bigint AS ratings,
             sum(squares)::bigint AS squares, sum(moods)::bigint AS moods
         FROM parts GROUP BY theme_id",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(days.from)
    .bind(days.to)
    .bind(period.to.max(days.to))
    .bind(days.from.date_naive())
    .bind(days.to.date_naive())
    .fetch_all(connection)
    .await?;
    Ok(counts.into_iter().map(|counts| (counts.theme_id, counts)).collect())
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

#[derive(Debug, FromRow)]
struct Candidate {
    theme_id: Uuid,
    feedback_id: Uuid,
    rating: i16,
    comment: String,
    language: String,
}

impl Candidate {
    fn excerpt(&self, keys: &[String]) -> String {
        quote::excerpt(&self.comment, keys, Language::of_code(&self.language).unwrap_or(Language::En))
    }
}

/// The candidates for the quotes of each theme, the latest days first.
async fn quotes(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
    ranked: &[(&Listed, Counts)],
) -> Result<HashMap<Uuid, Vec<Candidate>>> {
    let themes: Vec<Uuid> = ranked.iter().map(|(theme, _)| theme.id).collect();
    let found: Vec<Candidate> = sqlx::query_as(
        "WITH candidates AS (
             SELECT theme_id, feedback_id, row_number() OVER (PARTITION BY theme_id ORDER BY day DESC, feedback_id) AS place
             FROM (SELECT theme_id, day, unnest(quotes) AS feedback_id FROM theme_days
                   WHERE workspace_id = $1 AND day >= $2 AND day <= $3 AND theme_id = ANY ($4)) AS quoted
         )
         SELECT candidates.theme_id, feedback.id AS feedback_id, feedback.rating, feedback.comment, reading.language
         FROM candidates
         JOIN feedback ON feedback.workspace_id = $1 AND feedback.id = candidates.feedback_id
         JOIN feedback_readings AS reading ON reading.workspace_id = $1 AND reading.feedback_id = feedback.id
         WHERE place <= $5 AND feedback.answered_at >= $6 AND feedback.answered_at < $7 AND feedback.comment IS NOT NULL
             AND candidates.theme_id = ANY (reading.themes)
         ORDER BY candidates.theme_id, place",
    )
    .bind(workspace_id)
    .bind(period.from.date_naive())
    .bind((period.to - Duration::microseconds(1)).date_naive())
    .bind(themes)
    .bind(CANDIDATES)
    .bind(period.from)
    .bind(period.to)
    .fetch_all(connection)
    .await?;
    let mut by_theme = HashMap::<Uuid, Vec<Candidate>>::new();
    for candidate in found {
        by_theme.entry(candidate.theme_id).or_default().push(candidate);
    }
    Ok(by_theme)
}

async fn found_at(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Time>> {
    let found: Option<Option<Time>> = sqlx::query_scalar("SELECT found_at FROM theme_states WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(found.flatten())
}
