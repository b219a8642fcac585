//! How callers share the answers of reports that take long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use chrono_tz::Tz;
use serde_json::{Value, json};
use shared::insight::filters::FilterBy;
use shared::insight::reports::{self, Report};
use shared::insight::request::{Offers, Request};
use shared::insight::table::Table;
use shared::platform::db::{self, Pool};
use shared::values::Time;
use sqlx::{AssertSqlSafe, PgConnection};
use testing::{Database, earlier};
use uuid::Uuid;

use crate::report_helpers::{pairs, request};
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
    const OFFERS: Offers = Offers { period: false, interval: false, filters: &[FilterBy::Segment] };
    const TABLES: &'static [Table] = &[];
    type Figures = Value;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        _: Uuid,
        as_of: Time,
        _: &Request,
    ) -> shared::Result<Vec<Value>> {
        let made = self.made.fetch_add(1, SeqCst) + 1;
        sqlx::query("SELECT pg_sleep($1)").bind(self.seconds).execute(connection).await?;
        Ok(vec![json!({ "as_of": as_of, "made": made })])
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
        self.ask_for(report, &[]).await
    }

    /// With filters, which make it another report.
    async fn ask_for(&self, report: &Slow, filters: &[(&str, &str)]) -> u64 {
        let request = request::<Slow>(&pairs(filters), Tz::UTC, db::now());
        let answer = reports::cached(&self.pool, self.workspace_id, report.clone(), request).await.unwrap();
        serde_json::from_str::<Value>(answer.get()).unwrap()["made"].as_u64().unwrap()
    }

    /// Lets all answers be older by so many seconds.
    async fn age(&self, seconds: i32) {
        let age = format!("UPDATE reports SET {}", earlier("as_of", &format!("{seconds} seconds")));
        sqlx::query(AssertSqlSafe(age)).execute(self.database.pool()).await.unwrap();
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
    // Other parameters are another report, and equal ones the same.
    assert_eq!(asker.ask_for(&slow, &[("segment", "new"), ("segment", "loyal")]).await, 2);
    assert_eq!(asker.ask_for(&slow, &[("segment", "loyal,new")]).await, 2);
    // Others have their own.
    let other = Asker { workspace_id: Uuid::now_v7(), ..asker };
    assert_eq!(other.ask(&slow).await, 3);
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
