//! The counts of each day and theme, updated with every reading.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// The comments of a day and theme that are stored as candidates for quotes.
const QUOTES: usize = 6;

/// The counted fields of a reading.
#[derive(Debug, Clone)]
pub(super) struct Counted<'a> {
    pub feedback_id: Uuid,
    pub answered_at: DateTime<Utc>,
    pub rating: i16,
    pub commented: bool,
    pub quotable: bool,
    pub themes: &'a [Uuid],
    pub moods: &'a [i16],
}

/// The changes of the counts. The order of the keys is the order in which rows are locked.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<(NaiveDate, Uuid), Change>);

#[derive(Debug, Default)]
struct Change {
    answers: i32,
    comments: i32,
    ratings: i64,
    squares: i64,
    moods: i64,
    quotes: Vec<Uuid>,
}

impl Changes {
    /// Adds a reading and its themes to the counts, or subtracts them (`sign` -1).
    pub fn reading(&mut self, counted: &Counted<'_>, sign: i32) {
        self.count(counted, Uuid::nil(), 0, sign);
        self.mentions(counted, sign);
    }

    /// Adds only the themes of a reading to the counts, or subtracts them.
    pub fn mentions(&mut self, counted: &Counted<'_>, sign: i32) {
        for (theme, mood) in counted.themes.iter().zip(counted.moods) {
            self.count(counted, *theme, *mood, sign);
        }
    }

    fn count(&mut self, counted: &Counted<'_>, theme: Uuid, mood: i16, sign: i32) {
        let change = self.0.entry((counted.answered_at.date_naive(), theme)).or_default();
        let (rating, signed) = (i64::from(counted.rating), i64::from(sign));
        change.answers += sign;
        change.comments += sign * i32::from(counted.commented);
        change.ratings += signed * rating;
        change.squares += signed * rating * rating;
        change.moods += signed * i64::from(mood);
        if sign > 0 && counted.quotable && !theme.is_nil() && change.quotes.len() < QUOTES {
            change.quotes.push(counted.feedback_id);
        }
    }

    /// Writes the changes. Skips themes that no longer exist.
    pub async fn apply(self, connection: &mut PgConnection, workspace_id: Uuid, known: &[Uuid]) -> Result<()> {
        let is_known = |theme: Uuid| theme.is_nil() || known.contains(&theme);
        let (mut days, mut themes, mut sums, mut quotes) = (Vec::new(), Vec::new(), Sums::default(), Vec::new());
        for ((day, theme), change) in self.0 {
            if !is_known(theme) {
                continue;
            }
            days.push(day);
            themes.push(theme);
            sums.push(&change);
            quotes.push(change.quotes.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
        }
        if days.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO theme_days AS present
                 (workspace_id, day, theme_id, answers, comments, ratings, squares, moods, quotes)
             SELECT $1, day, theme_id, answers, comments, ratings, squares, moods, string_to_array(quotes, ',')::uuid[]
             FROM unnest($2::date[], $3::uuid[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[])
                 AS changes (day, theme_id, answers, comments, ratings, squares, moods, quotes)
             ON CONFLICT ON CONSTRAINT theme_days_pkey DO UPDATE SET
                 answers = present.answers + excluded.answers, comments = present.comments + excluded.comments,
                 ratings = present.ratings + excluded.ratings, squares = present.squares + excluded.squares,
                 moods = present.moods + excluded.moods, 
                 quotes = ARRAY(SELECT unnest(excluded.quotes || present.quotes) LIMIT 6)",
        )
        .bind(workspace_id)
        .bind(days)
        .bind(themes)
        .bind(sums.answers)
        .bind(sums.comments)
        .bind(sums.ratings)
        .bind(sums.squares)
        .bind(sums.moods)
        .bind(quotes)
        .execute(connection)
        .await?;
        Ok(())
    }
}

#[derive(Default)]
struct Sums {
    answers: Vec<i32>,
    comments: Vec<i32>,
    ratings: Vec<i64>,
    squares: Vec<i64>,
    moods: Vec<i64>,
}

impl Sums {
    fn push(&mut self, change: &Change) {
        self.answers.push(change.answers);
        self.comments.push(change.comments);
        self.ratings.push(change.ratings);
        self.squares.push(change.squares);
        self.moods.push(change.moods);
    }
}
