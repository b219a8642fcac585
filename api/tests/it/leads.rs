//! Leads are created, read, updated, deleted and found.

use reqwest::Method;
use serde_json::{Value, json};
use shared::crm::leads::Lead;
use shared::query::{self, List};
use shared::records::{Fields, Record};

use crate::conflicts::{conflict, with_id};
use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";

async fn create(api: &Api, body: Value) -> Value {
    support::json(api.post(LEADS).json(&body), 201).await
}

async fn rejected(api: &Api, body: Value) -> Value {
    support::json(api.post(LEADS).json(&body), 400).await
}

fn path(lead: &Value) -> String {
    format!("{LEADS}/{}", lead["id"].as_str().unwrap())
}

fn names(leads: &Value) -> Vec<&str> {
    leads.as_array().unwrap().iter().map(|lead| lead["name"].as_str().unwrap()).collect()
}

async fn put(api: &Api, lead: &Value, body: Value, status: u16) -> Value {
    support::json(api.request(Method::PUT, &path(lead)).json(&body), status).await
}

#[tokio::test]
async fn a_new_lead_has_every_field_and_the_defaults() {
    let api = Api::start().await;
    let answer =
        api.post(LEADS).json(&json!({ "name": "  Ada Lovelace ", "email": " ada@Example.com" })).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let lead: Value = answer.json().await.unwrap();
    assert_eq!(location, path(&lead));
    let (id, created_at) = (lead["id"].clone(), lead["created_at"].clone());
    assert_eq!(
        lead,
        json!({
            "id": id, "name": "Ada Lovelace", "email": "ada@Example.com", "phone": null, "company": null,
            "external_id": null, "first_name": null, "last_name": null,
            "source": "other", "status": "new", "score": 0, "notes": null, "campaign_id": null, "assigned_to": null,
            "customer_id": null, "last_contact": null, "custom_fields": {},
            "contacted_at": null, "qualified_at": null, "proposal_at": null, "negotiation_at": null, "converted_at": null,
            "won_at": null, "lost_at": null, "nurture_enrolled_at": created_at, "nurture_left_at": null, "nurture_left": null,
            "created_at": created_at, "updated_at": created_at,
        })
    );
    assert!(created_at.as_str().unwrap().ends_with('Z'));
    assert_eq!(support::json(api.get(&location), 200).await, lead);
}

#[tokio::test]
async fn a_lead_is_returned_as_written() {
    let api = Api::start().await;
    let body = json!({
        "name": "John Doe", "email": "john@example.com", "phone": "+1234567890", "company": "Acme Corp",
        "source": "website", "status": "qualified", "score": 75, "notes": "Interested\nin the premium plan",
        "campaign_id": "0191d2c0-6f5e-4000-8000-00000000000a", "assigned_to": "0191d2c0-6f5e-4000-8000-00000000000b",
        "last_contact": "2024-01-15T10:00:00+02:00", "custom_fields": { "plan": { "seats": [1, 2.5] } },
    });
    let lead = create(&api, body.clone()).await;
    for (field, value) in body.as_object().unwrap() {
        if field != "last_contact" {
            assert_eq!(&lead[field], value, "{field}");
        }
    }
    assert_eq!(lead["last_contact"], "2024-01-15T08:00:00Z");
    assert_eq!(
        put(&api, &lead, json!({ "last_contact": "2024-01-16", "score": 0.5 }), 200).await["last_contact"],
        "2024-01-16T00:00:00Z"
    );
    let read = support::json(api.get(&path(&lead)), 200).await;
    assert_eq!(read["score"], json!(0.5));
}

#[tokio::test]
async fn every_fault_of_a_body_is_reported_at_once() {
    let api = Api::start().await;
    let answer = rejected(
        &api,
        json!({
            "email": "john@", "phone": "1".repeat(51), "company": 7, "source": "web", "status": "", "score": 100.5, "notes": "a\u{0}b",
            "campaign_id": "7", "last_contact": "yesterday", "custom_fields": [], "assigned_to": "", "nmae": "x", "id": "x",
        }),
    )
    .await;
    let mut seen = faults(&answer);
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("campaign_id", "invalid"),
            ("company", "invalid"),
            ("custom_fields", "invalid"),
            ("email", "invalid"),
            ("id", "read_only"),
            ("last_contact", "invalid"),
            ("name", "required"),
            ("nmae", "unknown"),
            ("notes", "invalid"),
            ("phone", "too_long"),
            ("score", "out_of_range"),
            ("source", "invalid"),
        ]
    );
}

#[tokio::test]
async fn limits_are_counted_in_characters_and_bytes() {
    let api = Api::start().await;
    let with = |field: &str, value: Value| {
        let mut body = json!({ "name": "x", "email": format!("{field}@example.com") });
        body[field] = value;
        body
    };
    create(&api, with("name", json!("ü".repeat(200)))).await;
    create(&api, with("notes", json!("ü".repeat(10_000)))).await;
    let deep = json!({ "a": [[[[1]]]] });
    let too_deep = json!({ "a": [[[[[1]]]]] });
    create(&api, with("custom_fields", deep)).await;
    for (field, value, code) in [
        ("name", json!("ü".repeat(201)), "too_long"),
        ("notes", json!("ü".repeat(10_001)), "too_long"),
        ("email", json!(format!("{}@example.com", "x".repeat(243))), "too_long"),
        ("email", json!("two@at@example.com"), "invalid"),
        ("email", json!("no\nbreak@example.com"), "invalid"),
        ("name", json!("tab\tand bell\u{7}"), "invalid"),
        ("score", json!(-1), "out_of_range"),
        ("score", json!("75"), "invalid"),
        ("custom_fields", too_deep, "too_deep"),
        (
            "custom_fields",
            json!((0..101).map(|i| (i.to_string(), json!(i))).collect::<serde_json::Map<_, _>>()),
            "too_long",
        ),
        ("custom_fields", json!({ "a": "x".repeat(16 * 1024) }), "too_long"),
        ("custom_fields", json!({ "a": "\u{0}" }), "invalid"),
    ] {
        assert_eq!(faults(&rejected(&api, with(field, value)).await), [(field, code)], "{field}");
    }
}

#[tokio::test]
async fn an_email_is_unique_in_its_workspace_ignoring_case() {
    let api = Api::start().await;
    let first = create(&api, json!({ "name": "One", "email": "same@example.com" })).await;
    let second = create(&api, json!({ "name": "Two", "email": "other@example.com" })).await;
    let taken = with_id(conflict("email", "taken", "another lead has this email"), id(&first));
    assert_eq!(
        support::json(api.post(LEADS).json(&json!({ "name": "x", "email": "SAME@Example.COM" })), 409).await,
        taken
    );
    assert_eq!(put(&api, &second, json!({ "email": "Same@example.com" }), 409).await, taken);
    assert_eq!(put(&api, &first, json!({ "email": "SAME@example.com" }), 200).await["email"], "SAME@example.com");

    let key = api.database.key("globex").await;
    let elsewhere = reqwest::Client::new()
        .post(api.url(LEADS))
        .bearer_auth(key)
        .json(&json!({ "name": "x", "email": "same@example.com" }));
    support::json(elsewhere, 201).await;
}

#[tokio::test]
async fn concurrent_creates_with_one_email_create_one_lead() {
    let api = Api::start().await;
    let body = json!({ "name": "x", "email": "race@example.com" });
    let creates = (0..40).map(|_| api.post(LEADS).json(&body).send());
    let mut statuses: Vec<u16> = futures_util::future::join_all(creates)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().status().as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 39][..]));
}

#[tokio::test]
async fn an_update_changes_only_given_fields_and_null_clears_them() {
    let api = Api::start().await;
    let lead = create(
        &api,
        json!({ "name": "x", "email": "x@example.com", "phone": "1", "company": "Acme", "score": 5, "status": "won", "custom_fields": { "a": 1, "b": 2 } }),
    )
    .await;
    assert_eq!(put(&api, &lead, json!({}), 200).await, lead);
    // Sending the record back unchanged changes nothing either, read-only fields included.
    assert_eq!(put(&api, &lead, lead.clone(), 200).await, lead);
    let changed = put(
        &api,
        &lead,
        json!({ "phone": null, "company": "", "score": null, "status": null, "custom_fields": { "b": 3 } }),
        200,
    )
    .await;
    assert_eq!(changed["phone"], Value::Null);
    assert_eq!(changed["company"], Value::Null);
    assert_eq!(changed["score"], 0);
    assert_eq!(changed["status"], "new");
    assert_eq!(changed["custom_fields"], json!({ "b": 3 }));
    assert_eq!(changed["created_at"], lead["created_at"]);
    assert!(changed["updated_at"].as_str() > lead["updated_at"].as_str());
    assert_eq!(support::json(api.get(&path(&lead)), 200).await, changed);

    let answer =
        put(&api, &lead, json!({ "name": null, "email": "", "created_at": "2020-01-01T00:00:00Z" }), 400).await;
    assert_eq!(faults(&answer), [("email", "required"), ("name", "required"), ("created_at", "read_only")]);
}

#[tokio::test]
async fn a_deleted_lead_does_not_exist() {
    let api = Api::start().await;
    let lead = create(&api, json!({ "name": "x", "email": "x@example.com" })).await;
    let delete = || api.request(Method::DELETE, &path(&lead));
    let deleted = delete().send().await.unwrap();
    assert_eq!((deleted.status().as_u16(), deleted.bytes().await.unwrap().len()), (204, 0));
    for request in [delete(), api.get(&path(&lead)), api.request(Method::PUT, &path(&lead)).json(&json!({}))] {
        assert_eq!(support::json(request, 404).await, json!({ "message": "Resource not found" }));
    }
}

#[tokio::test]
async fn leads_of_another_workspace_do_not_exist() {
    let api = Api::start().await;
    let lead = create(&api, json!({ "name": "x", "email": "x@example.com" })).await;
    let key = api.database.key("globex").await;
    let other = |method, path: &str| reqwest::Client::new().request(method, api.url(path)).bearer_auth(&key);
    for request in [
        other(Method::GET, &path(&lead)),
        other(Method::PUT, &path(&lead)).json(&json!({ "name": "y" })),
        other(Method::DELETE, &path(&lead)),
    ] {
        assert_eq!(support::json(request, 404).await, json!({ "message": "Resource not found" }));
    }
    for list in
        ["/dev/crm/leads", "/dev/crm/leads?q=x", "/dev/crm/leads?status=new&limit=5", "/dev/crm/leads?sort=email"]
    {
        assert_eq!(support::json(other(Method::GET, list), 200).await, json!([]));
    }
    assert_eq!(support::json(api.get(&path(&lead)), 200).await, lead);
}

#[tokio::test]
async fn leads_are_found_by_filters_ranges_and_words() {
    let api = Api::start().await;
    for (name, email, status, source, score) in [
        ("Ann O'Neil", "ann@acme.example", "new", "website", 10),
        ("Bob Annesley", "bob@globex.example", "qualified", "social", 50),
        ("Cid", "cid@acme.example", "won", "website", 90),
    ] {
        let company = if email.contains("acme") { "Acme Corp" } else { "Globex" };
        let body = json!({ "name": name, "email": email, "status": status, "source": source, "score": score, "company": company });
        create(&api, body).await;
    }
    for (query, expected) in [
        ("", vec!["Cid", "Bob Annesley", "Ann O'Neil"]),
        ("?sort=created_at", vec!["Ann O'Neil", "Bob Annesley", "Cid"]),
        ("?sort=email", vec!["Ann O'Neil", "Bob Annesley", "Cid"]),
        ("?sort=-email&status=new,won", vec!["Cid", "Ann O'Neil"]),
        ("?status=new,won", vec!["Cid", "Ann O'Neil"]),
        ("?status=lost", vec![]),
        ("?source=website&score[gt]=10", vec!["Cid"]),
        ("?score[gte]=10&score[lt]=90", vec!["Bob Annesley", "Ann O'Neil"]),
        ("?score=50", vec!["Bob Annesley"]),
        ("?email=ANN@acme.example", vec!["Ann O'Neil"]),
        ("?email=cid@acme.example,%20ANN@acme.example,eve@acme.example", vec!["Cid", "Ann O'Neil"]),
        ("?score=10,90.0,11", vec!["Cid", "Ann O'Neil"]),
        ("?score=10,50&score[gte]=11", vec!["Bob Annesley"]),
        ("?company=Acme%20Corp,Globex", vec![]),
        ("?company=Acme%20Corp", vec!["Cid", "Ann O'Neil"]),
        ("?created_at[gte]=2020-01-01&created_at[lt]=2020-01-02", vec![]),
        ("?created_at[gte]=2020-01-01", vec!["Cid", "Bob Annesley", "Ann O'Neil"]),
        ("?q=ann", vec!["Bob Annesley", "Ann O'Neil"]),
        ("?q=ANN%20neil", vec!["Ann O'Neil"]),
        ("?q=acme&status=won", vec!["Cid"]),
        ("?q=nne", vec![]),
    ] {
        let found = support::json(api.get(&format!("{LEADS}{query}")), 200).await;
        assert_eq!(names(&found), expected, "{query}");
    }
    let changed = support::json(api.get("/dev/crm/leads?q=cid"), 200).await[0].clone();
    put(&api, &changed, json!({ "name": "Dora" }), 200).await;
    assert_eq!(names(&support::json(api.get("/dev/crm/leads?q=dora"), 200).await), ["Dora"]);
}

#[tokio::test]
async fn a_typo_in_a_query_is_never_ignored() {
    let api = Api::start().await;
    let answer = support::json(
        api.get("/dev/crm/leads?statuss=new&status=nwe&limit=1001&sort=notes&score[foo]=1&q[gte]=1&score=x&assigned_to=me&limit=2&count=1"),
        400,
    )
    .await;
    assert_eq!(
        faults(&answer),
        [
            ("statuss", "unknown"),
            ("status", "invalid"),
            ("limit", "out_of_range"),
            ("sort", "invalid"),
            ("score[foo]", "unknown"),
            ("q[gte]", "unknown"),
            ("score", "invalid"),
            ("assigned_to", "invalid"),
            ("limit", "duplicate"),
            ("count", "invalid"),
        ]
    );
    let answer = support::json(api.get("/dev/crm/leads?email=a@b.example,&score=1,,2&score[gt]=1,2"), 400).await;
    assert_eq!(faults(&answer), [("email", "required"), ("score", "invalid"), ("score[gt]", "invalid")]);
    for (path, field) in [("/dev/crm/leads/export?limit=1", "limit"), ("/dev/crm/leads/not-an-id", "leadId")] {
        assert_eq!(faults(&support::json(api.get(path), 400).await)[0].0, field);
    }
}

#[tokio::test]
async fn pages_return_every_lead_once_in_every_order() {
    let api = Api::start().await;
    for i in 0..23 {
        let status = ["new", "qualified", "won"][i % 3];
        create(
            &api,
            json!({ "name": format!("n{i}"), "email": format!("e{}@example.com", (i * 7) % 23), "status": status }),
        )
        .await;
    }
    for query in [
        "count=true",
        "sort=created_at&count=true",
        "sort=email&count=true",
        "status=new,won&count=true",
        "q=n&count=true",
    ] {
        let whole = support::json(
            api.get(&format!("{LEADS}?{}", query.replace("&count=true", "").replace("count=true", ""))),
            200,
        )
        .await;
        let mut paged = Vec::new();
        let mut next = Some(format!("{LEADS}?{query}&limit=5"));
        while let Some(path) = next {
            let answer = api.get(&path).send().await.unwrap();
            assert_eq!(answer.headers()["x-total-count"], whole.as_array().unwrap().len().to_string().as_str());
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned());
            let Value::Array(page) = support::body(answer, 200).await else { panic!("a list is an array") };
            assert!(page.len() <= 5);
            paged.extend(page);
        }
        assert_eq!(json!(paged), whole, "{query}");
    }
}

#[tokio::test]
async fn a_cursor_is_valid_only_for_its_list() {
    let api = Api::start().await;
    for i in 0..3 {
        create(&api, json!({ "name": "x", "email": format!("{i}@example.com") })).await;
    }
    let answer = api.get("/dev/crm/leads?status=new&limit=1").send().await.unwrap();
    let link = answer.headers()["link"].to_str().unwrap();
    let cursor = link.split("cursor=").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let with = |query: &str| api.get(&format!("{LEADS}?{query}&cursor={cursor}"));
    // The page size does not change the list.
    assert_eq!(support::json(with("status=new&limit=2"), 200).await.as_array().unwrap().len(), 2);
    for other in ["status=won&limit=1", "limit=1", "status=new&sort=email&limit=1"] {
        assert_eq!(faults(&support::json(with(other), 400).await), [("cursor", "invalid")], "{other}");
    }
}

/// 100,000 imported leads share one creation time, and 20,000 newer leads are not qualified.
/// Scanning from the newest until enough qualified leads are found would read all 20,000.
#[tokio::test]
async fn a_filtered_page_reads_no_more_than_the_page() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, custom_fields, search_vector, created_at, updated_at)
         SELECT '{id}', gen_random_uuid(), 'x', i || '@example.com', i || '@example.com', 'other',
             CASE WHEN i > 100000 THEN 'new' ELSE (ARRAY['new', 'contacted', 'qualified', 'proposal', 'negotiation', 'converted', 'lost', 'won'])[1 + i % 8] END,
             0, '{{}}', '', t, t
         FROM (SELECT i, CASE WHEN i > 100000 THEN now() + i * interval '1 ms' ELSE now() END AS t FROM generate_series(1, 120000) AS i) AS new",
        id = api.workspace_id
    )))
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::raw_sql("ANALYZE leads").execute(&mut connection).await.unwrap();

    for (query, found, most) in [
        ("status=qualified", 50, 60),
        ("status=qualified,won", 50, 65),
        ("", 50, 75),
        // Once in the index and once in the table, for each status.
        ("email=7@EXAMPLE.com", 1, 16),
        ("email=7@example.com,8@example.com", 2, 32),
    ] {
        let parameters: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let list = List::parse(&Lead::LIST, api.workspace_id, &parameters).unwrap();
        // Often enough for PostgreSQL to switch to a generic plan.
        for round in 0..8 {
            let before = rows_read(&mut connection).await;
            let page =
                query::fetch::<Lead>(&mut connection, &list, api.workspace_id, Lead::columns(), 50).await.unwrap();
            let read = rows_read(&mut connection).await - before;
            assert_eq!(page.records.len(), found, "{query:?}");
            assert!(read <= most, "{query:?} read {read} rows in round {round}");
        }
    }
}

/// The number of rows of `leads` that this connection has read so far, from its indexes and from
/// the table.
async fn rows_read(connection: &mut sqlx::PgConnection) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar(
        "SELECT (pg_stat_get_tuples_returned('leads'::regclass)
             + (SELECT sum(pg_stat_get_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'leads'::regclass))::bigint",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap()
}
