//! How many mails may leave in a minute, in all and to one domain, over all workers.
//!
//! Mails leave evenly: a scope (all mails, or a domain) is free again at a time that moves on by a
//! minute's share with each mail. A tenth of a minute's mails may leave at once; that is the virtual
//! scheduling form of the generic cell rate algorithm (ITU-T I.371). The time stands in a row that is
//! locked while mails are leased, so the limits hold however many workers there are.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::lease::{Lease, Leased, Ranges, hand_back, lease};
use crate::error::Result;
use crate::platform::config;

/// How far ahead a mail is put off at most, in seconds: limits may be raised meanwhile, and others of
/// its domain cancelled.
const FURTHEST: f64 = 15.0 * 60.0;

/// What may leave now.
#[derive(Debug, Default)]
pub struct Turn {
    /// The mails.
    pub mails: Vec<Leased>,
    /// How many others were put off, since their domains have had enough.
    pub put_off: usize,
    /// How long nothing may leave at all.
    pub wait: Option<Duration>,
}

/// Whether there is a limit, so that emails are leased by [`lease_in_turn`].
pub fn is_limited(settings: &config::Mail) -> bool {
    settings.per_minute > 0 || settings.per_domain_per_minute > 0
}

/// Leases up to `limit` due mails, as [`lease`] does, within the limits.
///
/// Places are taken after the lease, in a transaction of their own, since the limits belong to no workspace.
/// A process that dies in between leaves mails that were leased and not sent.
pub async fn lease_in_turn(
    connection: &mut PgConnection,
    mut limit: i64,
    ranges: &Ranges,
    settings: &config::Mail,
) -> Result<Turn> {
    let all = RateLimit::of(settings.per_minute);
    if let Some(all) = all {
        let ahead = peek(connection, "").await?;
        limit = limit.min(all.room(ahead));
        if limit == 0 {
            return Ok(Turn { wait: Some(Duration::from_secs_f64(all.until_free(ahead))), ..Turn::default() });
        }
    }
    let mails = lease(connection, limit, ranges).await?;
    if mails.is_empty() {
        return Ok(Turn::default());
    }
    let leases: Vec<Lease> = mails.iter().map(Leased::lease).collect();
    let turn = divide(connection, mails, all, RateLimit::of(settings.per_domain_per_minute)).await;
    if turn.is_err() {
        // Should this fail as well, the leases run out.
        let _ = hand_back(connection, &leases).await;
    }
    turn
}

/// Takes places for mails; those that get none are handed back, or put off if their domain has had enough.
async fn divide(
    connection: &mut PgConnection,
    mut mails: Vec<Leased>,
    all: Option<RateLimit>,
    domain: Option<RateLimit>,
) -> Result<Turn> {
    let (mut surplus, mut late) = (Vec::new(), Vec::new());
    let mut places = connection.begin().await?;
    // In one order everywhere, so that two workers never wait for each other in a circle.
    if let Some(all) = all {
        let ahead = ahead(&mut places, "").await?;
        surplus = mails.split_off(usize::try_from(all.room(ahead)).unwrap_or(usize::MAX).min(mails.len()));
        if let Some(domain) = domain {
            (mails, late) = within_domains(&mut places, mails, domain).await?;
        }
        take(&mut places, "", all.after(ahead, mails.len())).await?;
    } else if let Some(domain) = domain {
        (mails, late) = within_domains(&mut places, mails, domain).await?;
    }
    places.commit().await?;
    hand_back(connection, &surplus.iter().map(Leased::lease).collect::<Vec<_>>()).await?;
    put_off(connection, &late).await?;
    Ok(Turn { mails, put_off: late.len(), wait: None })
}

/// Divides mails into those whose domains have room, and those that wait, each for so many seconds.
async fn within_domains(
    places: &mut PgConnection,
    mails: Vec<Leased>,
    limit: RateLimit,
) -> Result<(Vec<Leased>, Vec<(Leased, f64)>)> {
    let mut domains = BTreeMap::<String, Vec<Leased>>::new();
    for mail in mails {
        domains.entry(mail.to_domain.clone()).or_default().push(mail);
    }
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for (domain, mut mails) in domains {
        let ahead = ahead(places, &domain).await?;
        let room = usize::try_from(limit.room(ahead)).unwrap_or(usize::MAX).min(mails.len());
        let late = mails.split_off(room);
        let ahead = limit.after(ahead, room);
        take(places, &domain, ahead).await?;
        now.append(&mut mails);
        later.extend(waits(places, &domain, limit, limit.until_free(ahead), late).await?);
    }
    Ok((now, later))
}

/// Each workspace's mails to the domain stand behind its own that were put off before, and not
/// behind another's.
async fn waits(
    places: &mut PgConnection,
    domain: &str,
    limit: RateLimit,
    free_in: f64,
    late: Vec<Leased>,
) -> Result<Vec<(Leased, f64)>> {
    let mut workspaces = BTreeMap::<Uuid, Vec<Leased>>::new();
    for mail in late {
        workspaces.entry(mail.workspace_id).or_default().push(mail);
    }
    let mut waits = Vec::new();
    for (workspace_id, mails) in workspaces {
        let scope = format!("{domain} {workspace_id}");
        let first = ahead(places, &scope).await?.max(free_in);
        take(places, &scope, (first + limit.share * mails.len() as f64).min(FURTHEST)).await?;
        let mails = mails.into_iter().enumerate();
        waits.extend(mails.map(|(n, mail)| (mail, (first + limit.share * n as f64).min(FURTHEST))));
    }
    Ok(waits)
}

/// Hands mails back that are due again only after so many seconds.
async fn put_off(connection: &mut PgConnection, late: &[(Leased, f64)]) -> Result<()> {
    let mut late: Vec<&(Leased, f64)> = late.iter().collect();
    late.sort_unstable_by_key(|(mail, _)| mail.lease());
    for late in late.chunk_by(|(one, _), (other, _)| one.workspace_id == other.workspace_id) {
        let run_ats = late.iter().map(|(mail, wait)| mail.leased_at() + Duration::from_secs_f64(*wait));
        sqlx::query(
            "UPDATE emails SET lease_until = NULL, run_at = late.run_at
             FROM unnest($2::uuid[], $3::integer[], $4::timestamptz[]) AS late (id, attempt, run_at)
             WHERE emails.workspace_id = $1 AND emails.id = late.id AND emails.attempt = late.attempt",
        )
        .bind(late[0].0.workspace_id)
        .bind(late.iter().map(|(mail, _)| mail.id).collect::<Vec<_>>())
        .bind(late.iter().map(|(mail, _)| mail.attempt).collect::<Vec<_>>())
        .bind(run_ats.collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// How far ahead of the present a scope's time is, in seconds, without a lock.
async fn peek(connection: &mut PgConnection, scope: &str) -> Result<f64> {
    let ahead: Option<f64> = sqlx::query_scalar(
        "SELECT greatest(extract(epoch FROM free_at - clock_timestamp()), 0)::float8 FROM email_rate_limits
         WHERE scope = $1",
    )
    .bind(scope)
    .fetch_optional(connection)
    .await?;
    Ok(ahead.unwrap_or(0.0))
}

/// How far ahead of the present a scope's time is, in seconds. Its row is locked from now on.
async fn ahead(connection: &mut PgConnection, scope: &str) -> Result<f64> {
    Ok(sqlx::query_scalar(
        "INSERT INTO email_rate_limits (scope, free_at) VALUES ($1, now())
         ON CONFLICT (scope) DO UPDATE SET free_at = email_rate_limits.free_at
         RETURNING greatest(extract(epoch FROM free_at - clock_timestamp()), 0)::float8",
    )
    .bind(scope)
    .fetch_one(connection)
    .await?)
}

async fn take(connection: &mut PgConnection, scope: &str, ahead: f64) -> Result<()> {
    sqlx::query(
        "UPDATE email_rate_limits SET free_at = clock_timestamp() + make_interval(secs => $2) WHERE scope = $1",
    )
    .bind(scope)
    .bind(ahead)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes up to `limit` scopes whose times have passed long ago, and returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn prune_rate_limits(connection: &mut PgConnection, limit: i64) -> Result<u64> {
    let pruned = sqlx::query(
        "DELETE FROM email_rate_limits WHERE scope IN (
             SELECT scope FROM email_rate_limits WHERE free_at < now() - interval '1 hour' LIMIT $1 FOR UPDATE SKIP LOCKED
         )",
    )
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}

/// A limit.
#[derive(Debug, Clone, Copy)]
struct RateLimit {
    /// Seconds from one mail to the next.
    share: f64,
    /// How far ahead of the present the time may be, in seconds, for one more mail to leave.
    slack: f64,
}

impl RateLimit {
    fn of(per_minute: u32) -> Option<Self> {
        let share = 60.0 / f64::from(per_minute);
        let burst = (per_minute / 10).max(1);
        (per_minute > 0).then(|| Self { share, slack: share * f64::from(burst - 1) })
    }

    /// How many mails may leave now.
    fn room(self, ahead: f64) -> i64 {
        // A clock that is read twice must not cost a mail.
        let room = ((self.slack - ahead) / self.share + 1e-6).floor() + 1.0;
        if room < 1.0 { 0 } else { room as i64 }
    }

    /// How long until one may.
    fn until_free(self, ahead: f64) -> f64 {
        (ahead - self.slack).max(0.0)
    }

    /// The time when so many have left.
    fn after(self, ahead: f64, mails: usize) -> f64 {
        ahead + self.share * mails as f64
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimit;

    #[test]
    fn mails_leave_evenly_and_a_tenth_of_a_minutes_at_once() {
        let pace = RateLimit::of(60).unwrap();
        assert_eq!(pace.room(0.0), 6);
        let ahead = pace.after(0.0, 6);
        assert_eq!((pace.room(ahead), pace.until_free(ahead)), (0, 1.0));
        assert_eq!(pace.room(ahead - 1.0), 1);
        assert_eq!(RateLimit::of(3).unwrap().room(0.0), 1);
        assert!(RateLimit::of(0).is_none());
    }
}
