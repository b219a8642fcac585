//! How callers share the answers of reports that take long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::insight::reports::{self, Report};
use shared::platform::db::{self, Pool};
use shared::values::Time;
use sqlx::PgConnection;
use testing::Database;
use uuid::Uuid;

use crate::support::settings;

/// A report that takes as long as it is told, and counts how often it was made.
#[derive(Clone)]
struct Slow {
    seconds: f64,
    made: Arc<AtomicUsize>,
}

impl Slow {
    fn new(seconds: f64) -> Self {
        Self { seconds, made: Arc::default() }
    }

    fn made(&self) -> usize {
        self.made.load(SeqCst)
    }
}

impl Report for Slow {
    const NAME: &'static str = "slow";
    type Figures = Value;

    fn key(&self) -> String {
        self.seconds.to_string()
    }

    async fn compute(&self, connection: &mut PgConnection, _: Uuid, as_of: Time) -> shared::Result<Value> {
        let made = self.made.fetch_add(1, SeqCst) + 1;
        sqlx::query("SELECT pg_sleep($1)").bind(self.seconds).execute(connection).await?;
        Ok(json!({ "as_of": as_of, "made": made }))
    }
}

struct Asker {
    database: Database,
    pool: Pool,
    workspace_id: Uuid,
}

impl Asker {
    async fn new() -> Self {
        let database = Database::create().await;
        let pool = db::pool(&settings(database.url()).database, "test").unwrap();
        Self { database, pool, workspace_id: Uuid::now_v7() }
    }

    async fn ask(&self, report: &Slow) -> u64 {
        let answer = reports::cached(&self.pool, self.workspace_id, report.clone()).await.unwrap();
        serde_json::from_str::<Value>(answer.get()).unwrap()["made"].as_u64().unwrap()
    }

    /// Lets all answers be older by so many seconds.
    async fn age(&self, seconds: i32) {
        let age = "UPDATE reports SET as_of = as_of - make_interval(secs => $1)";
        sqlx::query(age).bind(f64::from(seconds)).execute(self.database.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn a_quick_report_is_made_for_each_caller() {
    let (asker, quick) = (Asker::new().await, Slow::new(0.0));
    for expected in 1..=3 {
        assert_eq!(asker.ask(&quick).await, expected);
    }
    // Those who ask at once share one that was begun after they asked.
    let answers = futures_util::future::join_all((0..30).map(|_| asker.ask(&quick))).await;
    assert!(answers.iter().all(|made| *made == 4), "{answers:?}");
    assert_eq!(asker.ask(&quick).await, 5);
}

#[tokio::test]
async fn callers_of_a_slow_report_share_one_answer() {
    let (asker, slow) = (Asker::new().await, Slow::new(0.5));
    let answers = futures_util::future::join_all((0..30).map(|_| asker.ask(&slow))).await;
    assert!(answers.iter().all(|made| *made == 1), "{answers:?}");
    let begun = Instant::now();
    assert_eq!(asker.ask(&slow).await, 1);
    assert!(begun.elapsed() < Duration::from_millis(500), "it was kept");
    // Others have their own.
    let other = Asker { workspace_id: Uuid::now_v7(), ..asker };
    assert_eq!(other.ask(&slow).await, 2);
}

#[tokio::test]
async fn an_aging_answer_is_still_given_while_the_next_is_made() {
    let (asker, slow) = (Asker::new().await, Slow::new(0.5));
    asker.ask(&slow).await;
    asker.age(50).await;
    let begun = Instant::now();
    assert_eq!(asker.ask(&slow).await, 1);
    assert!(begun.elapsed() < Duration::from_millis(500), "nobody waits");
    while asker.ask(&slow).await == 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no other is made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(slow.made(), 2);
}

#[tokio::test]
async fn no_answer_is_older_than_a_minute() {
    let (asker, slow) = (Asker::new().await, Slow::new(0.3));
    asker.ask(&slow).await;
    asker.age(58).await;
    assert_eq!(asker.ask(&slow).await, 2);
    assert_eq!(reports::prune(&mut asker.pool.acquire().await.unwrap(), asker.workspace_id).await.unwrap(), 0);
    asker.age(601).await;
    assert_eq!(reports::prune(&mut asker.pool.acquire().await.unwrap(), asker.workspace_id).await.unwrap(), 1);
}

#[tokio::test]
async fn the_report_of_a_caller_who_left_is_cancelled_and_the_next_makes_its_own() {
    let (asker, slow) = (Asker::new().await, Slow::new(0.5));
    tokio::select! {
        _ = asker.ask(&slow) => panic!("it is made at once"),
        () = async { while slow.made() == 0 { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
    assert_eq!(asker.ask(&slow).await, 2);
}
