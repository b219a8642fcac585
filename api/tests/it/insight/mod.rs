//! The reports: that they tell what is so, and that each figure is what a second computation says, which
//! knows nothing of SQL.

mod dashboard;
mod data;
mod headlines;
mod oracle;
mod requests;
mod story;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use shared::insight::feedback::FeedbackDashboardReport;
use shared::insight::reports::{CustomerReport, DashboardReport, LeadReport, Report};
use shared::insight::scoring::{self, Freshness};
use shared::insight::themes::ThemesReport;
use shared::platform::db;
use shared::values::Time;
use sqlx::{Connection, PgConnection};
use testing::{Database, data_sets};
use uuid::Uuid;

use crate::oracle::segments as second_segments;
use crate::report_calendar::assert_periods;
use crate::report_helpers::{Pairs, assert_same, compared, figures, parameters, request};
use crate::support::connect;
use data::Data;

/// How many random data sets are put into the database at once.
const BATCH: u64 = 25;
/// How many look at them at once.
const READERS: u64 = 4;

/// Data sets around the periods of random requests.
fn made_of(seeds: impl Iterator<Item = u64>, now: Time) -> Vec<(u64, Data)> {
    let make = |seed| {
        let random = &mut StdRng::seed_from_u64(seed);
        let pairs = parameters::<LeadReport>(random, now, &[Uuid::nil()], &[]);
        let request = request::<LeadReport>(&pairs, chrono_tz::Tz::UTC, now);
        (seed, Data::random(random, now, &request.periods[0]))
    };
    seeds.map(make).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_a_second_computation_says() {
    let database = Database::create().await;
    let readers = (0..READERS).map(|reader| {
        let url = database.url().to_owned();
        tokio::spawn(async move {
            let connection = &mut connect(&url).await;
            for batch in (0..data_sets() / BATCH).filter(|batch| batch % READERS == reader) {
                let sets = made_of(batch * BATCH..(batch + 1) * BATCH, db::now());
                let rows: Vec<Data> = sets.iter().map(|(_, data)| data.clone()).collect();
                Data::store_all(connection, &rows).await;
                for (seed, data) in &sets {
                    score(connection, data).await;
                    outdate_activities(connection, data.workspace_id).await;
                    Comparison { seed: *seed, data, now: db::now() }.run(connection).await;
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
}

/// Scores the customers, and lets the last snapshot be that of the data set.
async fn score(connection: &mut PgConnection, data: &Data) {
    let mut step = connection.begin().await.unwrap();
    assert_eq!(scoring::refresh_if_cheap(&mut step, data.workspace_id).await.unwrap(), Freshness::Fresh);
    step.commit().await.unwrap();
    sqlx::query("UPDATE score_states SET snapshot_date = $2 WHERE workspace_id = $1")
        .bind(data.workspace_id)
        .bind(data.snapshot_date)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query(
        "UPDATE customer_scores SET previous_segment = segments.segment
         FROM unnest($2::uuid[], $3::text[]) AS segments (id, segment)
         WHERE workspace_id = $1 AND customer_id = segments.id",
    )
    .bind(data.workspace_id)
    .bind(data.previous_segments.keys().copied().collect::<Vec<_>>())
    .bind(data.previous_segments.values().copied().collect::<Vec<_>>())
    .execute(connection)
    .await
    .unwrap();
}

/// Lets some customers have no packed activity, and some one that is out of date, as they have until a worker scores
/// them again.
async fn outdate_activities(connection: &mut PgConnection, workspace: Uuid) {
    for statement in [
        "UPDATE customer_scores SET activity = NULL
         WHERE workspace_id = $1 AND get_byte(uuid_send(customer_id), 15) % 4 = 0",
        "WITH outdated AS (
             UPDATE customer_scores SET activity = '\\x0000000000000000'
             WHERE workspace_id = $1 AND get_byte(uuid_send(customer_id), 15) % 4 = 1 RETURNING customer_id
         )
         INSERT INTO stale_customers (workspace_id, customer_id) SELECT $1, customer_id FROM outdated",
    ] {
        sqlx::query(statement).bind(workspace).execute(&mut *connection).await.unwrap();
    }
}

/// A comparison of all reports about a data set.
struct Comparison<'a> {
    seed: u64,
    data: &'a Data,
    now: Time,
}

impl Comparison<'_> {
    async fn run(&self, connection: &mut PgConnection) {
        let now = self.now;
        let (leads, pairs, data, request) = self.ask(connection, LeadReport).await;
        let expected = compared(&request, |period, _| oracle::leads(&data, period, now));
        assert_same(&self.place(&pairs), &leads, &expected);

        let (customers, pairs, data, request) = self.ask(connection, CustomerReport).await;
        let expected = compared(&request, |period, _| oracle::customers(&data, period, now));
        assert_same(&self.place(&pairs), &customers, &expected);

        let (report, pairs, data, request) = self.ask(connection, DashboardReport).await;
        let is_filtered = !crate::report_helpers::filters(&pairs).is_empty();
        let of = |period: &_, before: &_| dashboard::dashboard(&data, (period, before), now, is_filtered);
        assert_same(&self.place(&pairs), &report, &compared(&request, of));

        let (themes, pairs, data, request) = self.ask(connection, ThemesReport).await;
        let expected = compared(&request, |period, before| dashboard::themes(&data, (period, before), now));
        assert_same(&self.place(&pairs), &without_quotes(themes), &expected);

        // Its analytics are compared with those of another second computation.
        let (report, pairs, data, request) = self.ask(connection, FeedbackDashboardReport).await;
        for (part, (period, before)) in [&report, &report["comparison"]].into_iter().zip(request.with_those_before()) {
            let themes = &dashboard::themes(&data, (period, before), now)["themes"];
            let first: Vec<Value> = themes.as_array().unwrap().iter().take(5).cloned().collect();
            let place = self.place(&pairs);
            assert_same(&place, &without_quotes(json!({ "themes": part["themes"] }))["themes"], &Value::Array(first));
            let latest: Vec<Value> =
                part["latest_answers"].as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
            assert_eq!(Value::Array(latest), dashboard::latest_answers(&data), "{place}");
        }
    }

    fn place(&self, pairs: &Pairs) -> String {
        format!("data set {} at {}: {pairs:?}", self.seed, self.now)
    }

    /// A random request for a report: the report, its parameters, and the data that pass its filters.
    async fn ask<R: Report>(
        &self,
        connection: &mut PgConnection,
        report: R,
    ) -> (Value, Pairs, Data, shared::insight::request::Request) {
        let Self { seed, data, now } = *self;
        let random = &mut StdRng::seed_from_u64(seed);
        let pairs = parameters::<R>(random, now, &data.owners, &["support", "größe"]);
        let request = request::<R>(&pairs, data.zone, now);
        if R::OFFERS.period {
            assert_periods(&self.place(&pairs), &request, &pairs, data.zone, now);
        }
        let today = now.with_timezone(&data.zone).date_naive();
        let segments: BTreeMap<Uuid, &str> = second_segments::of_all(&dashboard::records(data), today)
            .into_iter()
            .map(|(id, _, segment)| (id, segment))
            .collect();
        let figures = figures(connection, data.workspace_id, now, (report, &request)).await;
        (figures, pairs.clone(), data.filtered(&pairs, &segments), request)
    }
}

/// Themes without their quotes, which the data sets do not have, and the time at which they were found.
fn without_quotes(mut report: Value) -> Value {
    for part in ["", "/comparison"] {
        let Some(Value::Object(part)) = report.pointer_mut(part) else { continue };
        part.remove("found_at");
        for theme in part["themes"].as_array_mut().unwrap() {
            assert_eq!(theme.as_object_mut().unwrap().remove("quotes"), Some(json!([])));
        }
    }
    report
}
