//! Stored readings of answers, and stored themes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::assign::Assigner;
use super::days::{Changes, Counted};
use super::extract::{self, read};
use super::language::Language;
use super::phrase::Phrase;
use crate::error::{Error, Result};

/// The version of the reader. Answers read by another version are read again.
pub(super) const READER: i16 = 1;
/// The number of answers read in one step.
const PAGE: i64 = 1_000;
/// The least number of answers for an additional thread.
const SHARE: usize = 50;
/// The number of characters of comments that can be quoted.
const QUOTABLE: std::ops::RangeInclusive<usize> = 20..=600;

/// The stored reading of an answer.
#[derive(Debug, FromRow)]
pub(super) struct Reading {
    pub feedback_id: Uuid,
    pub answered_at: DateTime<Utc>,
    pub rating: i16,
    pub commented: bool,
    pub quotable: bool,
    pub phrases: Json<Vec<Phrase>>,
    pub themes: Vec<Uuid>,
    pub moods: Vec<i16>,
}

impl Reading {
    fn counted(&self) -> Counted<'_> {
        Counted {
            feedback_id: self.feedback_id,
            answered_at: self.answered_at,
            rating: self.rating,
            commented: self.commented,
            quotable: self.quotable,
            themes: &self.themes,
            moods: &self.moods,
        }
    }

    fn assign(&mut self, assigner: &Assigner) {
        (self.themes, self.moods) = assigner.themes_of(self.rating, &self.phrases).into_iter().unzip();
    }
}

#[derive(Debug, FromRow)]
struct Answer {
    id: Uuid,
    answered_at: DateTime<Utc>,
    rating: i16,
    comment: Option<String>,
}

/// A stored theme.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(super) struct StoredTheme {
    pub id: Uuid,
    pub key: String,
    pub keys: Vec<String>,
    pub label: String,
    /// Whether the theme was found the last time.
    pub found: bool,
}

/// All stored themes of a workspace, listed themes first.
pub(super) async fn stored_themes(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<StoredTheme>> {
    Ok(sqlx::query_as(
        "SELECT id, key, keys, label, found FROM themes WHERE workspace_id = $1 ORDER BY listed DESC, id",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?)
}

fn assigner(themes: &[StoredTheme]) -> (Assigner, Vec<Uuid>) {
    let assigner = Assigner::new(themes.iter().map(|theme| (theme.id, theme.keys.as_slice())));
    (assigner, themes.iter().map(|theme| theme.id).collect())
}

/// Reads the next answers that are new, changed or deleted, and returns their number. The caller's
/// transaction deletes their unread rows, so each answer is read once.
pub async fn read_step(connection: &mut PgConnection, workspace_id: Uuid) -> Result<usize> {
    let unread: Vec<Uuid> = sqlx::query_scalar(
        "DELETE FROM feedback_unread WHERE workspace_id = $1 AND feedback_id = ANY (ARRAY(
             SELECT feedback_id FROM feedback_unread WHERE workspace_id = $1 ORDER BY feedback_id LIMIT $2 FOR UPDATE SKIP LOCKED
         )) RETURNING feedback_id",
    )
    .bind(workspace_id)
    .bind(PAGE)
    .fetch_all(&mut *connection)
    .await?;
    if unread.is_empty() {
        return Ok(0);
    }
    let answers: Vec<Answer> = sqlx::query_as(
        "SELECT id, answered_at, rating, comment FROM feedback
         WHERE workspace_id = $1 AND id = ANY ($2) AND answered_at IS NOT NULL ORDER BY answered_at, id",
    )
    .bind(workspace_id)
    .bind(&unread)
    .fetch_all(&mut *connection)
    .await?;
    let usual = usual(connection, workspace_id).await?;
    let (assigner, known) = assigner(&stored_themes(connection, workspace_id).await?);
    // Reading is CPU-bound and must not block the runtime, which renews the leases of other jobs.
    let readings =
        tokio::task::spawn_blocking(move || read_all(&answers, usual, &assigner)).await.map_err(Error::of_task)?;
    replace(connection, workspace_id, &unread, &readings, &known).await?;
    if usual.is_none() {
        save_usual_language(connection, workspace_id, &readings).await?;
    }
    Ok(unread.len())
}

/// A reading and its language.
type Read = (Reading, Language);

/// Reads answers on all processors.
fn read_all(answers: &[Answer], usual: Option<Language>, assigner: &Assigner) -> Vec<Read> {
    let usual = usual.unwrap_or_else(|| extract::usual(answers.iter().filter_map(|answer| answer.comment.as_deref())));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = answers.len().div_ceil(threads).max(SHARE);
    std::thread::scope(|scope| {
        let read = |part: &[Answer]| part.iter().map(|answer| read_one(answer, usual, assigner)).collect::<Vec<_>>();
        let parts: Vec<_> = answers.chunks(share).map(|part| scope.spawn(move || read(part))).collect();
        // The threads do not panic: `read_one` catches panics.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn read_one(answer: &Answer, usual: Language, assigner: &Assigner) -> Read {
    let comment = answer.comment.as_deref().unwrap_or_default();
    // Third-party parsers run on untrusted text here. If one panics, the comment yields no phrases and
    // the batch continues.
    let read = catch_unwind(|| read(comment, usual)).ok();
    if read.is_none() {
        tracing::error!(feedback_id = %answer.id, "reading a comment panicked; it has no phrases");
    }
    let (language, phrases) = read.map_or((usual, Vec::new()), |read| (read.language, read.phrases));
    let mut reading = Reading {
        feedback_id: answer.id,
        answered_at: answer.answered_at,
        rating: answer.rating,
        commented: !comment.trim().is_empty(),
        quotable: QUOTABLE.contains(&comment.chars().count()),
        phrases: Json(phrases),
        themes: Vec::new(),
        moods: Vec::new(),
    };
    reading.assign(assigner);
    (reading, language)
}

/// The most frequent language of the workspace's comments, once it is known.
pub(super) async fn usual(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Language>> {
    let code: Option<Option<String>> = sqlx::query_scalar("SELECT language FROM theme_states WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(code.flatten().and_then(|code| Language::of_code(&code)))
}

/// The number of comments that determine the usual language.
const ENOUGH_COMMENTS: usize = 20;

async fn save_usual_language(connection: &mut PgConnection, workspace_id: Uuid, readings: &[Read]) -> Result<()> {
    let mut counts = BTreeMap::<Language, usize>::new();
    for (_, language) in readings.iter().filter(|(reading, _)| reading.commented) {
        *counts.entry(*language).or_default() += 1;
    }
    let Some((language, _)) = counts.iter().max_by_key(|(language, count)| (**count, std::cmp::Reverse(**language)))
    else {
        return Ok(());
    };
    if counts.values().sum::<usize>() < ENOUGH_COMMENTS {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO theme_states (workspace_id, language) VALUES ($1, $2)
         ON CONFLICT ON CONSTRAINT theme_states_pkey DO UPDATE SET language = excluded.language",
    )
    .bind(workspace_id)
    .bind(language.code())
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the earlier readings of the answers, and updates the counts.
async fn replace(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    unread: &[Uuid],
    readings: &[Read],
    known: &[Uuid],
) -> Result<()> {
    let before: Vec<Reading> = sqlx::query_as(
        "DELETE FROM feedback_readings WHERE workspace_id = $1 AND feedback_id = ANY ($2)
         RETURNING feedback_id, answered_at, rating, commented, quotable, phrases, themes, moods",
    )
    .bind(workspace_id)
    .bind(unread)
    .fetch_all(&mut *connection)
    .await?;
    let mut changes = Changes::default();
    before.iter().for_each(|reading| changes.reading(&reading.counted(), -1));
    readings.iter().for_each(|(reading, _)| changes.reading(&reading.counted(), 1));
    insert(connection, workspace_id, readings).await?;
    changes.apply(connection, workspace_id, known).await
}

async fn insert(connection: &mut PgConnection, workspace_id: Uuid, readings: &[Read]) -> Result<()> {
    let column = |of: fn(&Read) -> bool| readings.iter().map(of).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO feedback_readings
             (workspace_id, feedback_id, answered_at, rating, commented, quotable, language, reader, phrases, themes, moods)
         SELECT $1, feedback_id, answered_at, rating, commented, quotable, language, $2, phrases,
             string_to_array(themes, ',')::uuid[], string_to_array(moods, ',')::smallint[]
         FROM unnest($3::uuid[], $4::timestamptz[], $5::smallint[], $6::bool[], $7::bool[], $8::text[], $9::jsonb[], $10::text[], $11::text[])
             AS new (feedback_id, answered_at, rating, commented, quotable, language, phrases, themes, moods)",
    )
    .bind(workspace_id)
    .bind(READER)
    .bind(readings.iter().map(|(reading, _)| reading.feedback_id).collect::<Vec<_>>())
    .bind(readings.iter().map(|(reading, _)| reading.answered_at).collect::<Vec<_>>())
    .bind(readings.iter().map(|(reading, _)| reading.rating).collect::<Vec<_>>())
    .bind(column(|(reading, _)| reading.commented))
    .bind(column(|(reading, _)| reading.quotable))
    .bind(readings.iter().map(|(_, language)| language.code()).collect::<Vec<_>>())
    .bind(readings.iter().map(|(reading, _)| &reading.phrases).collect::<Vec<_>>())
    .bind(readings.iter().map(|(reading, _)| joined(&reading.themes)).collect::<Vec<_>>())
    .bind(readings.iter().map(|(reading, _)| joined(&reading.moods)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// PostgreSQL cannot unnest an array of arrays into arrays, so the inner ones are passed as text.
fn joined(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A page of readings after an id.
pub(super) async fn page(connection: &mut PgConnection, workspace_id: Uuid, after: Uuid) -> Result<Vec<Reading>> {
    Ok(sqlx::query_as(
        "SELECT feedback_id, answered_at, rating, commented, quotable, phrases, themes, moods FROM feedback_readings
         WHERE workspace_id = $1 AND feedback_id > $2 ORDER BY feedback_id LIMIT $3",
    )
    .bind(workspace_id)
    .bind(after)
    .bind(2 * PAGE)
    .fetch_all(connection)
    .await?)
}

/// Assigns the themes that were found to a page of readings, and updates the counts. Returns the last id, or
/// `None` after the last page.
pub async fn assign_step(connection: &mut PgConnection, workspace_id: Uuid, after: Uuid) -> Result<Option<Uuid>> {
    let readings = page(connection, workspace_id, after).await?;
    let last = readings.last().map(|reading| reading.feedback_id);
    let stored = stored_themes(connection, workspace_id).await?;
    let found: Vec<StoredTheme> = stored.iter().filter(|theme| theme.found).cloned().collect();
    let (assigner, _) = assigner(&found);
    let (mut changes, mut changed) = (Changes::default(), Vec::new());
    for mut reading in readings {
        let (themes, moods): (Vec<Uuid>, Vec<i16>) =
            assigner.themes_of(reading.rating, &reading.phrases).into_iter().unzip();
        if themes == reading.themes && moods == reading.moods {
            continue;
        }
        changes.mentions(&reading.counted(), -1);
        (reading.themes, reading.moods) = (themes, moods);
        changes.mentions(&reading.counted(), 1);
        changed.push(reading);
    }
    update(connection, workspace_id, &changed).await?;
    let known: Vec<Uuid> = stored.iter().map(|theme| theme.id).collect();
    changes.apply(connection, workspace_id, &known).await?;
    Ok(last)
}

async fn update(connection: &mut PgConnection, workspace_id: Uuid, changed: &[Reading]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE feedback_readings AS reading
         SET themes = string_to_array(new.themes, ',')::uuid[], moods = string_to_array(new.moods, ',')::smallint[]
         FROM unnest($2::uuid[], $3::text[], $4::text[]) AS new (feedback_id, themes, moods)
         WHERE reading.workspace_id = $1 AND reading.feedback_id = new.feedback_id",
    )
    .bind(workspace_id)
    .bind(changed.iter().map(|reading| reading.feedback_id).collect::<Vec<_>>())
    .bind(changed.iter().map(|reading| joined(&reading.themes)).collect::<Vec<_>>())
    .bind(changed.iter().map(|reading| joined(&reading.moods)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The most frequent categories of answers.
pub(super) async fn categories(connection: &mut PgConnection, workspace_id: Uuid) -> Result<BTreeSet<String>> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT category FROM feedback WHERE workspace_id = $1 AND category IS NOT NULL AND answered_at IS NOT NULL
         GROUP BY category ORDER BY count(*) DESC, category LIMIT 200",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?;
    Ok(names.into_iter().collect())
}

/// Marks the answers that another version of the reader has read as unread. Returns their number.
pub async fn note_outdated(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let outdated = sqlx::query(
        "INSERT INTO feedback_unread (workspace_id, feedback_id)
         SELECT workspace_id, feedback_id FROM feedback_readings WHERE workspace_id = $1 AND reader <> $2
         ON CONFLICT ON CONSTRAINT feedback_unread_pkey DO NOTHING",
    )
    .bind(workspace_id)
    .bind(READER)
    .execute(connection)
    .await?;
    Ok(outdated.rows_affected())
}

/// Whether the workspace has unread answers.
pub async fn is_unread(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM feedback_unread WHERE workspace_id = $1)")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}
