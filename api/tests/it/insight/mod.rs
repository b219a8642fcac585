//! The reports: that they tell what is so, and that each figure is what a second computation says, which
//! knows nothing of SQL.

mod dashboard;
mod data;
mod headlines;
mod oracle;
mod story;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::{Value, json};
use shared::insight::period::Period;
use shared::insight::reports::{CustomerReport, DashboardReport, LeadReport, Report};
use shared::insight::scoring::{self, Freshness};
use shared::insight::themes::ThemesReport;
use shared::platform::db;
use shared::values::Time;
use sqlx::{Connection, PgConnection};
use testing::{Database, data_sets};

use crate::report_helpers::{assert_same, parameters};
use crate::support::connect;
use data::Data;

/// How many random data sets are put into the database at once.
const BATCH: u64 = 25;
/// How many look at them at once.
const READERS: u64 = 4;

async fn figures<R: Report>(connection: &mut PgConnection, data: &Data, now: Time, report: R) -> Value
where
    R::Figures: Serialize,
{
    serde_json::to_value(report.compute(connection, data.workspace_id, now).await.unwrap()).unwrap()
}

/// Data sets with the periods of which is told.
fn made_of(seeds: impl Iterator<Item = u64>, now: Time) -> Vec<(u64, Period, Data)> {
    let make = |seed| {
        let random = &mut StdRng::seed_from_u64(seed);
        let period = Period::parse(&parameters(random, now), now).unwrap();
        let data = Data::random(random, now, &period);
        (seed, period, data)
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
                let now = db::now();
                let sets = made_of(batch * BATCH..(batch + 1) * BATCH, now);
                let rows: Vec<Data> = sets.iter().map(|(.., data)| data.clone()).collect();
                Data::store_all(connection, &rows).await;
                for (seed, period, data) in &sets {
                    compare(connection, &format!("data set {seed} at {now}"), (data, period, now)).await;
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
}

async fn compare(connection: &mut PgConnection, place: &str, (data, period, now): (&Data, &Period, Time)) {
    let leads = figures(connection, data, now, LeadReport { period: period.clone() }).await;
    assert_same(place, &leads, &oracle::leads(data, period, now));
    let customers = figures(connection, data, now, CustomerReport { period: period.clone() }).await;
    assert_same(place, &customers, &oracle::customers(data, period, now));

    let mut step = connection.begin().await.unwrap();
    assert_eq!(scoring::refresh_if_cheap(&mut step, data.workspace_id).await.unwrap(), Freshness::Fresh, "{place}");
    step.commit().await.unwrap();
    sqlx::query("UPDATE score_states SET snapshot_date = $2 WHERE workspace_id = $1")
        .bind(data.workspace_id)
        .bind(data.snapshot_date)
        .execute(&mut *connection)
        .await
        .unwrap();
    let report = figures(connection, data, now, DashboardReport { period: period.clone() }).await;
    assert_same(place, &report, &dashboard::dashboard(data, period, now));

    let mut themes = figures(connection, data, now, ThemesReport { period: period.clone(), limit: 20 }).await;
    for field in ["as_of", "period", "found_at"] {
        themes.as_object_mut().unwrap().remove(field);
    }
    for theme in themes["themes"].as_array_mut().unwrap() {
        assert_eq!(theme.as_object_mut().unwrap().remove("quotes"), Some(json!([])), "{place}");
    }
    assert_same(place, &themes, &dashboard::themes(data, period));
}
