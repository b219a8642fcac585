//! The daily snapshot: scores all customers again and stores their scores.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Band, Health};
use crate::error::{Error, Result};
use crate::insight::scoring::{self, Day, State};
use crate::platform::db;
use crate::queue::{Page, Pages, Payload};

/// How many customers are scored, or stored, in one transaction: about a second each.
const SCORED_PAGE: i64 = 5_000;
const KEPT_PAGE: i64 = 20_000;
/// For how many days snapshots are stored: long enough to compare a year with the previous one.
const KEPT_DAYS: i32 = 400;
/// How long a step waits for other writers of scores, which take less time.
const PATIENCE_MS: u32 = 10_000;

/// Scores all customers and stores the day's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHealth {
    /// Score and count without storing anything.
    pub dry_run: bool,
}

impl Payload for SnapshotHealth {
    const KIND: &'static str = "snapshot_health";
    const QUEUE: &'static str = "workflows";

    type Result = Scored;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// The result of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = HealthSnapshotResult)]
pub struct Scored {
    /// The day in the time zone of the workspace, once the run has begun.
    date: Option<NaiveDate>,
    /// How many customers have been scored.
    customers: i64,
    /// Customers in the band `healthy`.
    healthy: i64,
    /// Customers in the band `watch`.
    watch: i64,
    /// Customers in the band `at_risk`.
    at_risk: i64,
    /// Customers without a band, because too little is known about them.
    #[serde(alias = "unknown")]
    none: i64,
    /// How many scores have been stored.
    kept: i64,
    /// Whether this was a dry run, which writes nothing.
    dry_run: bool,
}

/// The progress of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Scoring the customers after this one.
    Score(Uuid),
    /// Reclassifying segments by the new thresholds and storing scores, after this customer.
    Keep(Uuid),
}

impl Scored {
    fn count(&mut self, health: &Health) {
        self.customers += 1;
        match health.band {
            Some(Band::Healthy) => self.healthy += 1,
            Some(Band::Watch) => self.watch += 1,
            Some(Band::AtRisk) => self.at_risk += 1,
            None => self.none += 1,
        }
    }
}

impl Pages for SnapshotHealth {
    type Cursor = Phase;
    type Tally = Scored;

    fn begin(&self) -> Scored {
        Scored { date: None, customers: 0, healthy: 0, watch: 0, at_risk: 0, none: 0, kept: 0, dry_run: self.dry_run }
    }

    /// In customers: each is scored, and then stored.
    fn done(&self, scored: &Scored) -> i64 {
        if self.dry_run { scored.customers } else { (scored.customers + scored.kept) / 2 }
    }

    /// A snapshot of a day that is over in every time zone is not resumed.
    fn can_resume(&self, scored: &Scored) -> bool {
        let today = db::now().date_naive();
        scored.date.is_none_or(|date| (today - date).num_days().abs() <= 1)
    }

    async fn page(&self, page: &mut Page<'_>, cursor: Option<Phase>, scored: &mut Scored) -> Result<Option<Phase>> {
        let workspace_id = page.job.workspace_id;
        if !self.dry_run && !scoring::lock(page.connection, workspace_id, PATIENCE_MS).await? {
            return Err(Error::Repeat("the scores are being written".into()));
        }
        let today = Day::today(page.connection, workspace_id).await?;
        let day = Day { date: *scored.date.get_or_insert(today.date), ..today };
        if cursor.is_none() {
            page.total = Some(count(page.connection, workspace_id).await?);
        }
        let next = match cursor.unwrap_or(Phase::Score(Uuid::nil())) {
            Phase::Score(after) => score(page.connection, workspace_id, (after, day), scored).await?,
            Phase::Keep(after) => keep(page.connection, workspace_id, (after, day), scored).await?,
        };
        page.total = page.total.max(Some(scored.customers));
        Ok(next)
    }
}

async fn count(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM customers WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

async fn score(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (after, day): (Uuid, Day),
    scored: &mut Scored,
) -> Result<Option<Phase>> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM customers WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(workspace_id)
            .bind(after)
            .bind(SCORED_PAGE)
            .fetch_all(&mut *connection)
            .await?;
    if scored.dry_run {
        let facts = scoring::facts(connection, workspace_id, &ids, day).await?;
        facts.iter().for_each(|facts| scored.count(&Health::of(facts)));
    } else {
        let page = scoring::score_page(connection, workspace_id, &ids, day).await?;
        page.iter().for_each(|(_, health)| scored.count(health));
    }
    match ids.last() {
        Some(last) => Ok(Some(Phase::Score(*last))),
        None if scored.dry_run => Ok(None),
        None => {
            scoring::start_thresholds(connection, workspace_id, day).await?;
            Ok(Some(Phase::Keep(Uuid::nil())))
        }
    }
}

async fn keep(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (after, day): (Uuid, Day),
    scored: &mut Scored,
) -> Result<Option<Phase>> {
    let state = State::read(connection, workspace_id).await?.ok_or(Error::NotFound)?;
    let last = scoring::last_of_page(connection, workspace_id, after, KEPT_PAGE).await?;
    let page = (after, last.unwrap_or(Uuid::max()));
    scoring::reclassify(connection, workspace_id, &state.thresholds, page).await?;
    let kept = scoring::snapshot_page(connection, workspace_id, page, day).await?;
    scored.kept += i64::try_from(kept).unwrap_or(i64::MAX);
    if last.is_none() {
        finish(connection, workspace_id, day).await?;
    }
    Ok(last.map(Phase::Keep))
}

/// Stores how many customers are in each segment and band, and marks the day's snapshot as
/// complete.
async fn finish(connection: &mut PgConnection, workspace_id: Uuid, Day { date, zone }: Day) -> Result<()> {
    for statement in [
        "DELETE FROM segment_snapshots WHERE workspace_id = $1 AND date = $2",
        "INSERT INTO segment_snapshots (workspace_id, date, segment, customers)
         SELECT $1, $2, segment, sum(customers) FROM score_counts WHERE workspace_id = $1
         GROUP BY segment HAVING sum(customers) > 0",
        "DELETE FROM band_snapshots WHERE workspace_id = $1 AND date = $2",
        "INSERT INTO band_snapshots (workspace_id, date, band, customers, health)
         SELECT $1, $2, coalesce(band, 'none'), sum(customers), sum(health) FROM score_counts WHERE workspace_id = $1
         GROUP BY band HAVING sum(customers) > 0",
    ] {
        sqlx::query(statement).bind(workspace_id).bind(date).execute(&mut *connection).await?;
    }
    sqlx::query(
        "UPDATE score_states SET date = $2, reclassify_after = NULL, snapshot_at = now(), snapshot_date = $2,
             refreshed_at = coalesce(refreshed_at, $3), time_zone = $4
         WHERE workspace_id = $1",
    )
    .bind(workspace_id)
    .bind(date)
    .bind(db::now())
    .bind(zone.name())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes up to `limit` expired snapshots of a workspace; returns how many were deleted.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<u64> {
    let pruned = sqlx::query(
        "DELETE FROM health_snapshots WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
             SELECT ctid FROM health_snapshots WHERE workspace_id = $1 AND date < current_date - $2::integer LIMIT $3
         ))",
    )
    .bind(workspace_id)
    .bind(KEPT_DAYS)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
