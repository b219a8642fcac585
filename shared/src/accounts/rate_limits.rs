//! The rate limits of API keys, which hold over all processes: each process leases requests from a row for each
//! key, and gives back what it does not use.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;

/// How many requests a key may send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// How many are replenished in a minute.
    pub per_minute: u32,
    /// How many may be sent at once.
    pub burst: u32,
}

impl Quota {
    /// The requests that are replenished in a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }
}

/// A process asks for requests of a key.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The key.
    pub key_id: Uuid,
    /// What the key may send.
    pub quota: Quota,
    /// How many requests it asks for; negative to give some back.
    pub requests: i64,
}

/// What a process got.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Lease {
    /// The key.
    pub key_id: Uuid,
    /// How many requests it got, a whole number.
    pub granted: f64,
    /// How many requests are left for all processes.
    pub left: f64,
}

/// Takes and gives back requests, in one statement.
pub async fn lease(connection: &mut PgConnection, asks: &[Ask]) -> Result<Vec<Lease>> {
    let (mut keys, mut rates, mut bursts, mut requests) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ask in asks {
        keys.push(ask.key_id);
        rates.push(ask.quota.per_second());
        bursts.push(f64::from(ask.quota.burst));
        requests.push(ask.requests as f64);
    }
    // Rows are locked in the order of their keys, so processes do not wait for each other in a circle.
    Ok(sqlx::query_as(
        "INSERT INTO key_rate_limits AS held (key_id, tokens, per_second, burst, filled_at, granted)
         SELECT key_id, least(burst, burst - least(asked, burst)), per_second, burst, now(), least(asked, burst)
         FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::float8[]) AS asks (key_id, per_second, burst, asked)
         ORDER BY key_id
         ON CONFLICT (key_id) DO UPDATE SET
             granted = floor(least(excluded.granted, least(excluded.burst, held.tokens + excluded.per_second
                 * greatest(0, extract(epoch FROM excluded.filled_at - held.filled_at)::float8)))),
             tokens = least(excluded.burst, held.tokens + excluded.per_second
                 * greatest(0, extract(epoch FROM excluded.filled_at - held.filled_at)::float8))
                 - floor(least(excluded.granted, least(excluded.burst, held.tokens + excluded.per_second
                 * greatest(0, extract(epoch FROM excluded.filled_at - held.filled_at)::float8)))),
             per_second = excluded.per_second, burst = excluded.burst,
             filled_at = greatest(held.filled_at, excluded.filled_at)
         RETURNING key_id, granted, tokens AS \"left\"",
    )
    .bind(keys)
    .bind(rates)
    .bind(bursts)
    .bind(requests)
    .fetch_all(connection)
    .await?)
}

/// Lets the transactions of a connection commit without waiting for the disk.
pub async fn commit_later(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("SET synchronous_commit = off").execute(connection).await?;
    Ok(())
}
