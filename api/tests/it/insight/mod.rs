//! The reports: that they tell what is so, and that each figure is what a second computation says, which
//! knows nothing of SQL.

mod data;
mod headlines;
mod oracle;
mod story;

use chrono::Duration;
use dev::testing::Database;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::Value;
use shared::fields::Time;
use shared::period::Period;
use shared::reports::{CustomerReport, DashboardReport, LeadReport, Report};
use sqlx::PgConnection;

use data::{Data, time};

/// Other tests of figures have the rest of a thousand.
const DATA_SETS: u64 = 400;

/// Asserts that two answers are the same, but for the last digits of what was divided.
fn assert_same(place: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let (mut names, mut expected): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
            names.sort();
            expected.sort();
            assert_eq!(names, expected, "{place}");
            ours.iter().for_each(|(name, value)| assert_same(&format!("{place}.{name}"), value, &theirs[name]));
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            let pairs = ours.iter().zip(theirs).enumerate();
            pairs.for_each(|(i, (ours, theirs))| assert_same(&format!("{place}[{i}]"), ours, theirs));
        }
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{place}: {ours} is not {theirs}");
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

async fn figures<R: Report>(connection: &mut PgConnection, data: &Data, now: Time, report: R) -> Value
where
    R::Figures: Serialize,
{
    serde_json::to_value(report.compute(connection, data.workspace_id, now).await.unwrap()).unwrap()
}

/// A period as callers ask for one, in one of some time zones.
fn parameters(random: &mut StdRng, now: Time) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut give = |name: &str, value: String| parameters.push((name.to_owned(), value));
    let from = now - Duration::minutes(random.random_range(0..400 * 24 * 60));
    match random.random_range(0..4) {
        0 => {}
        1 => give("from", from.to_rfc3339()),
        2 => give("from", from.date_naive().to_string()),
        _ => {
            give("from", from.to_rfc3339());
            give("to", (from + Duration::minutes(random.random_range(0..300 * 24 * 60))).to_rfc3339());
        }
    }
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"];
    give("tz", zones[random.random_range(0..zones.len())].to_owned());
    give("interval", ["day", "week", "month"][random.random_range(0..3)].to_owned());
    parameters
}

#[tokio::test]
async fn figures_are_what_a_second_computation_says() {
    let database = Database::create().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let now = time("2026-06-15T10:30:00Z");
    for seed in 0..DATA_SETS {
        let random = &mut StdRng::seed_from_u64(seed);
        let period = Period::parse(&parameters(random, now), now).unwrap();
        let data = Data::random(random, now, &period);
        data.store(&mut connection).await;
        let place = format!("data set {seed}");
        let leads = figures(&mut connection, &data, now, LeadReport { period: period.clone() }).await;
        assert_same(&place, &leads, &oracle::leads(&data, &period, now));
        let customers = figures(&mut connection, &data, now, CustomerReport { period: period.clone() }).await;
        assert_same(&place, &customers, &oracle::customers(&data, &period, now));
        let mut dashboard = figures(&mut connection, &data, now, DashboardReport { period: period.clone() }).await;
        let activity = dashboard.as_object_mut().unwrap().remove("recent_activity").unwrap();
        // These follow from the scores, and from what was read in comments.
        for headline in ["segments", "health", "themes"] {
            dashboard.as_object_mut().unwrap().remove(headline).unwrap();
        }
        assert_eq!(activity.as_array().unwrap().len(), data.activities().min(20), "{place}");
        assert_same(&place, &dashboard, &oracle::dashboard(&data, &period, now));
    }
}
