//! Rescuing jobs whose worker died: they return to their queue.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::{JobStatus, LEASE, MAX_CRASHES, Reporting, report_end};
use crate::error::Result;

/// The most expired leases that one statement reads.
const LIMIT: i64 = 1000;
/// A look starts this far before the last one. No statement runs long enough to commit an earlier lease;
/// only a clock that was set back can cause one, which [`FROM_THE_FRONT_EVERY`] then finds.
const OVERLAP: chrono::Duration = chrono::Duration::seconds(60);
/// How often a look starts at the front.
const FROM_THE_FRONT_EVERY: chrono::Duration = chrono::Duration::seconds(60);

/// The statement of a look, which reads at most `$3` expired leases from `$1` on.
///
/// While the database was unavailable, no worker could renew its leases. So for one lease duration (`$2`, in
/// seconds) after the database was started, no lease is treated as expired: `counts` is then false.
macro_rules! look {
    ($from:literal) => {
        concat!(
            "SELECT now() AS now, pg_postmaster_start_time() < now() - make_interval(secs => $2) AS counts,
                coalesce(array_agg(workspace_id), '{}') AS workspaces, coalesce(array_agg(id), '{}') AS ids
             FROM (
                 SELECT workspace_id, id FROM ",
            $from,
            " WHERE lease_until < now() AND lease_until >= $1 ORDER BY lease_until LIMIT $3
             ) AS dead"
        )
    };
}

pub(crate) use look;

/// The time from which this process looks for expired leases. Each lease and each renewal leaves a dead
/// entry in the index of leases, and while an old transaction is open these entries stay: a look from the
/// front reads all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked {
    from: Option<DateTime<Utc>>,
    from_the_front_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Look {
    now: DateTime<Utc>,
    counts: bool,
    workspaces: Vec<Uuid>,
    ids: Vec<Uuid>,
}

impl Looked {
    /// Returns the ids with an expired lease by workspace, using a statement of [`look!`].
    pub(crate) async fn look(
        &mut self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<BTreeMap<Uuid, Vec<Uuid>>> {
        let look: Look = sqlx::query_as(statement)
            .bind(self.from.unwrap_or(DateTime::UNIX_EPOCH))
            .bind(LEASE.as_secs_f64())
            .bind(LIMIT)
            .fetch_one(connection)
            .await?;
        if !look.counts {
            return Ok(BTreeMap::new());
        }
        self.seen(look.now, look.ids.len() as i64 == LIMIT);
        let mut found = BTreeMap::<Uuid, Vec<Uuid>>::new();
        for (workspace_id, id) in look.workspaces.into_iter().zip(look.ids) {
            found.entry(workspace_id).or_default().push(id);
        }
        Ok(found)
    }

    /// Records a look. The next look starts near this time, or at the same time as this look if there are
    /// more expired leases, or at the front if that is due.
    fn seen(&mut self, now: DateTime<Utc>, is_more: bool) {
        let at = match (self.from, self.from_the_front_at) {
            (Some(_), Some(at)) if at <= now && now - at < FROM_THE_FRONT_EVERY => at,
            // This look started at the front.
            (None, _) => now,
            _ => {
                *self = Self::default();
                return;
            }
        };
        self.from_the_front_at = Some(at);
        if !is_more {
            self.from = Some(now - OVERLAP);
        }
    }
}

/// A job whose lease had expired.
#[derive(Debug, FromRow)]
pub struct Rescued {
    /// The id of the job.
    pub id: Uuid,
    /// The kind of the job.
    pub kind: String,
    /// The queue of the job.
    pub queue: String,
    /// `queued`, or `failed` after too many crashes.
    pub status: JobStatus,
}

/// The statement with which [`rescue`] finds expired leases.
pub const LOOK: &str = look!("jobs");

/// The statement with which [`rescue`] queues jobs of one workspace again. `coalesce` keeps the planner from
/// using the index of leases.
pub const RESCUE: &str = "
    UPDATE jobs
    SET attempt = attempt + 1, crashes = crashes + 1, retries = retries + 1, lease_until = NULL, run_at = now(),
        status = 'queued'
    WHERE workspace_id = $1 AND id = ANY (ARRAY(
        SELECT id FROM jobs
        WHERE workspace_id = $1 AND id = ANY ($2) AND coalesce(lease_until, 'infinity') < now() AND crashes + 1 < $3::smallint
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, kind, queue, status";

/// The statement with which [`rescue`] fails jobs of one workspace.
pub const CONDEMN: &str = "
    UPDATE jobs
    SET attempt = attempt + 1, crashes = crashes + 1, lease_until = NULL, run_at = now(),
        status = 'failed', finished_at = now(),
        error = 'the worker process died ' || $3::smallint || ' times in a row while it ran this job'
    WHERE workspace_id = $1 AND id = ANY (ARRAY(
        SELECT id FROM jobs
        WHERE workspace_id = $1 AND id = ANY ($2) AND coalesce(lease_until, 'infinity') < now() AND crashes + 1 >= $3::smallint
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, kind, queue, status";

/// Returns jobs with an expired lease to their queue, and fails those that crashed too often. The events of the
/// failed ones depend on their kind.
pub async fn rescue(
    connection: &mut PgConnection,
    looked: &mut Looked,
    reporting: impl Fn(&str) -> Reporting,
) -> Result<Vec<Rescued>> {
    let mut rescued = Vec::new();
    for (workspace_id, ids) in looked.look(connection, LOOK).await? {
        let queued = sqlx::query_as(RESCUE).bind(workspace_id).bind(&ids).bind(MAX_CRASHES);
        rescued.extend(queued.fetch_all(&mut *connection).await?);
        let mut transaction = connection.begin().await?;
        let failed = sqlx::query_as(CONDEMN).bind(workspace_id).bind(&ids).bind(MAX_CRASHES);
        let failed: Vec<Rescued> = failed.fetch_all(&mut *transaction).await?;
        let failed_ids: Vec<Uuid> = failed.iter().map(|job| job.id).collect();
        if !failed_ids.is_empty() {
            report_end(&mut transaction, workspace_id, None, &failed_ids, &reporting).await?;
        }
        transaction.commit().await?;
        rescued.extend(failed);
    }
    Ok(rescued)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// The start of each of these looks; `None` means the front.
    fn starts(looks: &[(i64, bool)]) -> Vec<Option<i64>> {
        let mut looked = Looked::default();
        let starts = looks.iter().map(|&(second, is_more)| {
            let from = looked.from.map(|from| from.timestamp());
            looked.seen(at(second), is_more);
            from
        });
        starts.collect()
    }

    #[test]
    fn a_look_starts_a_minute_before_the_last_one() {
        assert_eq!(starts(&[(1000, false), (1002, false), (1004, false)]), [None, Some(940), Some(942)]);
    }

    #[test]
    fn while_there_are_more_leases_the_next_look_starts_at_the_same_time() {
        assert_eq!(
            starts(&[(1000, true), (1002, false), (1004, true), (1006, false)]),
            [None, None, Some(942), Some(942)]
        );
    }

    #[test]
    fn each_minute_and_after_the_clock_was_set_back_a_look_starts_at_the_front() {
        assert_eq!(
            starts(&[(1000, false), (1059, false), (1061, false), (1063, false)]),
            [None, Some(940), Some(999), None]
        );
        assert_eq!(starts(&[(1000, false), (900, false), (902, false)]), [None, Some(940), None]);
    }
}
