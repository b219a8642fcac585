//! Refreshing scores: of stale customers, and of all customers when the day changes.

use sqlx::PgConnection;
use uuid::Uuid;

use super::counts::gather;
use super::write::{reclassify, save_thresholds, start_thresholds, write};
use super::{Day, Facts, State, facts};
use crate::error::{Error, Result};
use crate::insight::health::{Health, SnapshotHealth};
use crate::insight::segments::Thresholds;
use crate::platform::db::{self, Among};
use crate::queue;
use crate::values::Time;

/// The most customers that a reader scores while its caller waits: about 0.1 s.
const FEW: i64 = 1_000;
/// Up to this many customers with orders, each change recomputes the thresholds at once.
const FEW_BUYERS: i64 = 5_000;
/// The most customers that a worker scores in one transaction: about 0.5 s.
const MANY: i64 = 5_000;
/// The interval in seconds at which thresholds are recomputed for more customers with orders.
const THRESHOLDS_EVERY_S: i64 = 30;
/// The number of customers that are reclassified in one transaction.
const RECLASSIFY_PAGE: i64 = 50_000;
/// The first half of the advisory locks of scores, an arbitrary number.
const LOCK: i32 = 0x5c0e;

/// The state of the scores after a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The scores include all changes.
    Fresh,
    /// Another transaction is refreshing, or there is too much work for a reader: a worker refreshes the
    /// scores within seconds.
    Busy,
    /// A job is queued that scores all customers.
    Queued,
}

/// The state that [`refresh_if_cheap`] depends on.
#[derive(sqlx::FromRow)]
struct Existing {
    is_of_today: bool,
    is_stale: bool,
    is_large: bool,
}

/// Refreshes the scores of a workspace if that is little work, so that a reader sees earlier writes. Large
/// workspaces are left to the workers, which refresh every few seconds. Needs its own transaction, which must
/// be committed whatever this returns.
pub async fn refresh_if_cheap(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Freshness> {
    let day = Day::today(connection, workspace_id).await?;
    let Existing { is_of_today, is_stale, is_large } = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM score_states WHERE workspace_id = $1 AND date = $2 AND time_zone = $4) AS is_of_today,
             EXISTS (SELECT FROM stale_customers WHERE workspace_id = $1) AS is_stale,
             EXISTS (SELECT FROM score_states WHERE workspace_id = $1 AND buyers > $3) AS is_large",
    )
    .bind(workspace_id)
    .bind(day.date)
    .bind(FEW_BUYERS)
    .bind(day.zone.name())
    .fetch_one(&mut *connection)
    .await?;
    if is_of_today && !is_stale {
        touch(connection, workspace_id, db::now()).await?;
        return Ok(Freshness::Fresh);
    }
    // The first reader of the day in a large workspace starts the job that scores all customers.
    if (is_of_today && is_large) || !lock(connection, workspace_id, 250).await? {
        return Ok(Freshness::Busy);
    }
    refresh(connection, workspace_id, FEW).await
}

/// Locks the scores of a workspace for writing until the transaction ends. Returns false if the lock is not
/// available in this time; the transaction is then aborted.
pub(crate) async fn lock(connection: &mut PgConnection, workspace_id: Uuid, patience_ms: u32) -> Result<bool> {
    let wait = format!("SET LOCAL lock_timeout = {patience_ms}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&mut *connection).await?;
    let locked = sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2::text))")
        .bind(LOCK)
        .bind(workspace_id)
        .execute(&mut *connection)
        .await;
    match locked {
        // 55P03: another transaction holds the lock.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => return Ok(false),
        other => other?,
    };
    sqlx::raw_sql("SET LOCAL lock_timeout = 0").execute(connection).await?;
    Ok(true)
}

/// Scores up to `limit` stale customers, or all customers if the day has changed and they are few. Needs a
/// transaction that holds the [`lock`].
pub async fn refresh(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<Freshness> {
    let (day, now) = (Day::today(connection, workspace_id).await?, db::now());
    let state = State::read(connection, workspace_id).await?;
    let is_of_today = state.as_ref().is_some_and(|state| state.is_of(day));
    if !is_of_today {
        let all = first_customers(connection, workspace_id, FEW + 1).await?;
        if i64::try_from(all.len()).unwrap_or(i64::MAX) <= FEW {
            return score_all(connection, workspace_id, &all, day, now).await;
        }
        queue::start_run(connection, workspace_id, None, &SnapshotHealth { dry_run: false }).await?;
    }
    // One more than the limit, to know whether stale customers are left.
    let stale: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT customer_id FROM stale_customers WHERE workspace_id = $1 ORDER BY customer_id LIMIT $2",
    )
    .bind(workspace_id)
    .bind(limit + 1)
    .fetch_all(&mut *connection)
    .await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = stale.get(..limit).unwrap_or(&stale);
    let thresholds = current_thresholds(state.as_ref(), day);
    score(connection, workspace_id, page, &thresholds, day).await?;
    if !page.is_empty() {
        update_thresholds(connection, workspace_id, state.as_ref(), day).await?;
    }
    let is_done = stale.len() <= limit;
    if is_done && is_of_today {
        touch(connection, workspace_id, now).await?;
    }
    Ok(match (is_of_today, is_done) {
        (false, _) => Freshness::Queued,
        (true, true) => Freshness::Fresh,
        (true, false) => Freshness::Busy,
    })
}

/// The thresholds to score with; fixed thresholds depend on the day.
fn current_thresholds(state: Option<&State>, day: Day) -> Thresholds {
    match state {
        Some(state) if state.thresholds.are_ranks() => state.thresholds.clone(),
        Some(state) => Thresholds::fixed(state.thresholds.buyers, day),
        None => Thresholds::fixed(0, day),
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
    score(connection, workspace_id, all, &Thresholds::fixed(0, day), day).await?;
    recompute_thresholds(connection, workspace_id, day).await?;
    sqlx::query("UPDATE score_states SET date = $2, time_zone = $3 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(day.date)
        .bind(day.zone.name())
        .execute(&mut *connection)
        .await?;
    touch(connection, workspace_id, now).await?;
    Ok(Freshness::Fresh)
}

/// Scores these customers. First deletes their stale rows: a change that commits later inserts a new one.
async fn score(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    thresholds: &Thresholds,
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
    write(connection, workspace_id, thresholds, &scored, day).await?;
    gather(connection, workspace_id).await?;
    Ok(scored)
}

/// Scores these customers, whether they are stale or not. Needs a transaction that holds the [`lock`].
pub async fn score_page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    day: Day,
) -> Result<Vec<(Facts, Health)>> {
    let state = State::read(connection, workspace_id).await?;
    score(connection, workspace_id, ids, &current_thresholds(state.as_ref(), day), day).await
}

/// Makes the thresholds follow the scores: at once if few customers have orders, otherwise by [`maintain`].
async fn update_thresholds(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    state: Option<&State>,
    day: Day,
) -> Result<()> {
    if state.is_none_or(|state| state.thresholds.buyers <= FEW_BUYERS && state.reclassify_after.is_none()) {
        return recompute_thresholds(connection, workspace_id, day).await;
    }
    sqlx::query("UPDATE score_states SET moved = true WHERE workspace_id = $1 AND NOT moved")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Recomputes the thresholds, and reclassifies all customers.
async fn recompute_thresholds(connection: &mut PgConnection, workspace_id: Uuid, day: Day) -> Result<()> {
    let thresholds = Thresholds::of(connection, workspace_id, day).await?;
    reclassify(connection, workspace_id, &thresholds, (Uuid::nil(), Uuid::max())).await?;
    save_thresholds(connection, workspace_id, &thresholds, None).await
}

/// Records the time up to which all changes are included, at most every five seconds.
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

/// Does one transaction's part of the pending work for the scores of a workspace: scores stale customers,
/// and recomputes thresholds and reclassifies customers. Returns whether work is left. Needs its own
/// transaction.
pub async fn maintain(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    if !lock(connection, workspace_id, 1).await? {
        return Ok(false);
    }
    let day = Day::today(connection, workspace_id).await?;
    let state = State::read(connection, workspace_id).await?;
    let is_reclassifying = match &state {
        Some(state) if let Some(after) = state.reclassify_after => {
            reclassify_page(connection, workspace_id, state, after).await?
        }
        Some(state)
            if state.moved && state.thresholds_at < db::now() - chrono::Duration::seconds(THRESHOLDS_EVERY_S) =>
        {
            start_thresholds(connection, workspace_id, day).await?;
            true
        }
        _ => false,
    };
    let freshness = refresh(connection, workspace_id, MANY).await?;
    Ok(is_reclassifying || freshness == Freshness::Busy)
}

/// Reclassifies the next customers; returns whether more are left.
async fn reclassify_page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    state: &State,
    after: Uuid,
) -> Result<bool> {
    let last = last_of_page(connection, workspace_id, after, RECLASSIFY_PAGE).await?;
    reclassify(connection, workspace_id, &state.thresholds, (after, last.unwrap_or(Uuid::max()))).await?;
    sqlx::query("UPDATE score_states SET reclassify_after = $2 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(last)
        .execute(connection)
        .await?;
    Ok(last.is_some())
}

/// The last of the next `limit` scored customers after `after`; `None` if the page is the last one.
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

/// The workspaces that [`maintain`] has work for: stale customers, or thresholds to recompute or apply.
pub async fn marked(connection: &mut PgConnection) -> Result<Vec<Uuid>> {
    let mut workspaces = db::workspaces(
        connection,
        "SELECT workspace_id FROM stale_customers WHERE workspace_id > $1 AND ($2::uuid[] IS NULL OR workspace_id = ANY ($2))
         ORDER BY workspace_id LIMIT 1",
    )
    .await?;
    let mut among = Among::new();
    let with_old_thresholds: Vec<Uuid> = loop {
        let found = sqlx::query_scalar(
            "SELECT workspace_id FROM score_states
             WHERE ((moved AND thresholds_at < now() - make_interval(secs => $1::float8)) OR reclassify_after IS NOT NULL)
                 AND ($2::uuid[] IS NULL OR workspace_id = ANY ($2))",
        );
        let found = found.bind(THRESHOLDS_EVERY_S).bind(among.workspaces()).fetch_all(&mut *connection).await;
        if let Some(found) = among.accept(connection, found.map_err(Error::from)).await? {
            break found;
        }
    };
    workspaces.extend(with_old_thresholds);
    workspaces.sort_unstable();
    workspaces.dedup();
    Ok(workspaces)
}
