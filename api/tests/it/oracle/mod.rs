//! A second computation of scores, of the reports on segments and health, and of feedback figures,
//! in plain Rust over lists of records. It was written from the definitions, independently of the
//! program, and both must agree on a thousand random data sets.

pub mod data;
mod feedback;
pub mod health;
pub mod segments;
mod snapshots;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use shared::insight::feedback::FeedbackReport;
use shared::insight::health::{self as product_health, Health};
use shared::insight::scoring::{self, Day, Freshness};
use shared::insight::segments::SegmentReport;
use shared::platform::db;
use sqlx::{Connection, PgConnection};
use testing::{Database, data_sets};
use uuid::Uuid;

use crate::report_helpers::{assert_same, figures, parameters, request};
use crate::support::connect;
use data::Data;
use snapshots::Snapshots;

/// The number of additional, large data sets, which are scored by rank.
const RANKED: u64 = 3;
/// How many data sets are inserted at once, and how many readers run at once.
const BATCH: u64 = 25;
const READERS: u64 = 4;

/// The data sets of one reader, in batches.
fn batches(reader: u64) -> impl Iterator<Item = Vec<Data>> {
    let batches = (0..data_sets() / BATCH).filter(move |batch| batch % READERS == reader);
    batches.map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(|seed| Data::random(seed, 1..25)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scores_match_a_second_computation() {
    let database = Database::create().await;
    let readers = (0..READERS).map(|reader| {
        let url = database.url().to_owned();
        tokio::spawn(async move {
            let connection = &mut connect(&url).await;
            let ranked = (data_sets()..data_sets() + RANKED).filter(|seed| seed % READERS == reader);
            for batch in batches(reader).chain(ranked.map(|seed| vec![Data::random(seed, 480..700)])) {
                Data::insert_all(connection, &batch).await;
                for mut data in batch {
                    let snapshots = Snapshots::random(&data, data.date(db::now()));
                    refresh_if_cheap(connection, data.workspace).await;
                    snapshots.store(connection, data.workspace).await;
                    compare(connection, &data, &snapshots).await;
                    // And after changes of all kinds.
                    data.change(connection).await;
                    refresh_if_cheap(connection, data.workspace).await;
                    compare(connection, &data, &snapshots).await;
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_figures_match_a_second_computation() {
    let database = Database::create().await;
    let readers = (0..READERS).map(|reader| {
        let url = database.url().to_owned();
        tokio::spawn(async move {
            let connection = &mut connect(&url).await;
            for batch in batches(reader) {
                Data::insert_all(connection, &batch).await;
                for data in batch {
                    refresh_if_cheap(connection, data.workspace).await;
                    let now = db::now();
                    let context = format!("data set {} at {now}", data.seed);
                    let random = &mut StdRng::seed_from_u64(data.seed);
                    let pairs = parameters::<FeedbackReport>(random, now, &[], &["SUPPORT", "price", "größe"]);
                    feedback::compare(connection, &context, &data, &pairs, now).await;
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
}

async fn refresh_if_cheap(connection: &mut PgConnection, workspace: Uuid) {
    let mut transaction = connection.begin().await.unwrap();
    assert_eq!(scoring::refresh_if_cheap(&mut transaction, workspace).await.unwrap(), Freshness::Fresh);
    transaction.commit().await.unwrap();
}

/// A customer with three scores, the segment, the health and its band.
type StoredScores = (Uuid, Option<i16>, Option<i16>, Option<i16>, String, Option<i16>, Option<String>);

async fn compare(connection: &mut PgConnection, data: &Data, snapshots: &Snapshots) {
    let now = db::now();
    let day = Day::of(now, data.zone);
    let context = format!("data set {} at {now}", data.seed);
    let mut stored: Vec<StoredScores> = sqlx::query_as(
        "SELECT customer_id, recency, frequency, monetary, segment, health, band FROM customer_scores WHERE workspace_id = $1",
    )
    .bind(data.workspace)
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    stored.sort();
    let mut expected: Vec<_> = segments::of_all(data, day.date)
        .into_iter()
        .map(|(id, [r, f, m], segment)| {
            let known = health::of(data, id, day.date);
            let band = known.as_ref().and_then(|known| known.band()).map(str::to_owned);
            (id, r, f, m, segment.to_owned(), known.map(|known| known.score), band)
        })
        .collect();
    expected.sort();
    assert_eq!(stored, expected, "{context}");

    let owners: Vec<Uuid> = data.owners.iter().copied().flatten().collect();
    let pairs = parameters::<SegmentReport>(&mut StdRng::seed_from_u64(data.seed), now, &owners, &[]);
    let request = request::<SegmentReport>(&pairs, data.zone, now);
    let mut report = figures(connection, data.workspace, now, (SegmentReport, &request)).await;
    for group in report["groups"].as_array_mut().unwrap() {
        let group = group.as_object_mut().unwrap();
        assert!(group.remove("definition").is_some() && group.remove("scores").is_some());
    }
    assert_same(&format!("{context}: {pairs:?}"), &report, &segments::report(data, snapshots, &pairs, now));

    // The health of a single customer agrees with the scores of all, as do the points and facts of
    // its parts.
    for id in data.customers.iter().take(2) {
        let facts = scoring::facts(connection, data.workspace, &[*id], day).await.unwrap().pop().unwrap();
        let points: Vec<Option<f64>> = Health::of(&facts).parts.iter().map(|part| part.points).collect();
        if let Some(known) = health::of(data, *id, day.date) {
            assert_eq!(points, known.points, "{context}");
        }
        let ours = product_health::get(connection, data.workspace, *id).await.unwrap();
        let mut ours = serde_json::to_value(ours).unwrap();
        ours.as_object_mut().unwrap().remove("as_of");
        let mut theirs = health::expected(data, *id, day.date);
        let score = theirs["score"].as_i64().map(|score| score as i16);
        let Value::Object(past) = snapshots.of_customer(*id, score, day.date) else { unreachable!() };
        theirs.as_object_mut().unwrap().extend(past);
        assert_same(&context, &ours, &theirs);
    }
}
