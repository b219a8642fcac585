//! What callers see, and the worked examples of `docs/insight/`.

use chrono::{Duration, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use shared::insight::reports::{CustomerReport, DashboardReport, LeadReport, Report};
use shared::platform::db;
use sqlx::PgConnection;

use super::data::Data;
use crate::report_helpers::{figures, pairs, request, time};
use crate::support::{self, Api, faults, id};

pub const DASHBOARD: &str = "/dev/crm/analytics/dashboard";
const REPORTS: [&str; 3] = ["/dev/crm/reports/leads", "/dev/crm/reports/customers", DASHBOARD];

/// A report about a data set, on 10 April 2026.
async fn report_on<R: Report>(
    connection: &mut PgConnection,
    data: &Data,
    report: R,
    parameters: &[(&str, &str)],
) -> Value {
    let now = time("2026-04-10");
    let request = request::<R>(&pairs(parameters), Tz::UTC, now);
    figures(connection, data.workspace_id, now, (report, &request)).await
}

fn none_is_not_a_number(place: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(denominator) = fields.get("denominator") {
                assert_eq!((denominator, &fields["rate"]), (&json!(0), &Value::Null), "{place}");
            }
            fields.iter().for_each(|(name, value)| none_is_not_a_number(&format!("{place}.{name}"), value));
        }
        Value::Array(items) => items.iter().for_each(|value| none_is_not_a_number(place, value)),
        Value::Number(number) => assert_eq!(number.as_f64(), Some(0.0), "{place}"),
        _ => {}
    }
}

#[tokio::test]
async fn an_empty_workspace_has_zeros_and_nulls() {
    let api = Api::start().await;
    for path in REPORTS {
        let mut report = api.read(path).await;
        let interval = if path == DASHBOARD { json!(null) } else { json!("day") };
        assert!(report["as_of"].is_string() && report["period"]["interval"] == interval, "{report}");
        // How long the funnel takes is not known either.
        none_is_not_a_number(path, &report);
        report = api.read(&format!("{path}?from=2026-01-01&to=2026-01-01")).await;
        none_is_not_a_number(path, &report);
    }
}

#[tokio::test]
async fn a_report_says_what_is_wrong_with_its_parameters() {
    let api = Api::start().await;
    for path in REPORTS {
        let refused = support::json(api.get(&format!("{path}?from=2026-02-01&to=2026-01-01")), 400).await;
        assert_eq!(faults(&refused), [("from", "out_of_range")]);
        let refused = support::json(api.get(&format!("{path}?since=2026-02-01&tz=Nowhere&compare=x")), 400).await;
        assert_eq!(faults(&refused), [("since", "unknown"), ("tz", "invalid"), ("compare", "invalid")]);
        let refused = support::json(api.get(&format!("{path}?period=this_year&to=2026-01-01")), 400).await;
        assert_eq!(faults(&refused), [("period", "invalid")]);
    }
    for path in &REPORTS[..2] {
        let refused = support::json(api.get(&format!("{path}?from=1990-01-01&interval=day")), 400).await;
        assert_eq!(faults(&refused), [("interval", "out_of_range")]);
        let refused = support::json(api.get(&format!("{path}?interval=hour")), 400).await;
        assert_eq!(faults(&refused), [("interval", "invalid")]);
    }
}

#[tokio::test]
async fn reports_follow_what_is_done() {
    let api = Api::start().await;
    let lead =
        api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "a@example.com", "source": "website" })).await;
    assert_eq!(
        api.report(REPORTS[0]).await["conversion_rate"],
        json!({ "numerator": 0, "denominator": 1, "rate": 0.0 })
    );
    let converted = support::json(api.post(&format!("/dev/crm/leads/{}/convert", id(&lead))), 201).await;
    let order = json!({ "customer_id": converted["customer"]["id"], "product_id": id(&lead), "quantity": 2 });
    api.create("/dev/crm/orders", order.clone()).await;
    api.create("/dev/crm/orders", order).await;
    let leads = api.report(REPORTS[0]).await;
    assert_eq!(leads["conversion_rate"], json!({ "numerator": 1, "denominator": 1, "rate": 1.0 }));
    assert_eq!(leads["totals"]["by_status"]["converted"], 1);
    assert_eq!(leads["funnel"][4]["leads"], 1, "who is converted has passed all stages before");
    assert_eq!(leads["funnel"][6]["leads"], 0);
    let customers = api.report(REPORTS[1]).await;
    assert_eq!(customers["orders"]["repeat_rate"], json!({ "numerator": 1, "denominator": 1, "rate": 1.0 }));
    assert_eq!(customers["orders"]["quantity"], 4);
    let dashboard = api.report(REPORTS[2]).await;
    assert_eq!(dashboard["orders"]["by_status"]["pending"], 2);
    assert_eq!(dashboard["leads"]["created"]["value"], 1.0);
    let activity = dashboard["recent_activity"].as_array().unwrap();
    let kinds: Vec<&str> = activity.iter().map(|activity| activity["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["order_created", "order_created", "customer_created", "lead_created"]);
    assert_eq!(activity[3]["summary"], "Ada");
    // Another workspace has none of it.
    let other = api.on("globex").await;
    for path in REPORTS {
        none_is_not_a_number(path, &other.read(path).await);
    }
}

#[tokio::test]
async fn the_worked_example_of_leads() {
    let api = Api::start().await;
    let mut data = Data::empty();
    let grace = uuid::Uuid::now_v7();
    data.users.push(json!({
        "workspace_id": data.workspace_id, "id": grace, "name": "Grace", "email": "grace@example.com",
        "created_at": time("2026-01-01"), "updated_at": time("2026-01-01"),
    }));
    for (day, status, source, score, stages) in [
        (2, "won", "website", 80.0, vec![("contacted_at", 3), ("proposal_at", 9), ("won_at", 12)]),
        (4, "converted", "website", 60.0, vec![("converted_at", 8)]),
        (10, "lost", "referral", 40.0, vec![("contacted_at", 12), ("qualified_at", 20), ("lost_at", 25)]),
        (20, "new", "referral", 20.0, vec![]),
    ] {
        let owner = (source == "website").then_some(grace);
        let mut lead = data.lead(time(&format!("2026-03-{day:02}")), status, source, score, owner);
        for (stage, day) in stages {
            lead[stage] = json!(time(&format!("2026-03-{day:02}")));
        }
        data.leads.push(lead);
    }
    let connection = &mut api.connection().await;
    data.store(connection).await;
    let march = [("from", "2026-03-01"), ("to", "2026-04-01"), ("interval", "week")];
    let report = report_on(connection, &data, LeadReport, &march).await;
    assert_eq!(report["conversion_rate"], json!({ "numerator": 2, "denominator": 4, "rate": 0.5 }));
    assert_eq!(report["win_rate"], json!({ "numerator": 2, "denominator": 3, "rate": 2.0 / 3.0 }));
    let reached = |field: &str| -> Vec<Value> {
        report["funnel"].as_array().unwrap().iter().map(|step| step[field].clone()).collect()
    };
    assert_eq!(Value::from(reached("leads")), json!([4, 3, 3, 2, 2, 2, 1]));
    assert_eq!(Value::from(reached("median_days")), json!([0.0, 1.5, 10.0, 7.0, null, 4.0, 10.0]));
    assert_eq!(report["days_to_convert"], json!({ "mean": 7.0, "median": 7.0 }));
    assert_eq!(report["average_score"], 50.0);
    let of = |source: &str| {
        report["by_source"].as_array().unwrap().iter().find(|of| of["source"] == source).unwrap().clone()
    };
    assert_eq!(of("website")["rate"], json!({ "numerator": 2, "denominator": 2, "rate": 1.0 }));
    assert_eq!(of("referral")["rate"], json!({ "numerator": 0, "denominator": 2, "rate": 0.0 }));
    let counts: Vec<i64> =
        report["created"]["by_interval"].as_array().unwrap().iter().map(|of| of["count"].as_i64().unwrap()).collect();
    assert_eq!(counts, [0, 2, 1, 1, 0, 0]);
    let graces = &report["by_owner"][0];
    assert_eq!((&graces["name"], &graces["leads"], &graces["conversions"]), (&json!("Grace"), &json!(2), &json!(2)));
    assert_eq!((&report["by_owner"][1]["assigned_to"], &report["by_owner"][1]["leads"]), (&json!(null), &json!(2)));
    let days = report_on(connection, &data, LeadReport, &[("from", "2026-03-01"), ("to", "2026-04-01")]).await;
    let on = |of: &str| -> Vec<Value> {
        let days = days["outcomes"]["by_interval"].as_array().unwrap().iter();
        days.filter(|day| day[of] == 1).map(|day| day["label"].clone()).collect()
    };
    assert_eq!(
        (on("converted"), on("won"), on("lost")),
        (vec![json!("2026-03-08")], vec![json!("2026-03-12")], vec![json!("2026-03-25")])
    );
    assert_eq!(report["created"]["by_interval"][0]["start"], "2026-02-23T00:00:00Z");
}

#[tokio::test]
async fn the_worked_example_of_customers() {
    let api = Api::start().await;
    let mut data = Data::empty();
    for orders in [
        vec![("2026-02-10", 1, "delivered"), ("2026-03-05", 2, "delivered"), ("2026-03-20", 3, "shipped")],
        vec![("2026-03-01", 4, "delivered"), ("2026-03-02", 9, "cancelled")],
        vec![("2026-03-31", 5, "pending")],
        vec![],
    ] {
        let customer = data.customer(time("2026-02-01"), "individual", "active");
        for (date, quantity, status) in orders {
            data.orders.push(data.order(&customer, time(date), quantity, status));
        }
        data.customers.push(customer);
    }
    let calls = [("2026-03-03", 0), ("2026-03-04", 0), ("2026-03-05", 0), ("2026-03-06", 1), ("2026-04-01", 2)];
    for (date, customer) in calls {
        data.interactions.push(data.interaction(&data.customers[customer], time(date), None, None));
    }
    let connection = &mut api.connection().await;
    data.store(connection).await;
    let period = [("from", "2026-02-01"), ("to", "2026-04-01")];
    let report = report_on(connection, &data, CustomerReport, &period).await;
    assert_eq!(
        report["orders"],
        json!({
            "orders": 5, "quantity": 15, "customers": 3, "orders_per_customer": { "mean": 5.0 / 3.0, "median": 1.0 },
            "quantity_per_customer": { "mean": 5.0, "median": 5.0 },
            "repeat_rate": { "numerator": 1, "denominator": 3, "rate": 1.0 / 3.0 },
        })
    );
    assert_eq!(
        report["interactions"],
        json!({ "interactions": 4, "customers": 2, "per_customer": { "mean": 2.0, "median": 2.0 } })
    );
    assert_eq!(
        report["cohorts"],
        json!([
            { "start": "2026-02-01T00:00:00Z", "end": "2026-03-01T00:00:00Z", "label": "2026-02", "partial": false,
              "customers": 1, "again": [{ "numerator": 1, "denominator": 1, "rate": 1.0 }] },
            { "start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z", "label": "2026-03", "partial": false,
              "customers": 2, "again": [] },
        ])
    );
}

#[tokio::test]
async fn the_dashboard_tells_what_is_due_and_what_goes_on() {
    let api = Api::start().await;
    let now = Utc::now();
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "a@example.com" })).await;
    let interactions = format!("/dev/crm/leads/{}/interactions", id(&lead));
    for date in [now - Duration::days(1), now + Duration::days(1)] {
        api.create(&interactions, json!({ "type": "call", "next_action": "Call again", "next_action_date": date }))
            .await;
    }
    api.import("name,email\nBob,bob@example.com\n").await;
    let dashboard = api.report(REPORTS[2]).await;
    assert_eq!(dashboard["followups"]["due"], 1);
    assert_eq!(dashboard["jobs"], json!({ "queued": 1, "running": 0, "failed": 0 }));
    let connection = &mut api.connection().await;
    sqlx::query("UPDATE jobs SET status = 'failed', finished_at = now()").execute(&mut *connection).await.unwrap();
    let request = request::<DashboardReport>(&[], Tz::UTC, db::now() + Duration::seconds(1));
    let dashboard = figures(connection, api.workspace_id, db::now(), (DashboardReport, &request)).await;
    assert_eq!(dashboard["jobs"]["failed"], 1);
}
