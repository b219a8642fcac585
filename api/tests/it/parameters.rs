//! Query parameters are parsed strictly: ambiguous ones are rejected.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, each, faults};

const LEADS: &str = "/dev/crm/leads";

#[tokio::test]
async fn ambiguous_options_of_a_run_are_rejected() {
    let api = Api::start().await;
    for (path, code) in [
        ("/dev/crm/leads/nurture/start?dry_run=true&dry_run=false", "duplicate"),
        ("/dev/crm/followups/process?dry_run=true&dry_run=true", "duplicate"),
        ("/dev/crm/leads/nurture/start?dry_run=TRUE", "invalid"),
        ("/dev/crm/leads/nurture/start?dry_run=1", "invalid"),
        ("/dev/crm/leads/nurture/start?dry_run=", "invalid"),
        ("/dev/crm/leads/nurture/start?dry_run", "invalid"),
        ("/dev/crm/leads/nurture/start?dry_run=%20true", "invalid"),
    ] {
        assert_eq!(faults(&support::json(api.post(path), 400).await), [("dry_run", code)], "{path}");
    }
    assert_eq!(api.read("/dev/crm/jobs").await, json!([]), "nothing was started");
    let form =
        || reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::text("Name,Email\nA,a@x.org\n"));
    for (query, fault) in [
        ("dry_run=true&dry_run=false", ("dry_run", "duplicate")),
        ("on_conflict=skip&on_conflict=update", ("on_conflict", "duplicate")),
        ("mapping=%7B%22Name%22:%22name%22,%22Name%22:null%7D", ("mapping", "duplicate")),
        ("mapping=%5B%5D", ("mapping", "invalid")),
        ("delimiter=%20,", ("delimiter", "invalid")),
    ] {
        let import = api.post(&format!("{LEADS}/import?{query}")).multipart(form());
        assert_eq!(faults(&support::json(import, 400).await), [fault], "{query}");
    }
}

#[tokio::test]
async fn numbers_dates_and_ids_have_one_valid_form() {
    let api = Api::start().await;
    for (query, field) in [
        ("limit=%2B5", "limit"),
        ("limit=+5", "limit"),
        ("limit=05", "limit"),
        ("limit=5.0", "limit"),
        ("limit=5&limit=5", "limit"),
        ("score=%2B5", "score"),
        ("score=+5", "score"),
        ("score=5+", "score"),
        ("score[gte]=1&score[gte]=2", "score[gte]"),
        ("score[gte]=1,2", "score[gte]"),
        ("status=+new", "status"),
        ("status=new,", "status"),
        ("status=New", "status"),
        ("count=True", "count"),
        ("sort=+created_at", "sort"),
        ("created_at[gte]=2024-+1-+1", "created_at[gte]"),
        ("created_at[gte]=%2B024-01-01", "created_at[gte]"),
        ("created_at[gte]=+2024-01-01", "created_at[gte]"),
        ("assigned_to=01890a5dac96774bbcceb302099a8057", "assigned_to"),
    ] {
        let rejected = support::json(api.get(&format!("{LEADS}?{query}")), 400).await;
        assert_eq!(faults(&rejected).iter().map(|(field, _)| *field).next(), Some(field), "{query}");
    }
    for path in ["/dev/crm/jobs?limit=%2B5", "/dev/crm/reports/leads?tz=+UTC", "/dev/crm/feedback/themes?limit=5"] {
        support::json(api.get(path), 400).await;
    }
    let body = json!({ "name": "Ada", "email": "ada@example.com", "last_contact": "2024- 1- 1" });
    let rejected = api.send(Method::POST, LEADS, body, 400).await;
    assert_eq!(faults(&rejected), [("last_contact", "invalid")]);
}

#[tokio::test]
async fn a_repeated_filter_has_several_values() {
    let api = Api::start().await;
    for (name, status, company) in [("Ada", "new", "Smith, Sons"), ("Bob", "won", "Acme"), ("Eve", "lost", "Sons")] {
        let lead =
            json!({ "name": name, "email": format!("{name}@example.com"), "status": status, "company": company });
        api.create(LEADS, lead).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let leads: Value = api.read(&format!("{LEADS}?{query}")).await;
        each(&leads, "name").into_iter().map(str::to_owned).collect()
    };
    for query in ["status=new,won", "status=new&status=won", "status=new,won&status=won", "name=Ada&name=Bob"] {
        assert_eq!(names(query).await, ["Bob", "Ada"], "{query}");
    }
    // A comma is part of a text, so several texts are several parameters.
    assert_eq!(names("company=Smith,+Sons").await, ["Ada"]);
    assert_eq!(names("company=Acme&company=Smith,+Sons").await, ["Bob", "Ada"]);
    assert_eq!(names("email=ada@example.com&email=EVE@example.com").await, ["Eve", "Ada"]);
}

#[tokio::test]
async fn thousands_of_unknown_parameters_are_counted() {
    let api = Api::start().await;
    let query: Vec<String> = (0..2_000).map(|n| format!("x{n}")).collect();
    for path in [LEADS, "/dev/crm/reports/leads", "/dev/crm/settings"] {
        let answer = api.get(&format!("{path}?{}", query.join("&"))).send().await.unwrap();
        let rejected = support::body(answer, 400).await;
        let errors = rejected["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 101, "{path}");
        assert_eq!(errors[100], json!({ "field": "body", "code": "more", "message": "and 1900 more" }));
    }
}
