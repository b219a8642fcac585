//! Finding the themes of a workspace.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::corpus::{Corpus, Counter};
use super::language::Language;
use super::select::{Found, choose};
use super::store::{self, StoredTheme};
use crate::error::{Error, Result};
use crate::platform::db;

/// Themes are found again when the number of comments has changed by this share, and by at least `GROWN_BY`.
const GROWN: f64 = 0.05;
const GROWN_BY: i64 = 10;

/// The themes found in a number of comments.
#[derive(Debug)]
pub struct Finding {
    /// The themes, the most significant first.
    pub themes: Vec<Found>,
    /// The number of comments.
    pub comments: i64,
}

/// The result of a job that finds themes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ThemesResult)]
pub struct Summary {
    /// The number of answers read: new, changed or deleted.
    pub read: i64,
    /// Whether the themes were found again.
    pub found: bool,
    /// The number of themes that are listed now, or would be after a dry run.
    pub themes: usize,
    /// The number of comments that the themes were found in.
    pub comments: i64,
    /// Whether this was a dry run, which writes nothing.
    pub dry_run: bool,
    /// The first themes that a dry run found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<ThemePreview>)]
    pub preview: Option<Vec<ThemePreview>>,
}

/// A theme that a dry run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThemePreview {
    /// The phrase, as most comments write it.
    pub label: String,
    /// The number of comments with the phrase.
    pub count: i64,
}

/// The stage of finding themes: the job's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Read the answers. The unread ones that are left are where this resumes.
    Read,
    /// Find the themes.
    Find,
    /// Assign the themes to the answers after this one.
    Assign(Uuid),
    /// List the themes.
    List,
}

/// Whether the themes are to be found again: on request, or because the number of comments has changed much.
pub async fn is_due(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    let state: Option<(bool, i64)> =
        sqlx::query_as("SELECT wanted, comments FROM theme_states WHERE workspace_id = $1")
            .bind(workspace_id)
            .fetch_optional(&mut *connection)
            .await?;
    let (wanted, then) = state.unwrap_or_default();
    let now = comments(connection, workspace_id).await?;
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    let grown = (now - then).abs() as f64 >= GROWN * then as f64;
    Ok(wanted || (grown && (now - then).abs() >= GROWN_BY))
}

async fn comments(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    let sql = "SELECT coalesce(sum(comments), 0)::bigint FROM theme_days WHERE workspace_id = $1 AND theme_id = $2";
    Ok(sqlx::query_scalar(sql).bind(workspace_id).bind(Uuid::nil()).fetch_one(connection).await?)
}

/// Finds the themes in two passes over all readings, page by page: the first counts the phrases, the second
/// collects the frequent ones. So memory grows with the frequent phrases and not with the comments.
pub async fn find(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Finding> {
    let mut counter = Counter::default();
    let mut after = Uuid::nil();
    loop {
        let page = store::page(connection, workspace_id, after).await?;
        let Some(last) = page.last() else { break };
        after = last.feedback_id;
        page.iter().filter(|reading| reading.commented).for_each(|reading| counter.add(&reading.phrases));
    }
    let comments = i64::try_from(counter.comments()).unwrap_or(i64::MAX);
    let mut corpus = Corpus::new(counter);
    after = Uuid::nil();
    loop {
        let page = store::page(connection, workspace_id, after).await?;
        let Some(last) = page.last() else { break };
        after = last.feedback_id;
        let commented = page.iter().filter(|reading| reading.commented);
        commented.for_each(|reading| corpus.add(u8::try_from(reading.rating).unwrap_or(0), &reading.phrases));
    }
    let language = store::usual(connection, workspace_id).await?.unwrap_or(Language::En);
    let categories = store::categories(connection, workspace_id).await?;
    let silent: Vec<Vec<String>> = categories.iter().map(|name| language.stems(name)).collect();
    let themes = tokio::task::spawn_blocking(move || choose(&corpus, &silent)).await.map_err(Error::of_task)?;
    Ok(Finding { themes, comments })
}

/// Stores the themes that were found in addition to the listed ones. A known theme keeps its id, even if
/// another of its phrases has become the most frequent one.
pub async fn keep(connection: &mut PgConnection, workspace_id: Uuid, themes: &[Found]) -> Result<()> {
    let known = store::stored_themes(connection, workspace_id).await?;
    let ids = ids(themes, &known);
    sqlx::query("UPDATE themes SET found = false WHERE workspace_id = $1 AND found")
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    for (theme, id) in themes.iter().zip(ids) {
        sqlx::query(
            "INSERT INTO themes (workspace_id, id, key, keys, label, found, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, true, $6, $6)
             ON CONFLICT ON CONSTRAINT themes_pkey DO UPDATE SET
                 key = excluded.key, keys = excluded.keys, label = excluded.label, found = true, updated_at = excluded.updated_at",
        )
        .bind(workspace_id)
        .bind(id)
        .bind(&theme.key)
        .bind(&theme.keys)
        .bind(&theme.label)
        .bind(db::now())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The id of each theme: that of the known theme with the same key, else that of a known theme whose key is
/// among its keys, else a new one that is derived from the key.
fn ids(themes: &[Found], known: &[StoredTheme]) -> Vec<Uuid> {
    let mut free: HashMap<&str, Uuid> = known.iter().map(|theme| (theme.key.as_str(), theme.id)).collect();
    let same: Vec<Option<Uuid>> = themes.iter().map(|theme| free.remove(theme.key.as_str())).collect();
    let mut taken: Vec<Uuid> = same.iter().flatten().copied().collect();
    let mut ids = Vec::with_capacity(themes.len());
    for (theme, same) in themes.iter().zip(same) {
        let id = same
            .or_else(|| theme.keys.iter().find_map(|key| free.remove(key.as_str())))
            .or_else(|| {
                Some(id_of(&theme.key)).filter(|id| !taken.contains(id) && known.iter().all(|theme| theme.id != *id))
            })
            .unwrap_or_else(|| id_of(&format!("{} ", theme.key)));
        taken.push(id);
        ids.push(id);
    }
    ids
}

/// The id of a new theme, derived from its key.
fn id_of(key: &str) -> Uuid {
    let digest = Sha256::digest(format!("theme:{key}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Lists the themes that were found, after they were assigned to all answers, and deletes the others.
/// `comments` is the number of comments that the themes were found in.
pub async fn list_found(connection: &mut PgConnection, workspace_id: Uuid, comments: i64) -> Result<()> {
    for sql in [
        "DELETE FROM themes WHERE workspace_id = $1 AND NOT found",
        "UPDATE themes SET listed = true WHERE workspace_id = $1 AND NOT listed",
        "DELETE FROM theme_days AS counts WHERE workspace_id = $1 AND theme_id <> '00000000-0000-0000-0000-000000000000'
             AND (answers <= 0 OR NOT EXISTS (
                 SELECT FROM themes WHERE themes.workspace_id = counts.workspace_id AND themes.id = counts.theme_id
             ))",
    ] {
        sqlx::query(sql).bind(workspace_id).execute(&mut *connection).await?;
    }
    sqlx::query(
        "INSERT INTO theme_states (workspace_id, found_at, comments) VALUES ($1, $2, $3)
         ON CONFLICT ON CONSTRAINT theme_states_pkey DO UPDATE SET
             found_at = excluded.found_at, comments = excluded.comments, wanted = false",
    )
    .bind(workspace_id)
    .bind(db::now())
    .bind(comments)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str, keys: &[&str]) -> Found {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Found { key: key.into(), label: key.into(), keys, count: 2, score: 1.0 }
    }

    #[test]
    fn a_theme_keeps_its_id_when_another_phrase_becomes_its_label() {
        let sound = id_of("sound");
        let stored = |key: &str, keys: &[&str]| StoredTheme {
            id: sound,
            key: key.into(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            label: key.into(),
            found: true,
        };
        let known = [stored("sound", &["sound"])];
        let themes = [found("price", &["price"]), found("sound qualiti", &["sound qualiti", "sound"])];
        assert_eq!(ids(&themes, &known), [id_of("price"), sound]);
        // When the theme splits again, each part has its own id.
        let known = [stored("sound qualiti", &[])];
        let split = ids(&[found("sound", &["sound"]), found("sound qualiti", &["sound qualiti"])], &known);
        assert_eq!(split[1], sound);
        assert_ne!(split[0], sound);
    }
}
