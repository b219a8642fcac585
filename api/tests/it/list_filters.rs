//! Lists are filtered by every field of their records: equal, not equal, empty, and in ranges.

use serde_json::{Value, json};

use crate::support::{self, Api, each, faults, id};

const LEADS: &str = "/dev/crm/leads";

/// Creates three leads and returns their ids.
async fn fill(api: &Api) -> Vec<String> {
    let leads = [
        json!({ "name": "Jürgen Müller", "email": "a@example.com", "company": "Straße AG", "phone": "1", "score": 10,
            "last_contact": "2026-01-15T00:30:00+01:00",
            "custom_fields": { "tier": "gold", "size": 5, "vip": true, "tags": ["a"], "Amount [EUR]": 7, "a.b": 1, "note": null } }),
        json!({ "name": "jurgen muller", "email": "b@example.com", "score": 50, "status": "contacted",
            "custom_fields": { "tier": "silver", "size": "5" } }),
        json!({ "name": "Ann", "email": "c@example.com", "company": "ACME, Inc.", "score": 90, "status": "won" }),
    ];
    let mut ids = Vec::new();
    for lead in leads {
        ids.push(id(&api.create(LEADS, lead).await).to_owned());
    }
    ids
}

#[tokio::test]
async fn leads_are_filtered_by_every_field() {
    let api = Api::start().await;
    let ids = fill(&api).await;
    // The leads in the list's order, by the first letter of their email.
    for (query, expected) in [
        ("name=J%C3%9CRGEN+Muller", "ba"),
        ("name=ju%CC%88rgen+muller", "ba"),
        ("name[ne]=jurgen+muller", "c"),
        ("name=ann&name=jurgen+muller", "cba"),
        ("name=null", ""),
        ("name[ne]=null", "cba"),
        ("company=strasse+ag", "a"),
        ("company=acme,+inc.", "c"),
        ("company=null", "b"),
        ("company[ne]=null", "ca"),
        ("company[ne]=acme,+inc.", "ba"),
        ("company[ne]=null&company[ne]=strasse+ag", "c"),
        ("company=null&company=strasse+ag", "ba"),
        ("phone=1", "a"),
        ("phone[ne]=1", "cb"),
        ("notes=null", "cba"),
        ("status[ne]=new", "cb"),
        ("status[ne]=new,won", "b"),
        ("status[ne]=new&status[ne]=won", "b"),
        ("status=null", ""),
        ("status=new,null", "a"),
        ("status[ne]=null", "cba"),
        ("status=new,won&status[ne]=won", "a"),
        ("status[ne]=new,contacted,qualified,proposal,negotiation,converted,lost,won", ""),
        ("source[ne]=other", ""),
        ("email=A@example.com,c@example.com", "ca"),
        ("email[ne]=A@example.com", "cb"),
        ("score=10,90", "ca"),
        ("score[ne]=10", "cb"),
        ("score[gt]=10&score[lte]=90&score[ne]=50", "c"),
        ("customer_id=null", "cba"),
        ("customer_id[ne]=null", ""),
        ("contacted_at[ne]=null", "b"),
        ("last_contact=null", "cb"),
        ("last_contact[ne]=null", "a"),
        ("last_contact=2026-01-14T23:30:00Z,2026-01-01", "a"),
        ("last_contact[ne]=2026-01-14T23:30:00Z", "cb"),
        ("last_contact[gte]=2026-01-15", ""),
        ("last_contact[lt]=2026-01-15", "a"),
        ("last_contact[gte]=2026-01-15&tz=Europe/Berlin", "a"),
        ("last_contact[lt]=2026-01-15&tz=Europe/Berlin", ""),
        ("custom.tier=gold", "a"),
        ("custom.tier=gold&custom.tier=silver", "ba"),
        ("custom.tier[ne]=gold", "cb"),
        ("custom.tier=null", "c"),
        ("custom.tier[ne]=null", "ba"),
        ("custom.tier=Gold", ""),
        ("custom.size=5", "ba"),
        ("custom.vip=true", "a"),
        ("custom.tags=[%22a%22]", ""),
        ("custom.tags[ne]=[%22a%22]", "cba"),
        ("custom.tags[ne]=null", "a"),
        ("custom.note=null", "cba"),
        ("custom.Amount+[EUR]=7", "a"),
        ("custom.Amount+[EUR][ne]=7", "cb"),
        ("custom.a.b=1", "a"),
        ("custom.tier=gold&q=muller&score[lt]=20&sort=email", "a"),
        (&format!("id={},{}", ids[0], ids[2]), "ca"),
        (&format!("id[ne]={}", ids[0]), "cb"),
        ("import_job_id=null", "cba"),
        ("import_job_id=019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44", ""),
    ] {
        let found = api.read(&format!("{LEADS}?{query}")).await;
        let letters: String = each(&found, "email").iter().map(|email| &email[..1]).collect();
        assert_eq!(letters, expected, "{query}");
        // A page, its count and an export have the same records.
        let page = api.get(&format!("{LEADS}?{query}&limit=50&count=true")).send().await.unwrap();
        assert_eq!(page.headers()["x-total-count"], expected.len().to_string().as_str(), "{query}");
        assert_eq!(support::body(page, 200).await, found, "{query}");
        let export =
            api.get(&format!("{LEADS}/export?{query}&fields=email")).send().await.unwrap().text().await.unwrap();
        assert_eq!(export.lines().count(), expected.len() + 1, "{query}");
    }
}

#[tokio::test]
async fn invalid_filters_are_named() {
    let api = Api::start().await;
    for (path, expected) in [
        ("leads?custom.tier[gte]=1", ("custom.tier[gte]", "unknown")),
        ("leads?custom.=1", ("custom.", "unknown")),
        ("leads?custom.tier=", ("custom.tier", "required")),
        ("leads?custom_fields=1", ("custom_fields", "unknown")),
        ("users?custom.tier=1", ("custom.tier", "unknown")),
        ("leads?status[ne]=", ("status[ne]", "required")),
        ("leads?status[ne]=odd", ("status[ne]", "invalid")),
        ("leads?status[gte]=new", ("status[gte]", "unknown")),
        ("leads?name[gte]=a", ("name[gte]", "unknown")),
        ("leads?created_at[gte]=null", ("created_at[gte]", "invalid")),
        ("leads?created_at[eq]=2026-01-01", ("created_at[eq]", "unknown")),
        ("leads?assigned_to[ne]=me", ("assigned_to[ne]", "invalid")),
        ("leads?tz=Mars", ("tz", "invalid")),
        ("leads?tz=UTC&tz=UTC", ("tz", "duplicate")),
        ("leads?fields=", ("fields", "invalid")),
        ("leads?fields=name,odd", ("fields", "invalid")),
        ("leads?fields=name&fields=email", ("fields", "duplicate")),
        ("leads?fields=import_job_id", ("fields", "invalid")),
        ("users?deleted=true", ("deleted", "unknown")),
        ("leads?deleted=yes", ("deleted", "invalid")),
    ] {
        let answer = support::json(api.get(&format!("/dev/crm/{path}")), 400).await;
        assert_eq!(faults(&answer), [expected], "{path}");
    }
}

#[tokio::test]
async fn an_import_is_listed_by_its_job() {
    let api = Api::start().await;
    let _worker = testing::Process::worker(&api.database, &["--queues", "imports"]);
    let job = api.imported("/dev/crm/leads/import", "Name,Email\nAnn,ann@example.com\nBob,bob@example.com\n").await;
    api.create(LEADS, json!({ "name": "Eve", "email": "eve@example.com" })).await;
    let found = api.read(&format!("{LEADS}?import_job_id={}&sort=email", id(&job))).await;
    assert_eq!(each(&found, "name"), ["Ann", "Bob"]);
    assert_eq!(each(&api.read(&format!("{LEADS}?import_job_id[ne]={}", id(&job))).await, "name"), ["Eve"]);
}

#[tokio::test]
async fn a_list_returns_only_the_chosen_fields() {
    let api = Api::start().await;
    fill(&api).await;
    let expected = json!([
        { "name": "Ann", "status": "won" },
        { "name": "jurgen muller", "status": "contacted" },
        { "name": "Jürgen Müller", "status": "new" },
    ]);
    assert_eq!(api.read(&format!("{LEADS}?fields=status,name")).await, expected);
    assert_eq!(api.read(&format!("{LEADS}?fields=status,name&limit=3")).await, expected);
    let custom = api.read(&format!("{LEADS}?fields=custom_fields&custom.tier=silver")).await;
    assert_eq!(custom, json!([{ "custom_fields": { "tier": "silver", "size": "5" } }]));
    let export = api.get(&format!("{LEADS}/export?fields=status,name,company&sort=email")).send().await.unwrap();
    let csv =
        "name,company,status\r\nJürgen Müller,Straße AG,new\r\njurgen muller,,contacted\r\nAnn,\"ACME, Inc.\",won\r\n";
    assert_eq!(export.text().await.unwrap(), csv);
    api.create("/dev/crm/suppressions", json!({ "email": "a@example.com" })).await;
    assert_eq!(
        api.read("/dev/crm/suppressions?fields=email,reason").await,
        json!([{ "email": "a@example.com", "reason": "manual" }])
    );
}

/// Records of more than 1 MiB on a page are streamed.
#[tokio::test]
async fn a_large_page_returns_only_the_chosen_fields() {
    let api = Api::start().await;
    let notes = "n".repeat(9_000);
    for batch in 0..2 {
        let items: Vec<Value> = (0..100)
            .map(|n| json!({ "name": "x", "email": format!("{batch}-{n}@example.com"), "notes": notes }))
            .collect();
        api.send(reqwest::Method::POST, &format!("{LEADS}/batch"), json!({ "items": items }), 200).await;
    }
    let page = api.read(&format!("{LEADS}?fields=name&limit=200")).await;
    assert_eq!(page, json!(vec![json!({ "name": "x" }); 200]));
}
