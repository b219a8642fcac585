//! What callers ask for: periods, comparisons, filters and files.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use reqwest::Method;
use serde_json::{Value, json};
use shared::insight::feedback::{FeedbackDashboardReport, FeedbackReport};
use shared::insight::period::{Interval, Period};
use shared::insight::reports::{CustomerReport, DashboardReport, LeadReport, Report};
use shared::insight::segments::SegmentReport;
use shared::insight::table::{Rows, Table};
use shared::insight::themes::ThemesReport;
use shared::platform::db;
use testing::Database;

use crate::report_helpers::{assert_same, pairs, request};
use crate::support::{self, Api, connect, faults, id};

const LEADS: &str = "/dev/crm/reports/leads";

/// The reports: path, whether it has a period and intervals, and its filters.
const REPORTS: [(&str, bool, bool, &[&str]); 7] = [
    (LEADS, true, true, &["source", "status", "assigned_to"]),
    ("/dev/crm/reports/customers", true, true, &["type", "status", "assigned_to", "segment"]),
    ("/dev/crm/analytics/dashboard", true, false, &["assigned_to"]),
    ("/dev/crm/customers/segments", false, false, &["type", "status", "assigned_to"]),
    ("/dev/crm/feedback/analytics", true, true, &["category", "segment", "type"]),
    ("/dev/crm/feedback/themes", true, false, &["category", "segment", "type"]),
    ("/dev/crm/feedback/dashboard", true, true, &["category", "segment", "type"]),
];

#[tokio::test]
async fn a_parameter_that_a_report_does_not_have_is_rejected() {
    let api = Api::start().await;
    let values = [
        ("from", "2026-01-01"),
        ("to", "2027-01-01"),
        ("period", "last_month"),
        ("tz", "Asia/Kolkata"),
        ("compare", "year_ago"),
        ("interval", "quarter"),
        ("source", "website"),
        ("status", "active"),
        ("type", "business"),
        ("assigned_to", "null"),
        ("segment", "new,loyal"),
        ("category", "support"),
        ("limit", "5"),
        ("cursor", "x"),
    ];
    for (path, has_period, has_intervals, filters) in REPORTS {
        for (name, value) in values {
            let value = if (path, name) == (LEADS, "status") { "won" } else { value };
            let is_known = match name {
                "from" | "to" | "period" | "tz" | "compare" => has_period,
                "interval" => has_intervals,
                _ => filters.contains(&name),
            };
            let path = format!("{path}?{name}={value}");
            if is_known {
                api.read(&path).await;
            } else {
                assert_eq!(faults(&support::json(api.get(&path), 400).await), [(name, "unknown")], "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_month_of_berlin_begins_at_midnight_in_berlin() {
    let api = Api::start().await;
    api.send(Method::PUT, "/dev/crm/settings", json!({ "time_zone": "Europe/Berlin" }), 200).await;
    let march = api.read(&format!("{LEADS}?from=2026-03-01&to=2026-04-01&interval=month")).await;
    let (from, to) = ("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    assert_eq!(march["period"], json!({ "from": from, "to": to, "interval": "month", "tz": "Europe/Berlin" }));
    assert_eq!(
        march["created"]["by_interval"],
        json!([{ "start": from, "end": to, "label": "2026-03", "partial": false, "count": 0 }])
    );
    // A request can name another zone, and times are times in every zone.
    let quarter =
        format!("{LEADS}?from=2026-01-01&to=2026-03-31T22:00:00Z&interval=quarter&tz=Asia/Kolkata&compare=year_ago");
    let quarter = api.read(&quarter).await;
    assert_eq!(quarter["period"]["from"], "2025-12-31T18:30:00Z");
    assert_eq!(quarter["comparison"]["period"]["from"], "2024-12-31T18:30:00Z");
    assert_eq!(quarter["comparison"]["period"]["to"], "2025-03-31T22:00:00Z");
    let labels = |report: &Value| -> Vec<(String, bool)> {
        let intervals = report["created"]["by_interval"].as_array().unwrap().iter();
        intervals.map(|of| (of["label"].as_str().unwrap().to_owned(), of["partial"].as_bool().unwrap())).collect()
    };
    assert_eq!(labels(&quarter), [("2026-Q1".into(), false), ("2026-Q2".into(), true)]);
    assert_eq!(labels(&quarter["comparison"]), [("2025-Q1".into(), false), ("2025-Q2".into(), true)]);
    let this_year = api.read(&format!("{LEADS}?period=this_year&interval=year")).await;
    assert!(labels(&this_year).last().unwrap().1);
}

/// A workspace with some of everything: the id of the owner.
async fn fill(api: &Api) -> String {
    let user = api.create("/dev/crm/users", json!({ "name": "=Grace", "email": "grace@example.com" })).await;
    let owner = id(&user).to_owned();
    for (name, source, status, assigned_to) in [
        ("Ada", "website", "won", json!(owner)),
        ("Bob", "referral", "lost", json!(null)),
        ("Cy", "website", "new", json!(owner)),
    ] {
        let email = format!("{name}@example.com");
        let body =
            json!({ "name": name, "email": email, "source": source, "status": status, "assigned_to": assigned_to });
        api.create("/dev/crm/leads", body).await;
    }
    for (name, kind, days) in [("ada", "business", 2), ("bob", "individual", 40), ("cy", "individual", 2)] {
        let customer = api.customer(name, &[(days, 3), (days, 1)]).await;
        let body = json!({ "type": kind, "assigned_to": if name == "cy" { json!(null) } else { json!(owner) } });
        api.send(Method::PUT, &format!("/dev/crm/customers/{customer}"), body, 200).await;
        let meeting = json!({ "type": "call", "subject": "s", "date": Utc::now() });
        api.create(&format!("/dev/crm/customers/{customer}/interactions"), meeting).await;
        for (category, rating) in [("Support", 5), ("support", 2)] {
            let statement =
                "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, category, requested_at,
                    answered_at, created_at, updated_at)
                SELECT $1, gen_random_uuid(), $2, 'answered', $3, $4, at, at, at, at FROM (SELECT now() AS at) AS t";
            sqlx::query(statement)
                .bind(api.workspace_id)
                .bind(customer.parse::<uuid::Uuid>().unwrap())
                .bind(rating)
                .bind(category)
                .execute(&mut api.connection().await)
                .await
                .unwrap();
        }
    }
    owner
}

#[tokio::test]
async fn filters_apply_to_every_figure() {
    let api = Api::start().await;
    let owner = fill(&api).await;
    let report = api.report(&format!("{LEADS}?assigned_to={owner}")).await;
    assert_eq!((&report["totals"]["leads"], &report["created"]["leads"]), (&json!(2), &json!(2)));
    assert_eq!(report["totals"]["by_source"]["referral"], 0);
    let graces = json!({ "assigned_to": owner, "name": "=Grace", "leads": 2, "conversions": 1,
        "rate": { "numerator": 1, "denominator": 2, "rate": 0.5 } });
    assert_eq!(report["by_owner"], json!([graces]));
    assert_eq!(report["totals"]["by_owner"], json!([{ "assigned_to": owner, "name": "=Grace", "leads": 2 }]));
    assert_eq!((&report["outcomes"]["won"], &report["outcomes"]["lost"]), (&json!(1), &json!(0)));
    let report = api.report(&format!("{LEADS}?assigned_to=null&status=lost,won")).await;
    assert_eq!((&report["totals"]["leads"], &report["outcomes"]["lost"]), (&json!(1), &json!(1)));
    let today = report["outcomes"]["by_interval"].as_array().unwrap().last().unwrap();
    assert_eq!((&today["lost"], &today["label"]), (&json!(1), &json!(Utc::now().date_naive())));

    let report = api.report("/dev/crm/reports/customers?type=business").await;
    assert_eq!((&report["totals"]["customers"], &report["orders"]["quantity"]), (&json!(1), &json!(4)));
    assert_eq!(report["interactions"]["interactions"], 1);
    // All three are new customers who ordered twice; one of them 40 days ago.
    let report = api.report("/dev/crm/reports/customers?segment=active").await;
    assert_eq!((&report["totals"]["customers"], &report["orders_ever"]["orders"]), (&json!(3), &json!(6)));
    let report = api.report("/dev/crm/reports/customers?segment=prospects,loyal").await;
    assert_eq!((&report["totals"]["customers"], &report["orders_ever"]["orders"]), (&json!(0), &json!(0)));
    let report = api.report(&format!("/dev/crm/analytics/dashboard?assigned_to={owner}")).await;
    assert_eq!((&report["leads"]["total"], &report["customers"]["total"]), (&json!(2), &json!(2)));
    assert_eq!((&report["jobs"], &report["orders"]["by_status"]["pending"]), (&json!(null), &json!(4)));
    let about = |activity: &Value| activity["summary"].as_str().unwrap_or_default() == "Bob";
    assert!(!report["recent_activity"].as_array().unwrap().iter().any(about), "{report:#}");
    let report = api.report("/dev/crm/feedback/analytics?category=SUPPORT&type=individual").await;
    assert_eq!((&report["n"], &report["mean_rating"]), (&json!(4), &json!(3.5)));
    assert_eq!(report["by_category"][0]["category"], "Support");
    assert_eq!(api.report("/dev/crm/feedback/analytics?category=null").await["n"], 0);

    // Each group lists its customers, with the filters.
    let report = api.report(&format!("/dev/crm/customers/segments?assigned_to={owner}&type=individual")).await;
    assert_eq!((&report["customers"], &report["history"]), (&json!(1), &json!(null)));
    let group = report["groups"].as_array().unwrap().iter().find(|group| group["count"] == 1).unwrap();
    assert_eq!(group["query"], format!("/dev/crm/customers?segment=active&type=individual&assigned_to={owner}"));
    assert_eq!(api.read(group["query"].as_str().unwrap()).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_comparison_is_the_report_of_its_period() {
    let api = Api::start().await;
    fill(&api).await;
    for (path, has_period, ..) in REPORTS {
        for compare in ["previous", "year_ago"] {
            if !has_period {
                continue;
            }
            let mut compared =
                api.report(&format!("{path}?from=2026-01-10&compare={compare}&tz=America/New_York")).await;
            let mut comparison = compared["comparison"].take();
            let of = |bound: &str| comparison["period"][bound].as_str().unwrap().to_owned();
            let path = format!("{path}?from={}&to={}&tz=America/New_York", of("from"), of("to"));
            let mut alone = api.report(&path).await;
            for report in [&mut comparison, &mut alone] {
                report.as_object_mut().unwrap().remove("as_of");
                if let Some(analytics) = report.get_mut("analytics") {
                    analytics.as_object_mut().unwrap().remove("as_of");
                }
            }
            assert_same(&path, &comparison, &alone);
        }
    }
}

/// Whether each column of a table is a field of its rows.
fn assert_columns(report: &Value, table: &Table) {
    let rows = report.pointer(table.at).unwrap_or_else(|| panic!("{} has no {}", table.name, table.at));
    let (Rows::Items(columns) | Rows::Spread(columns, _)) = table.rows else {
        assert!(rows.is_object(), "{}", table.name);
        return;
    };
    let Some(row) = rows.as_array().and_then(|rows| rows.first()) else { return };
    for column in columns {
        let pointer = format!("/{}", column.replace('.', "/"));
        assert!(row.pointer(&pointer).is_some(), "{} has no {column}: {row}", table.name);
    }
}

#[tokio::test]
async fn every_table_of_a_report_is_a_file() {
    let api = Api::start().await;
    let owner = fill(&api).await;
    let tables: [(&str, &[Table]); 7] = [
        (LEADS, LeadReport::TABLES),
        ("/dev/crm/reports/customers", CustomerReport::TABLES),
        ("/dev/crm/analytics/dashboard", DashboardReport::TABLES),
        ("/dev/crm/customers/segments", SegmentReport::TABLES),
        ("/dev/crm/feedback/analytics", FeedbackReport::TABLES),
        ("/dev/crm/feedback/themes", ThemesReport::TABLES),
        ("/dev/crm/feedback/dashboard", FeedbackDashboardReport::TABLES),
    ];
    let csv = |path: &str| api.get(path).header("accept", "text/csv");
    for (path, tables) in tables {
        let report = api.read(path).await;
        for table in tables {
            assert_columns(&report, table);
            let path = format!("{path}?table={}", table.name);
            let response = csv(&path).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
            let name = response.headers()["content-disposition"].to_str().unwrap().to_owned();
            assert!(name.starts_with("attachment; filename=") && name.contains(table.name), "{name}");
            let rows = match report.pointer(table.at).unwrap() {
                Value::Array(rows) => rows.len(),
                rows => rows.as_object().unwrap().len(),
            };
            assert_eq!(response.text().await.unwrap().lines().count(), rows + 1, "{path}");
            // It is for CSV only.
            assert_eq!(faults(&support::json(api.get(&path), 400).await), [("table", "invalid")]);
        }
        let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
        for (query, code) in [("", "required"), ("?table=x", "invalid")] {
            if names.len() == 1 && query.is_empty() {
                assert_eq!(csv(path).send().await.unwrap().status(), 200);
                continue;
            }
            let refused = support::json(csv(&format!("{path}{query}")), 400).await;
            assert_eq!(faults(&refused), [("table", code)]);
            let message = refused["errors"][0]["message"].as_str().unwrap();
            assert!(names.iter().all(|name| message.contains(name)), "{message}");
        }
    }
    let file = csv(&format!("{LEADS}?table=by_owner&compare=previous&period=last_30_days")).send().await.unwrap();
    let expected = format!(
        "period,assigned_to,name,leads,conversions,rate.rate\r\nrequested,{owner},'=Grace,2,1,0.5\r\nrequested,,,1,0,0.0\r\n"
    );
    assert_eq!(file.text().await.unwrap(), expected);
}

/// PostgreSQL, which knows time zones on its own, begins intervals at the same times.
#[tokio::test]
async fn intervals_begin_where_the_database_begins_them() {
    let database = Database::create().await;
    let mut connection = connect(database.url()).await;
    let zones = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Chatham",
    ];
    for zone in zones {
        for interval in Interval::WORDS {
            let parameters =
                pairs(&[("from", "2023-11-05T03:17:00Z"), ("to", "2026-04-07"), ("interval", interval), ("tz", zone)]);
            let period: Period = request::<LeadReport>(&parameters, Tz::UTC, db::now()).periods.remove(0);
            let buckets: BTreeMap<DateTime<Utc>, String> =
                period.buckets().into_iter().map(|bucket| (bucket.start, bucket.label)).collect();
            let starts: Vec<DateTime<Utc>> = sqlx::query_scalar(
                "SELECT DISTINCT date_trunc($3, at, $4) FROM generate_series($1::timestamptz, $2, interval '37 minutes') AS at",
            )
            .bind(period.from)
            .bind(period.to)
            .bind(*interval)
            .bind(zone)
            .fetch_all(&mut connection)
            .await
            .unwrap();
            let found: Vec<DateTime<Utc>> = buckets.keys().copied().collect();
            let mut starts: Vec<DateTime<Utc>> = starts.into_iter().filter(|start| *start < period.to).collect();
            starts.sort_unstable();
            assert_eq!(found, starts, "{interval} in {zone}");
        }
    }
}
