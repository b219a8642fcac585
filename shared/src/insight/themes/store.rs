//! What was read in the answers of a workspace, in its tables.

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

/// The version of the reader. With another one, everything is read again.
pub(super) const READER: i16 = 1;
/// How many answers one step reads.
const PAGE: i64 = 1_000;
/// How many answers are worth a thread.
const SHARE: usize = 50;
/// Comments that can be quoted have so many letters.
const QUOTABLE: std::ops::RangeInclusive<usize> = 20..=600;

/// Answers as they were read, in pages by their ids.
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

/// A theme as it is kept.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(super) struct Kept {
    pub id: Uuid,
    pub key: String,
    pub keys: Vec<String>,
    pub label: String,
    /// Whether it is among those that were found last.
    pub found: bool,
}

/// All themes of a workspace, those that are just being looked for behind those that are listed.
pub(super) async fn kept(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Kept>> {
    Ok(sqlx::query_as(
        "SELECT id, key, keys, label, found FROM themes WHERE workspace_id = $1 ORDER BY listed DESC, id",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?)
}

fn assigner(themes: &[Kept]) -> (Assigner, Vec<Uuid>) {
    let assigner = Assigner::new(themes.iter().map(|theme| (theme.id, theme.keys.as_slice())));
    (assigner, themes.iter().map(|theme| theme.id).collect())
}

/// Reads the next answers that are new, changed or gone, and returns how many there were. The
/// caller's transaction takes away their notes, so each is read once.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn read_step(connection: &mut PgConnection, workspace_id: Uuid) -> Result<usize> {
    let noted: Vec<Uuid> = sqlx::query_scalar(
        "DELETE FROM feedback_unread WHERE workspace_id = $1 AND feedback_id = ANY (ARRAY(
             SELECT feedback_id FROM feedback_unread WHERE workspace_id = $1 ORDER BY feedback_id LIMIT $2 FOR UPDATE SKIP LOCKED
         )) RETURNING feedback_id",
    )
    .bind(workspace_id)
    .bind(PAGE)
    .fetch_all(&mut *connection)
    .await?;
    if noted.is_empty() {
        return Ok(0);
    }
    let answers: Vec<Answer> = sqlx::query_as(
        "SELECT id, answered_at, rating, comment FROM feedback
         WHERE workspace_id = $1 AND id = ANY ($2) AND answered_at IS NOT NULL ORDER BY answered_at, id",
    )
    .bind(workspace_id)
    .bind(&noted)
    .fetch_all(&mut *connection)
    .await?;
    let usual = usual(connection, workspace_id).await?;
    let (assigner, known) = assigner(&kept(connection, workspace_id).await?);
    // Reading is work for a processor, and other jobs of this process have their leases to renew.
    let readings =
        tokio::task::spawn_blocking(move || read_all(&answers, usual, &assigner)).await.map_err(Error::of_task)?;
    replace(connection, workspace_id, &noted, &readings, &known).await?;
    if usual.is_none() {
        settle_language(connection, workspace_id, &readings).await?;
    }
    Ok(noted.len())
}

/// A reading with the language that it was read in.
type Read = (Reading, Language);

/// Reads answers on all processors.
fn read_all(answers: &[Answer], usual: Option<Language>, assigner: &Assigner) -> Vec<Read> {
    let usual = usual.unwrap_or_else(|| extract::usual(answers.iter().filter_map(|answer| answer.comment.as_deref())));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = answers.len().div_ceil(threads).max(SHARE);
    std::thread::scope(|scope| {
        let read = |part: &[Answer]| part.iter().map(|answer| read_one(answer, usual, assigner)).collect::<Vec<_>>();
        let parts: Vec<_> = answers.chunks(share).map(|part| scope.spawn(move || read(part))).collect();
        // None of them panics: what could is caught.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn read_one(answer: &Answer, usual: Language, assigner: &Assigner) -> Read {
    let comment = answer.comment.as_deref().unwrap_or_default();
    // What people type meets code of many hands here. A comment that is too much for it has no
    // phrases, and keeps nobody from reading the others.
    let read = catch_unwind(|| read(comment, usual)).ok();
    if read.is_none() {
        tracing::error!(feedback_id = %answer.id, "a comment could not be read");
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

/// The language of most comments, once it is known.
pub(super) async fn usual(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Language>> {
    let code: Option<Option<String>> = sqlx::query_scalar("SELECT language FROM theme_states WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(code.flatten().and_then(|code| Language::of_code(&code)))
}

/// How many comments have to be read before the language of most of them is settled.
const SETTLED: usize = 20;

async fn settle_language(connection: &mut PgConnection, workspace_id: Uuid, readings: &[Read]) -> Result<()> {
    let mut counts = BTreeMap::<Language, usize>::new();
    for (_, language) in readings.iter().filter(|(reading, _)| reading.commented) {
        *counts.entry(*language).or_default() += 1;
    }
    let Some((language, _)) = counts.iter().max_by_key(|(language, count)| (**count, std::cmp::Reverse(**language)))
    else {
        return Ok(());
    };
    if counts.values().sum::<usize>() < SETTLED {
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

/// Puts readings in the place of what was read of the same answers before, and moves the counts.
async fn replace(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    noted: &[Uuid],
    readings: &[Read],
    known: &[Uuid],
) -> Result<()> {
    let before: Vec<Reading> = sqlx::query_as(
        "DELETE FROM feedback_readings WHERE workspace_id = $1 AND feedback_id = ANY ($2)
         RETURNING feedback_id, answered_at, rating, commented, quotable, phrases, themes, moods",
    )
    .bind(workspace_id)
    .bind(noted)
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

/// Arrays of arrays are not to be had, so an array goes as a text.
fn joined(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A page of readings behind an id.
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

/// Gives a page of readings the themes that were found, and moves the counts. Returns the last id, or
/// `None` behind the last page.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn assign_step(connection: &mut PgConnection, workspace_id: Uuid, after: Uuid) -> Result<Option<Uuid>> {
    let readings = page(connection, workspace_id, after).await?;
    let last = readings.last().map(|reading| reading.feedback_id);
    let kept = kept(connection, workspace_id).await?;
    let found: Vec<Kept> = kept.iter().filter(|theme| theme.found).cloned().collect();
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
    let known: Vec<Uuid> = kept.iter().map(|theme| theme.id).collect();
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

/// The most frequent names of the categories that answers are put in.
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

/// Notes that what an older version of the reader has read is to be read again.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn note_outdated(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let noted = sqlx::query(
        "INSERT INTO feedback_unread (workspace_id, feedback_id)
         SELECT workspace_id, feedback_id FROM feedback_readings WHERE workspace_id = $1 AND reader <> $2
         ON CONFLICT ON CONSTRAINT feedback_unread_pkey DO NOTHING",
    )
    .bind(workspace_id)
    .bind(READER)
    .execute(connection)
    .await?;
    Ok(noted.rows_affected())
}

/// Whether there are answers to be read.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn is_unread(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM feedback_unread WHERE workspace_id = $1)")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}
