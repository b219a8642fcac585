//! Outages of the database.

use std::path::PathBuf;
use std::time::Duration;

use shared::queue::JobStatus;
use testing::postgres::{self, Cluster, Options};
use testing::server::Server;
use testing::test_jobs::Chore;
use testing::{unprivileged, workspace};

use crate::support::{Ledger, attempts};

/// A server for one test, which stops and starts it.
struct Private {
    server: Server,
    dir: PathBuf,
    cluster: Option<Cluster>,
}

impl Private {
    async fn start() -> Self {
        let server = Server::find().await.unwrap();
        let dir = workspace::data_dir().join("tests").join(format!("{:016x}", rand::random::<u64>()));
        let mut private = Self { server, dir, cluster: None };
        private.up().await;
        private
    }

    async fn up(&mut self) {
        // The port stays the same unless another process took it meanwhile.
        self.cluster = Some(Cluster::start(&self.server, &self.dir, &Options::default()).await.unwrap());
    }

    async fn down(&mut self) {
        self.cluster.take().unwrap().stop().await.unwrap();
    }

    async fn remove(mut self) {
        self.down().await;
        postgres::remove(&self.dir).await.unwrap();
        unprivileged::remove(&self.dir).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_survive_an_outage_of_the_database_without_losing_work() {
    let mut private = Private::start().await;
    let ledger = Ledger::at(private.cluster.as_ref().unwrap().url("postgres"));
    shared::migrate::run(&ledger.settings(&[]).database, |_| ()).await.unwrap();
    let worker = ledger.worker(2);
    let walk = ledger.enqueue(Chore::Walk { steps: 40, ms: 100 }).await;
    let sleep = ledger.enqueue(Chore::Sleep { ms: 3_000 }).await;
    ledger.until(walk, "under way", |job| job.progress.done >= 3).await;
    ledger.until(sleep, "begun", |job| job.started_at.is_some()).await;

    // Longer than a lease duration.
    private.down().await;
    tokio::time::sleep(Duration::from_secs(18)).await;
    private.up().await;

    let more = ledger.enqueue(Chore::Nothing).await;
    for id in [walk, sleep, more] {
        let job = ledger.until_finished(id).await;
        // The same attempts continued: the worker was not treated as dead.
        assert_eq!((job.status, job.attempt), (JobStatus::Succeeded, 1), "{job:?}");
        assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
    }
    assert_eq!(attempts(&ledger.get(walk).await), [1; 40]);
    worker.stop().await;
    ledger.pool.close().await;
    private.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_the_database_at_startup_and_can_be_stopped_meanwhile() {
    let ledger = Ledger::at("postgres://nobody@127.0.0.1:1/nothing".into());
    let worker = ledger.worker(1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(worker.stop().await < Duration::from_secs(10));
}
