//! Rate limits: how many emails are sent in a minute, in total and to one domain, over all workers.
//!
//! The limits use the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371).
//! Each scope (all emails, or a domain) has a time, and each email moves it by 60 seconds divided
//! by the limit. Emails are sent evenly, and a tenth of a minute's emails may be sent at once. The
//! time is in a row that is locked while emails are leased, so the limits hold for any number of
//! workers.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::lease::{Lease, Leased, Ranges, hand_back, lease};
use super::windows;
use crate::error::Result;
use crate::platform::config;
use crate::queue::Claimant;

/// The longest time by which an email is postponed, in seconds. It is short because limits may be
/// raised meanwhile, and other emails to the domain cancelled.
const FURTHEST: f64 = 15.0 * 60.0;

/// The emails that may be sent now.
#[derive(Debug, Default)]
pub struct Turn {
    /// The leased emails.
    pub emails: Vec<Leased>,
    /// The number of emails that were postponed, because their domains reached the limit or their
    /// sending windows are closed.
    pub put_off: usize,
    /// How long no email may be sent at all.
    pub wait: Option<Duration>,
}

/// Leases up to `limit` due emails, as [`lease`] does, within the rate limits and sending windows.
///
/// The limits are charged after the lease, in a separate transaction, because they are shared by
/// all workspaces. If the process dies between the two, the leases expire.
pub async fn lease_in_turn(
    connection: &mut PgConnection,
    mut limit: i64,
    ranges: &Ranges,
    settings: &config::Mail,
    claimant: &Claimant,
) -> Result<Turn> {
    let all = RateLimit::of(settings.per_minute);
    if let Some(all) = all {
        let ahead = peek(connection, "").await?;
        limit = limit.min(all.room(ahead));
        if limit == 0 {
            return Ok(Turn { wait: Some(Duration::from_secs_f64(all.until_free(ahead))), ..Turn::default() });
        }
    }
    let emails = lease(connection, limit, ranges, claimant).await?;
    let leases: Vec<Lease> = emails.iter().map(Leased::lease).collect();
    let turn = select(connection, emails, all, RateLimit::of(settings.per_domain_per_minute)).await;
    if turn.is_err() {
        // If this fails as well, the leases expire.
        let _ = hand_back(connection, &leases).await;
    }
    turn
}

/// Postpones the leased emails that must not leave now.
async fn select(
    connection: &mut PgConnection,
    emails: Vec<Leased>,
    all: Option<RateLimit>,
    domain: Option<RateLimit>,
) -> Result<Turn> {
    let (emails, closed) = windows::divide(connection, emails).await?;
    let mut turn = Turn { emails, ..Turn::default() };
    if !turn.emails.is_empty() && (all.is_some() || domain.is_some()) {
        turn = divide(connection, turn.emails, all, domain).await?;
    }
    turn.put_off += closed;
    Ok(turn)
}

/// Charges the limits for the emails. Those beyond the total limit are handed back, and those
/// beyond their domain's limit are postponed.
async fn divide(
    connection: &mut PgConnection,
    mut emails: Vec<Leased>,
    all: Option<RateLimit>,
    domain: Option<RateLimit>,
) -> Result<Turn> {
    let (mut surplus, mut late) = (Vec::new(), Vec::new());
    let mut limits = connection.begin().await?;
    // Scopes are locked in the same order everywhere, so that two workers cannot deadlock.
    if let Some(all) = all {
        let ahead = ahead(&mut limits, "").await?;
        surplus = emails.split_off(usize::try_from(all.room(ahead)).unwrap_or(usize::MAX).min(emails.len()));
        if let Some(domain) = domain {
            (emails, late) = within_domains(&mut limits, emails, domain).await?;
        }
        advance(&mut limits, "", all.after(ahead, emails.len())).await?;
    } else if let Some(domain) = domain {
        (emails, late) = within_domains(&mut limits, emails, domain).await?;
    }
    limits.commit().await?;
    hand_back(connection, &surplus.iter().map(Leased::lease).collect::<Vec<_>>()).await?;
    put_off(connection, &late).await?;
    Ok(Turn { emails, put_off: late.len(), wait: None })
}

/// Divides emails into those within their domains' limits, and those that must wait, each with the
/// seconds.
async fn within_domains(
    limits: &mut PgConnection,
    emails: Vec<Leased>,
    limit: RateLimit,
) -> Result<(Vec<Leased>, Vec<(Leased, f64)>)> {
    let mut domains = BTreeMap::<String, Vec<Leased>>::new();
    for email in emails {
        domains.entry(email.to_domain.clone()).or_default().push(email);
    }
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for (domain, mut emails) in domains {
        let ahead = ahead(limits, &domain).await?;
        let room = usize::try_from(limit.room(ahead)).unwrap_or(usize::MAX).min(emails.len());
        let late = emails.split_off(room);
        let ahead = limit.after(ahead, room);
        advance(limits, &domain, ahead).await?;
        now.append(&mut emails);
        later.extend(waits(limits, &domain, limit, limit.until_free(ahead), late).await?);
    }
    Ok((now, later))
}

/// How long each email to a domain must wait. A workspace's emails are scheduled after its own
/// postponed emails, but not after those of other workspaces.
async fn waits(
    limits: &mut PgConnection,
    domain: &str,
    limit: RateLimit,
    free_in: f64,
    late: Vec<Leased>,
) -> Result<Vec<(Leased, f64)>> {
    let mut workspaces = BTreeMap::<Uuid, Vec<Leased>>::new();
    for email in late {
        workspaces.entry(email.workspace_id).or_default().push(email);
    }
    let mut waits = Vec::new();
    for (workspace_id, emails) in workspaces {
        let scope = format!("{domain} {workspace_id}");
        let first = ahead(limits, &scope).await?.max(free_in);
        advance(limits, &scope, (first + limit.share * emails.len() as f64).min(FURTHEST)).await?;
        let emails = emails.into_iter().enumerate();
        waits.extend(emails.map(|(n, email)| (email, (first + limit.share * n as f64).min(FURTHEST))));
    }
    Ok(waits)
}

/// Hands emails back, due again after their waits.
async fn put_off(connection: &mut PgConnection, late: &[(Leased, f64)]) -> Result<()> {
    let mut late: Vec<&(Leased, f64)> = late.iter().collect();
    late.sort_unstable_by_key(|(email, _)| email.lease());
    for late in late.chunk_by(|(one, _), (other, _)| one.workspace_id == other.workspace_id) {
        let run_ats = late.iter().map(|(email, wait)| email.leased_at() + Duration::from_secs_f64(*wait));
        sqlx::query(
            "UPDATE emails SET lease_until = NULL, run_at = late.run_at
             FROM unnest($2::uuid[], $3::integer[], $4::timestamptz[]) AS late (id, attempt, run_at)
             WHERE emails.workspace_id = $1 AND emails.id = late.id AND emails.attempt = late.attempt",
        )
        .persistent(false)
        .bind(late[0].0.workspace_id)
        .bind(late.iter().map(|(email, _)| email.id).collect::<Vec<_>>())
        .bind(late.iter().map(|(email, _)| email.attempt).collect::<Vec<_>>())
        .bind(run_ats.collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// How many seconds a scope's time is in the future, without locking its row.
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

/// How many seconds a scope's time is in the future. Locks the scope's row.
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

async fn advance(connection: &mut PgConnection, scope: &str, ahead: f64) -> Result<()> {
    sqlx::query(
        "UPDATE email_rate_limits SET free_at = clock_timestamp() + make_interval(secs => $2) WHERE scope = $1",
    )
    .bind(scope)
    .bind(ahead)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes up to `limit` scopes whose times are long past, and returns their number.
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

#[derive(Debug, Clone, Copy)]
struct RateLimit {
    /// Seconds from one email to the next.
    share: f64,
    /// How many seconds a scope's time may be in the future when another email is sent.
    slack: f64,
}

impl RateLimit {
    fn of(per_minute: u32) -> Option<Self> {
        let share = 60.0 / f64::from(per_minute);
        let burst = (per_minute / 10).max(1);
        (per_minute > 0).then(|| Self { share, slack: share * f64::from(burst - 1) })
    }

    /// How many emails may be sent now.
    fn room(self, ahead: f64) -> i64 {
        // The tolerance keeps rounding errors from costing an email.
        let room = ((self.slack - ahead) / self.share + 1e-6).floor() + 1.0;
        if room < 1.0 { 0 } else { room as i64 }
    }

    /// Seconds until the next email may be sent.
    fn until_free(self, ahead: f64) -> f64 {
        (ahead - self.slack).max(0.0)
    }

    /// The scope's time after so many emails, in seconds from now.
    fn after(self, ahead: f64, emails: usize) -> f64 {
        ahead + self.share * emails as f64
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimit;

    #[test]
    fn a_tenth_of_a_minutes_emails_are_sent_at_once_and_the_others_evenly() {
        let limit = RateLimit::of(60).unwrap();
        assert_eq!(limit.room(0.0), 6);
        let ahead = limit.after(0.0, 6);
        assert_eq!((limit.room(ahead), limit.until_free(ahead)), (0, 1.0));
        assert_eq!(limit.room(ahead - 1.0), 1);
        assert_eq!(RateLimit::of(3).unwrap().room(0.0), 1);
        assert!(RateLimit::of(0).is_none());
    }
}
