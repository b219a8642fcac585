//! A cursor is valid only for its own list, and cannot be forged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::emails::queued;
use crate::support::{Api, body, faults, id, json};

/// The cursor in the `Link` of a page.
async fn cursor(api: &Api, path: &str) -> String {
    let answer = api.get(path).send().await.unwrap();
    let link = answer.headers().get("link").unwrap_or_else(|| panic!("{path} has no Link")).to_str().unwrap();
    let url = link.split('>').next().unwrap();
    url.split("cursor=").nth(1).unwrap().to_owned()
}

fn with(path: &str, cursor: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}cursor={cursor}")
}

/// Creates two records of each type, and returns the first page of each list.
async fn lists(api: &Api) -> Vec<String> {
    let mut lists = Vec::new();
    for email in ["a@example.com", "b@example.com"] {
        api.create("/dev/crm/leads", json!({ "name": "Ann", "email": email })).await;
        api.create("/dev/crm/customers", json!({ "name": "Ann", "email": email })).await;
        api.create("/dev/crm/users", json!({ "name": "Ann", "email": email })).await;
        api.create("/dev/crm/suppressions", json!({ "email": email })).await;
        queued(api, &format!("to-{email}"), None).await;
        json(api.post("/dev/crm/leads/nurture/start?dry_run=true"), 202).await;
        api.import("Name,Email\n").await;
    }
    let (lead, customer) = (api.read("/dev/crm/leads").await, api.read("/dev/crm/customers").await);
    let (lead, customer) = (id(&lead[0]).to_owned(), id(&customer[0]).to_owned());
    for n in 1..=2 {
        let note = json!({ "type": "note", "notes": "n" });
        api.create(&format!("/dev/crm/leads/{lead}/interactions"), note).await;
        let call = json!({ "type": "call", "subject": "s", "date": "2026-01-15" });
        api.create(&format!("/dev/crm/customers/{customer}/interactions"), call).await;
        api.create("/dev/crm/orders", json!({ "customer_id": customer, "product_id": customer, "quantity": n })).await;
        let path = format!("/dev/crm/leads/{lead}");
        api.send(Method::PUT, &path, json!({ "score": n }), 200).await;
        let path = format!("/dev/crm/customers/{customer}");
        api.send(Method::PUT, &path, json!({ "notes": n.to_string() }), 200).await;
    }
    for noun in ["leads", "customers", "users", "suppressions", "emails", "jobs", "orders"] {
        lists.push(format!("/dev/crm/{noun}?limit=1"));
    }
    lists.extend(
        ["leads?sort=email&limit=1", "leads?q=ann&limit=1", "orders?sort=-order_date&limit=1"]
            .map(|path| format!("/dev/crm/{path}")),
    );
    lists.push(format!("/dev/crm/orders?customer_id={customer}&limit=1"));
    lists.push(format!("/dev/crm/leads/{lead}/interactions?limit=1"));
    lists.push(format!("/dev/crm/customers/{customer}/interactions?limit=1"));
    lists.push(format!("/dev/crm/leads/{lead}/history?limit=1"));
    lists.push(format!("/dev/crm/customers/{customer}/history?limit=1"));
    lists
}

async fn is_rejected(api: &Api, path: &str) {
    let answer = json(api.get(path), 400).await;
    assert_eq!(faults(&answer), [("cursor", "invalid")], "{path}");
}

#[tokio::test]
async fn a_cursor_is_valid_only_for_its_list() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    api.leaves_jobs("nurture_leads");
    let lists = lists(&api).await;
    let mut cursors = Vec::new();
    for path in &lists {
        let cursor = cursor(&api, path).await;
        assert!(cursor.len() <= 504, "{path}: {}", cursor.len());
        let first = api.read(path).await;
        let second = api.read(&with(path, &cursor)).await;
        assert_eq!(second.as_array().unwrap().len(), 1, "{path}");
        assert_ne!(first[0]["id"], second[0]["id"], "{path}");
        cursors.push(cursor);
    }
    for (path, own) in lists.iter().zip(&cursors) {
        for other in cursors.iter().filter(|other| *other != own) {
            is_rejected(&api, &with(path, other)).await;
        }
    }
}

#[tokio::test]
async fn a_forged_cursor_is_rejected_by_every_list() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    api.leaves_jobs("nurture_leads");
    for path in lists(&api).await {
        let cursor = cursor(&api, &path).await;
        let flipped = |at: usize| {
            let mut flipped = cursor.clone();
            let other = if &cursor[at..=at] == "A" { "B" } else { "A" };
            flipped.replace_range(at..=at, other);
            flipped
        };
        let mut forged: Vec<String> = (0..cursor.len()).step_by(5).map(flipped).collect();
        forged.extend([
            String::new(),
            "x".into(),
            "%00".into(),
            "%FC%20%22".into(),
            "*".into(),
            "AA".repeat(16),
            cursor[1..].into(),
            cursor[..cursor.len() - 1].into(),
            cursor[..cursor.len() / 2].into(),
            format!("{cursor}A"),
            format!("{cursor}%3D"),
            format!("{cursor}{cursor}"),
            cursor.to_ascii_uppercase(),
            "A".repeat(15_000),
            // Cursors of earlier versions: a position as JSON, and a record's id.
            "eyJrZXkiOiJub3QgYSB0aW1lIiwiaWQiOiIwMTg5MGE1ZC1hYzk2LTc3NGItYmNjZS1iMzAyMDk5YTgwNTciLCJsaXN0IjoiIn0"
                .into(),
            "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        ]);
        for forged in &forged {
            let response = api.get(&with(&path, forged)).send().await.unwrap();
            if response.status() == 400 && forged.starts_with("%FC") {
                // Not valid UTF-8.
                body(response, 400).await;
                continue;
            }
            assert_eq!(faults(&body(response, 400).await), [("cursor", "invalid")], "{path} {forged}");
        }
    }
}

#[tokio::test]
async fn a_cursor_is_valid_only_in_its_workspace_with_its_filters_and_order() {
    let api = Api::start().await;
    let leads = async |api: &Api| {
        for n in 0..3 {
            api.create("/dev/crm/leads", json!({ "name": "x", "email": format!("{n}@example.com") })).await;
        }
    };
    leads(&api).await;
    let cursor = cursor(&api, "/dev/crm/leads?status=new&q=x&limit=1").await;
    // The page size, the order of parameters and a count do not change the list.
    for same in ["status=new&q=x&limit=2", "limit=1&q=x&status=new", "status=new&q=x&count=true", "status=new&q=x"] {
        let found: Value = api.read(&with(&format!("/dev/crm/leads?{same}"), &cursor)).await;
        assert_eq!(found.as_array().unwrap().len(), if same.contains("limit=1") { 1 } else { 2 }, "{same}");
    }
    for other in [
        "limit=1",
        "status=won&q=x&limit=1",
        "status=new&q=y&limit=1",
        "status=new&limit=1",
        "status=new&q=x&sort=created_at&limit=1",
        "status=new&q=x&sort=-email&limit=1",
        "status=new&q=x&score=0&limit=1",
    ] {
        is_rejected(&api, &with(&format!("/dev/crm/leads?{other}"), &cursor)).await;
    }
    let api = api.on("globex").await;
    leads(&api).await;
    is_rejected(&api, &with("/dev/crm/leads?status=new&q=x&limit=1", &cursor)).await;
}

#[tokio::test]
async fn every_page_but_the_last_leads_on() {
    let api = Api::start_with(|settings| {
        settings.public_url = "https://crm.example/base".to_owned();
        settings.public_url_is_set = true;
    })
    .await;
    api.leaves_jobs("import_leads");
    api.leaves_jobs("nurture_leads");
    for path in lists(&api).await {
        let first = api.get(&path).send().await.unwrap();
        let cursor = first.headers()["x-next-cursor"].to_str().unwrap().to_owned();
        let next = with(&path, &cursor);
        assert_eq!(first.headers()["link"], format!("<https://crm.example/base{next}>; rel=\"next\"").as_str());
        // The last page has neither header.
        let mut last = next;
        loop {
            let answer = api.get(&last).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let Some(cursor) = answer.headers().get("x-next-cursor") else {
                assert!(!answer.headers().contains_key("link"), "{path}");
                break;
            };
            last = with(&path, cursor.to_str().unwrap());
        }
    }
}

#[tokio::test]
async fn a_link_is_relative_without_a_public_url_and_repeats_the_query_as_it_came() {
    let api = Api::start().await;
    for email in ["a@example.com", "b@example.com"] {
        let lead = json!({ "name": "M\u{fc}ller", "email": email, "company": "a>b" });
        api.create("/dev/crm/leads", lead).await;
    }
    let path = "/dev/crm/leads?q=m%c3%BCller&limit=1&company=a%3Eb&count=true";
    let page = api.get(path).send().await.unwrap();
    let cursor = page.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    let next = with(path, &cursor);
    assert_eq!(page.headers()["link"], format!("<{next}>; rel=\"next\"").as_str());
    assert_eq!(api.read(&next).await.as_array().unwrap().len(), 1);
}
