//! A second computation of scores and feedback figures, in plain Rust over lists of records, written from
//! the definitions and not from the program: both must say the same of a thousand random data sets.

mod data;
mod feedback;
mod health;
mod segments;

use dev::testing::Database;
use shared::db;
use shared::health::Health;
use shared::scores::{self, Day, Freshness};
use shared::segments as product;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::support::connect;
use data::Data;

/// The data sets that are small, and those in which ranks decide.
const SMALL: u64 = 1_000;
const RANKED: u64 = 3;

#[tokio::test]
async fn scores_are_those_of_a_second_computation() {
    let database = Database::create().await;
    let mut connection = connect(database.url()).await;
    for seed in 0..SMALL + RANKED {
        let size = if seed < SMALL { 1..25 } else { 480..700 };
        let mut data = Data::random(seed, size);
        data.insert(&mut connection).await;
        compare(&mut connection, &data).await;
        // And of what was changed since, whatever way.
        data.change(&mut connection).await;
        compare(&mut connection, &data).await;
    }
}

#[tokio::test]
async fn feedback_figures_are_those_of_a_second_computation() {
    let database = Database::create().await;
    let mut connection = connect(database.url()).await;
    for seed in 0..SMALL {
        let data = Data::random(seed, 1..25);
        data.insert(&mut connection).await;
        feedback::compare(&mut connection, &data).await;
    }
}

/// A customer with the three scores, the segment and the health.
type Kept = (Uuid, Option<i16>, Option<i16>, Option<i16>, String, Option<i16>);

async fn compare(connection: &mut PgConnection, data: &Data) {
    let day = Day::today();
    let mut transaction = connection.begin().await.unwrap();
    assert_eq!(scores::freshen(&mut transaction, data.workspace).await.unwrap(), Freshness::Fresh);
    transaction.commit().await.unwrap();

    let mut kept: Vec<Kept> = sqlx::query_as(
        "SELECT customer_id, recency, frequency, monetary, segment, health FROM customer_scores WHERE workspace_id = $1",
    )
    .bind(data.workspace)
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    kept.sort();
    let second = segments::of_all(data, day.0);
    let mut expected: Vec<_> = second
        .iter()
        .map(|(id, [r, f, m], segment)| {
            (*id, *r, *f, *m, (*segment).to_owned(), health::of(data, *id, day.0).map(|(score, _)| score))
        })
        .collect();
    expected.sort();
    // Who came after the scores were made, and of whom nothing is known, has no row yet.
    expected.retain(|(id, ..)| kept.iter().any(|(kept, ..)| kept == id) || data.is_known(*id));
    assert_eq!(kept, expected, "seed {}", data.seed);

    // Of one alone, the same as of all; and the points of each part.
    for id in data.customers.iter().take(2) {
        let facts = scores::facts(connection, data.workspace, &[*id], day).await.unwrap().pop().unwrap();
        let alone = Health::of(&facts);
        let second = health::of(data, *id, day.0);
        assert_eq!(alone.score, second.as_ref().map(|(score, _)| *score), "seed {}", data.seed);
        let points: Vec<Option<f64>> = alone.parts.iter().map(|part| part.points).collect();
        if let Some((_, expected)) = second {
            assert_eq!(points, expected, "seed {}", data.seed);
        }
    }
    let period = shared::period::Period::parse(&[], db::now()).unwrap();
    let report = product::report(connection, data.workspace, db::now(), &period).await.unwrap();
    for group in &report.groups {
        let count = second.iter().filter(|(.., segment)| *segment == group.segment.as_str()).count();
        assert_eq!((group.count as usize, group.share.denominator as usize), (count, data.customers.len()));
    }
}
