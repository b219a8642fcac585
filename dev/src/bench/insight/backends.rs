//! The memory and the temporary files of the database's backends.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often the memory is read.
const EVERY: Duration = Duration::from_millis(100);

/// Watches how much memory backends gain.
pub struct Backends {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Result<f64>>,
}

impl Backends {
    /// Starts watching.
    pub async fn watch(pool: &PgPool) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        Ok(Self { stop, watching: tokio::spawn(most(pool.clone(), stopped)) })
    }

    /// Stops watching; returns the most memory in MiB that a backend gained.
    pub async fn stop(self) -> Result<f64> {
        let _ = self.stop.send(());
        self.watching.await?
    }
}

async fn most(pool: PgPool, mut stopped: oneshot::Receiver<()>) -> Result<f64> {
    let (mut least, mut most) = (HashMap::<i32, f64>::new(), 0.0_f64);
    while stopped.try_recv().is_err() {
        let pids: Vec<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
            .fetch_all(&pool)
            .await?;
        for pid in pids {
            let Some(mib) = anonymous_mib(pid) else { continue };
            let first = least.entry(pid).or_insert(mib);
            *first = first.min(mib);
            most = most.max(mib - *first);
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(most)
}

/// The memory of a process that belongs to no file; `None` if the process has ended.
fn anonymous_mib(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.trim().strip_suffix(" kB")?.trim();
    Some(kib.parse::<f64>().ok()? / 1024.0)
}

/// The size of all temporary files so far, in MiB.
pub async fn temporary_mib(pool: &PgPool) -> Result<f64> {
    let bytes: f64 =
        sqlx::query_scalar("SELECT temp_bytes::float8 FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(pool)
            .await?;
    Ok(bytes / 1024.0 / 1024.0)
}
