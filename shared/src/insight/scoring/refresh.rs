//! Keeping scores true: of whom something changed, and of all when the day changes.

use sqlx::PgConnection;
use uuid::Uuid;

use super::counts::gather;
use super::write::{reclassify, save_cuts, start_thresholds, write};
use super::{Day, Facts, State, facts};
use crate::error::Result;
use crate::insight::health::{Health, SnapshotHealth};
use crate::insight::segments::Thresholds;
use crate::platform::db;
use crate::queue;
use crate::values::Time;

/// The most customers whom a reader scores, while its caller waits: some 0.1 s.
const FEW: i64 = 1_000;
/// The most customers with orders among whom each change makes the cuts anew, at once.
const FEW_BUYERS: i64 = 5_000;
/// The most customers whom a worker scores in one transaction: some 0.5 s.
const MANY: i64 = 5_000;
/// The seconds after which cuts are made anew among more.
const CUT_EVERY_S: i64 = 30;
/// The customers whose segments follow new cuts in one transaction.
const RECUT_PAGE: i64 = 50_000;
/// The first half of the advisory locks of scores; the number is our own choice.
const LOCK: i32 = 0x5c0e;

/// How far the scores are that a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// All changes are in them.
    Fresh,
    /// Others are at it, or it is too much to do while somebody waits: a worker does it within seconds.
    Busy,
    /// All customers are to be scored anew, by a job that is queued now.
    Queued,
}

/// What [`refresh_if_cheap`] finds.
#[derive(sqlx::FromRow)]
struct Existing {
    is_of_today: bool,
    is_stale: bool,
    is_large: bool,
}

/// Brings the scores of a workspace up to date, if that is little work, so that a reader finds what was
/// written before. In a large workspace that is left to the workers, who do so every few seconds. Needs a transaction of its own, which is to be committed whatever this says.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn refresh_if_cheap(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Freshness> {
    let day = Day::today();
    let Existing { is_of_today, is_stale, is_large } = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM score_states WHERE workspace_id = $1 AND date = $2) AS is_of_today,
             EXISTS (SELECT FROM stale_customers WHERE workspace_id = $1) AS is_stale,
             EXISTS (SELECT FROM score_states WHERE workspace_id = $1 AND buyers > $3) AS is_large",
    )
    .bind(workspace_id)
    .bind(day.0)
    .bind(FEW_BUYERS)
    .fetch_one(&mut *connection)
    .await?;
    if is_of_today && !is_stale {
        touch(connection, workspace_id, db::now()).await?;
        return Ok(Freshness::Fresh);
    }
    // The day's first reader of a large workspace starts the job that scores all.
    if (is_of_today && is_large) || !lock(connection, workspace_id, 250).await? {
        return Ok(Freshness::Busy);
    }
    refresh(connection, workspace_id, FEW).await
}

/// Takes the right to write the scores of a workspace, until the transaction ends; false if others have
/// it for longer than that, and then the transaction can do nothing more.
pub(crate) async fn lock(connection: &mut PgConnection, workspace_id: Uuid, patience_ms: u32) -> Result<bool> {
    let wait = format!("SET LOCAL lock_timeout = {patience_ms}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&mut *connection).await?;
    let locked = sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2::text))")
        .bind(LOCK)
        .bind(workspace_id)
        .execute(&mut *connection)
        .await;
    match locked {
        // 55P03: somebody has it for longer.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => return Ok(false),
        other => other?,
    };
    sqlx::raw_sql("SET LOCAL lock_timeout = 0").execute(connection).await?;
    Ok(true)
}

/// Scores up to `limit` customers of whom something changed; or all when the day has changed, if there
/// are no more than a reader has patience for. Needs a transaction that holds the [`lock`].
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn refresh(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<Freshness> {
    let (day, now) = (Day::today(), db::now());
    let state = State::read(connection, workspace_id).await?;
    let is_of_today = state.as_ref().is_some_and(|state| state.date == Some(day.0));
    if !is_of_today {
        let all = first_customers(connection, workspace_id, FEW + 1).await?;
        if i64::try_from(all.len()).unwrap_or(i64::MAX) <= FEW {
            return score_all(connection, workspace_id, &all, day, now).await;
        }
        queue::start_run(connection, workspace_id, None, &SnapshotHealth { dry_run: false }).await?;
    }
    // More changed than is scored now: they come in their order, and some are left.
    let marked: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT customer_id FROM stale_customers WHERE workspace_id = $1 ORDER BY customer_id LIMIT $2",
    )
    .bind(workspace_id)
    .bind(limit + 1)
    .fetch_all(&mut *connection)
    .await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let now_scored = marked.get(..limit).unwrap_or(&marked);
    let cuts = standing_cuts(state.as_ref(), day);
    score(connection, workspace_id, now_scored, &cuts, day).await?;
    if !now_scored.is_empty() {
        settle(connection, workspace_id, state.as_ref(), day).await?;
    }
    let is_done = marked.len() <= limit;
    if is_done && is_of_today {
        touch(connection, workspace_id, now).await?;
    }
    Ok(match (is_of_today, is_done) {
        (false, _) => Freshness::Queued,
        (true, true) => Freshness::Fresh,
        (true, false) => Freshness::Busy,
    })
}

/// The cuts by which customers are scored now: fixed limits are those of the day.
fn standing_cuts(state: Option<&State>, day: Day) -> Thresholds {
    match state {
        Some(state) if state.cuts.are_ranks() => state.cuts.clone(),
        Some(state) => Thresholds::fixed(state.cuts.buyers, day.0),
        None => Thresholds::fixed(0, day.0),
    }
}

async fn first_customers(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("SELECT id FROM customers WHERE workspace_id = $1 ORDER BY id LIMIT $2")
        .bind(workspace_id)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

async fn score_all(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    all: &[Uuid],
    day: Day,
    now: Time,
) -> Result<Freshness> {
    score(connection, workspace_id, all, &Thresholds::fixed(0, day.0), day).await?;
    cut_all(connection, workspace_id, day).await?;
    sqlx::query("UPDATE score_states SET date = $2 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(day.0)
        .execute(&mut *connection)
        .await?;
    touch(connection, workspace_id, now).await?;
    Ok(Freshness::Fresh)
}

/// Scores these customers. Their marks go first: what is committed after that leaves one again.
async fn score(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    cuts: &Thresholds,
    day: Day,
) -> Result<Vec<(Facts, Health)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query("DELETE FROM stale_customers WHERE workspace_id = $1 AND customer_id = ANY ($2)")
        .bind(workspace_id)
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    let facts = facts(connection, workspace_id, ids, day).await?;
    let scored: Vec<(Facts, Health)> = facts
        .into_iter()
        .map(|facts| {
            let health = Health::of(&facts);
            (facts, health)
        })
        .collect();
    write(connection, workspace_id, cuts, &scored, day).await?;
    gather(connection, workspace_id).await?;
    Ok(scored)
}

/// Scores the customers behind `after`, up to `limit` of them, whether something changed or not. Needs a
/// transaction that holds the [`lock`].
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn score_page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    day: Day,
) -> Result<Vec<(Facts, Health)>> {
    let state = State::read(connection, workspace_id).await?;
    score(connection, workspace_id, ids, &standing_cuts(state.as_ref(), day), day).await
}

/// Sees to it that the cuts follow the scores: at once where customers with orders are few.
async fn settle(connection: &mut PgConnection, workspace_id: Uuid, state: Option<&State>, day: Day) -> Result<()> {
    if state.is_none_or(|state| state.cuts.buyers <= FEW_BUYERS && state.cut_after.is_none()) {
        return cut_all(connection, workspace_id, day).await;
    }
    sqlx::query("UPDATE score_states SET moved = true WHERE workspace_id = $1 AND NOT moved")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the cuts anew, and puts all customers into the segments that follow.
async fn cut_all(connection: &mut PgConnection, workspace_id: Uuid, day: Day) -> Result<()> {
    let cuts = Thresholds::of(connection, workspace_id, day.0).await?;
    reclassify(connection, workspace_id, &cuts, (Uuid::nil(), Uuid::max())).await?;
    save_cuts(connection, workspace_id, &cuts, None).await
}

/// Says up to when all changes are in, no more often than is of use.
async fn touch(connection: &mut PgConnection, workspace_id: Uuid, now: Time) -> Result<()> {
    sqlx::query(
        "UPDATE score_states SET refreshed_at = $2
         WHERE workspace_id = $1 AND (refreshed_at IS NULL OR refreshed_at < $2::timestamptz - interval '5 s')",
    )
    .bind(workspace_id)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Does a part of what is to be done for the scores of a workspace: scores customers of whom something
/// changed, however many there are, and makes the cuts anew. True: there is more. Needs a transaction of
/// its own.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn maintain(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    if !lock(connection, workspace_id, 1).await? {
        return Ok(false);
    }
    let day = Day::today();
    let state = State::read(connection, workspace_id).await?;
    let is_cutting = match &state {
        Some(state) if let Some(after) = state.cut_after => recut_page(connection, workspace_id, state, after).await?,
        Some(state) if state.moved && state.cut_at < db::now() - chrono::Duration::seconds(CUT_EVERY_S) => {
            start_thresholds(connection, workspace_id, day).await?;
            true
        }
        _ => false,
    };
    let freshness = refresh(connection, workspace_id, MANY).await?;
    Ok(is_cutting || freshness == Freshness::Busy)
}

/// Puts the next customers into the segments that follow from the cuts; true if there are more.
async fn recut_page(connection: &mut PgConnection, workspace_id: Uuid, state: &State, after: Uuid) -> Result<bool> {
    let last = last_of_page(connection, workspace_id, after, RECUT_PAGE).await?;
    reclassify(connection, workspace_id, &state.cuts, (after, last.unwrap_or(Uuid::max()))).await?;
    sqlx::query("UPDATE score_states SET cut_after = $2 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(last)
        .execute(connection)
        .await?;
    Ok(last.is_some())
}

/// The last of the next `limit` customers with scores behind `after`; `None` if there are no more than
/// these.
pub(crate) async fn last_of_page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT customer_id FROM customer_scores WHERE workspace_id = $1 AND customer_id > $2
         ORDER BY customer_id OFFSET $3 - 1 LIMIT 1",
    )
    .bind(workspace_id)
    .bind(after)
    .bind(limit)
    .fetch_optional(connection)
    .await?)
}

/// The workspaces in which something is to be scored, or segments are to follow new cuts.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn marked(connection: &mut PgConnection) -> Result<Vec<Uuid>> {
    let mut marked = db::workspaces(
        connection,
        "SELECT workspace_id FROM stale_customers WHERE workspace_id > $1 ORDER BY workspace_id LIMIT 1",
    )
    .await?;
    let moved: Vec<Uuid> = sqlx::query_scalar(
        "SELECT workspace_id FROM score_states
         WHERE (moved AND cut_at < now() - make_interval(secs => $1::float8)) OR cut_after IS NOT NULL",
    )
    .bind(CUT_EVERY_S)
    .fetch_all(connection)
    .await?;
    marked.extend(moved);
    marked.sort_unstable();
    marked.dedup();
    Ok(marked)
}
