//! A temporary PostgreSQL server.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::postgres::{self, Cluster, Options};
use crate::server::Server;
use crate::{unprivileged, workspace};

/// A cluster that is deleted when it is stopped.
#[derive(Debug)]
pub struct TempCluster {
    cluster: Cluster,
    dir: PathBuf,
}

impl TempCluster {
    /// Starts a cluster, and deletes the clusters of runs that were killed.
    ///
    /// # Errors
    /// If the server does not start, with the end of its log.
    pub async fn start(server: &Server) -> Result<Self> {
        Self::start_with(server, &options()).await
    }

    /// As [`Self::start`], of a server that loads Citus.
    ///
    /// # Errors
    /// If the server does not start, with the end of its log.
    pub async fn citus(server: &Server) -> Result<Self> {
        Self::start_with(server, &Options { citus: true, ..options() }).await
    }

    async fn start_with(server: &Server, options: &Options) -> Result<Self> {
        let parent = workspace::data_dir().join("tests");
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        for entry in std::fs::read_dir(&parent)?.flatten() {
            if !postgres::is_in_use(&entry.path()) {
                remove(&entry.path()).await?;
            }
        }
        let dir = parent.join(format!("{:016x}", rand::random::<u64>()));
        Ok(Self { cluster: Cluster::start(server, &dir, options).await?, dir })
    }

    /// Starts a server on a copy of this one's data: one that goes its own way, or a standby.
    ///
    /// # Errors
    /// If the data cannot be copied, or the server does not start.
    pub async fn copy(&self, server: &Server, standby: bool) -> Result<Self> {
        let dir = self.dir.with_file_name(format!("{:016x}", rand::random::<u64>()));
        self.cluster.copy(server, &dir, standby).await?;
        Ok(Self { cluster: Cluster::start(server, &dir, &options()).await?, dir })
    }

    /// Stops the server and deletes its data.
    ///
    /// # Errors
    /// If the data cannot be deleted.
    pub async fn stop(self) -> Result<()> {
        self.cluster.stop().await?;
        remove(&self.dir).await
    }
}

impl Deref for TempCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// The data need not survive a crash, so commits do not wait for the disk. Each test has its own database, and
/// connections to it from several pools.
fn options() -> Options {
    Options { durable: false, max_connections: 600, ..Options::default() }
}

async fn remove(dir: &Path) -> Result<()> {
    postgres::remove(dir).await?;
    unprivileged::remove(dir).await
}
