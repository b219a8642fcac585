//! A key does only what its scopes allow: every operation of the document is requested with keys of every scope.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use shared::accounts::scopes::Scope;

use crate::support::{self, Api, id};

const MISSING: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

/// The scopes of an operation, as the specification assigns them; all of one alternative are needed.
fn expected(method: &str, path: &str) -> Vec<BTreeSet<&'static str>> {
    let path = path.strip_prefix("/dev/crm/").unwrap();
    let noun = path.split('/').next().unwrap();
    let last = path.rsplit('/').next().unwrap();
    let one = |scopes: &[&'static str]| vec![scopes.iter().copied().collect()];
    let personal = noun == "suppressions" || noun == "emails";
    match (noun, method) {
        ("me", _) => one(&[]),
        ("users" | "settings", _) => one(&["settings"]),
        ("uploads", _) => one(&["imports"]),
        ("keys" | "sessions" | "audit", _) => one(&["keys"]),
        ("jobs", _) if last == "errors" || last == "records" => {
            ["imports", "workflows", "webhooks"].map(|scope| BTreeSet::from([scope, "records:read"])).to_vec()
        }
        ("jobs", _) => ["imports", "workflows", "webhooks"].map(|scope| BTreeSet::from([scope])).to_vec(),
        ("schedules", _) => one(&["workflows"]),
        ("webhooks", _) => one(&["webhooks"]),
        _ if last == "import" => one(&["imports"]),
        _ if last == "export" && personal => one(&["emails:read", "exports"]),
        _ if last == "export" => one(&["records:read", "exports"]),
        _ if last == "preview" => one(&["emails:read"]),
        ("emails", _) if last == "test" => one(&["emails:read", "workflows"]),
        (_, "get") if personal => one(&["emails:read"]),
        _ if personal => one(&["workflows"]),
        (_, "get") => one(&["records:read"]),
        (_, "delete") => one(&["records:delete"]),
        _ if ["bulk", "start", "enroll", "unenroll", "request", "process-reminders", "process"].contains(&last) => {
            one(&["workflows"])
        }
        _ => one(&["records:write"]),
    }
}

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    takes_limit: bool,
    security: Vec<BTreeSet<String>>,
}

async fn operations(api: &Api) -> Vec<Operation> {
    let document: Value = reqwest::get(api.url("/openapi.json")).await.unwrap().json().await.unwrap();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap().iter().filter(|_| path.starts_with("/dev/crm")) {
            let words = |words: &Value| {
                words.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
            };
            let security = operation["security"].as_array().unwrap().iter();
            all.push(Operation {
                method: method.clone(),
                path: path.clone(),
                takes_limit: operation["parameters"].as_array().unwrap().iter().any(|it| it["name"] == "limit"),
                security: security.map(|alternative| words(&alternative["bearer"])).collect(),
            });
        }
    }
    assert!(all.len() > 80, "{}", all.len());
    all
}

#[tokio::test]
async fn the_document_names_the_scopes_of_every_operation() {
    let api = Api::start().await;
    for Operation { method, path, security, .. } in operations(&api).await {
        let expected: Vec<BTreeSet<String>> = expected(&method, &path)
            .into_iter()
            .map(|alternative| alternative.into_iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(security, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn every_operation_is_refused_to_keys_without_its_scopes() {
    let api = Api::start().await;
    for kind in ["import_leads", "nurture_leads", "process_followups", "remind_feedback"] {
        api.leaves_jobs(kind);
    }
    let job = id(&api.import("name,email\nAda,ada@example.com\n").await).to_owned();
    for scope in Scope::ALL.iter().map(|scope| scope.as_str()) {
        let key = api.scoped_key(scope).await;
        for Operation { method, path, takes_limit, security } in operations(&api).await {
            // Of a job's alternatives, the first one counts, because it is an import. A list of jobs has all of them.
            let is_allowed = |alternative: &&BTreeSet<String>| alternative.iter().all(|needed| needed == scope);
            let any = security.iter().find(|alternative| !path.contains("{jobId}") && is_allowed(alternative));
            let needed = any.unwrap_or(&security[0]);
            let lacked: Vec<&String> = needed.iter().filter(|needed| *needed != scope && scope != "*").collect();
            let sent = path
                .split('/')
                .map(|part| match part {
                    "{jobId}" => job.as_str(),
                    part if part.starts_with('{') => MISSING,
                    part => part,
                })
                .collect::<Vec<_>>()
                .join("/");
            // Cancelling it would end it for the keys after this one, and its events never end without a worker.
            if lacked.is_empty() && ["/cancel", "/events", "/stream"].iter().any(|end| sent.ends_with(end)) {
                continue;
            }
            let verb = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = api.request_with(&key, verb, &format!("{sent}{}", if takes_limit { "?limit=1" } else { "" }));
            let request = if method == "get" { request } else { request.json(&json!({})) };
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert_eq!(status == 403, !lacked.is_empty(), "{method} {sent} with {scope}: {status}");
            if status == 403 {
                let answer = support::body(answer, 403).await;
                let mut errors: Vec<Value> = answer["errors"].as_array().unwrap().clone();
                errors.sort_by_key(|error| error["field"].as_str().unwrap().to_owned());
                let expected: Vec<Value> =
                    lacked.iter().map(|field| json!({ "code": "scope", "field": field })).collect();
                // Of a job's scopes, the one of its kind is checked first.
                let is_beginning = errors.len() == 1 && path.contains("/jobs") && expected.contains(&errors[0]);
                assert!(errors == expected || is_beginning, "{method} {sent}: {answer}");
                assert!(answer["message"].as_str().unwrap().starts_with("This API key does not allow "), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_scope() {
    let api = Api::start().await;
    let key = api.scoped_key("records:read").await;
    let person = json!({ "name": "Ada", "email": "ada@example.com" });
    let refused = support::json(api.request_with(&key, Method::POST, "/dev/crm/leads").json(&person), 403).await;
    assert_eq!(
        refused,
        json!({
            "message": "This API key does not allow records:write",
            "errors": [{ "code": "scope", "field": "records:write" }],
        })
    );
    // Keys are checked first, paths and methods as for everybody.
    support::json(api.request_with("x", Method::POST, "/dev/crm/leads"), 401).await;
    support::json(api.request_with(&key, Method::GET, "/dev/crm/nothing"), 404).await;
    support::json(api.request_with(&key, Method::PUT, "/dev/crm/leads"), 405).await;
}

#[tokio::test]
async fn a_whole_list_needs_exports() {
    let api = Api::start().await;
    for path in
        ["/dev/crm/leads", "/dev/crm/customers", "/dev/crm/orders", "/dev/crm/feedback", "/dev/crm/leads?deleted=true"]
    {
        let (reads, exports) = (api.scoped_key("records:read").await, api.scoped_key("records:read,exports").await);
        let refused = support::json(api.request_with(&reads, Method::GET, path), 403).await;
        assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "exports" }]), "{path}");
        let page = format!("{path}{}limit=10", if path.contains('?') { "&" } else { "?" });
        support::json(api.request_with(&reads, Method::GET, &page), 200).await;
        support::json(api.request_with(&exports, Method::GET, path), 200).await;
    }
    let key = api.scoped_key("emails:read").await;
    support::json(api.request_with(&key, Method::GET, "/dev/crm/emails"), 403).await;
    support::json(api.request_with(&key, Method::GET, "/dev/crm/emails?limit=1"), 200).await;
    // Users are few, and no personal data of customers.
    let key = api.scoped_key("settings").await;
    support::json(api.request_with(&key, Method::GET, "/dev/crm/users"), 200).await;
}

#[tokio::test]
async fn a_key_that_cannot_read_gets_only_the_ids_of_what_it_changes() {
    let api = Api::start().await;
    let lead =
        api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com", "notes": "secret" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    let writes = api.scoped_key("records:write,records:delete,workflows").await;
    let send = async |method, path: &str, body: Value, status| {
        support::json(api.request_with(&writes, method, path).json(&body), status).await
    };
    let only_id = json!({ "id": lead["id"] });
    assert_eq!(send(Method::PUT, &path, json!({}), 200).await, only_id);
    assert_eq!(send(Method::PATCH, &path, json!({ "company": "x" }), 200).await, only_id);
    let same = json!({ "name": "Ada", "email": "ada@example.com" });
    assert_eq!(send(Method::POST, "/dev/crm/leads?on_conflict=update", same, 200).await, only_id);
    let batch = json!({ "items": [{ "id": lead["id"], "phone": "1" }, { "name": "Eve" }] });
    let results = send(Method::POST, "/dev/crm/leads/batch", batch, 200).await;
    assert_eq!(results["results"][0], json!({ "status": 200, "record": only_id }));
    assert_eq!(results["results"][1]["error"]["errors"][0]["field"], "email");
    assert_eq!(send(Method::POST, &format!("{path}/nurture/enroll"), json!({}), 200).await, only_id);
    let converted = send(Method::POST, &format!("{path}/convert"), json!({}), 201).await;
    assert_eq!(converted["lead"], only_id);
    assert_eq!(converted["customer"].as_object().unwrap().len(), 1, "{converted}");
    let deleted = api.request_with(&writes, Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(send(Method::POST, &format!("{path}/restore"), json!({}), 200).await, only_id);

    // What the request created is known to its sender.
    let eve = json!({ "name": "Eve", "email": "eve@example.com" });
    let created = api.request_with(&writes, Method::POST, "/dev/crm/leads").header("idempotency-key", "1").json(&eve);
    let created = support::json(created, 201).await;
    assert_eq!(created["name"], "Eve");
    // A key that reads gets the same record whole.
    let both = api.scoped_key("records:write,records:read").await;
    let whole = support::json(api.request_with(&both, Method::PUT, &path).json(&json!({})), 200).await;
    assert_eq!(whole["notes"], "secret");
}

#[tokio::test]
async fn jobs_are_shown_to_keys_that_may_start_them() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    api.leaves_jobs("nurture_leads");
    let import = api.import("name,email\nAda,ada@example.com\n").await;
    let nurture = support::json(api.post("/dev/crm/leads/nurture/start?dry_run=true"), 202).await;
    let statement = "UPDATE jobs SET result = '{\"leads\": 1, \"preview\": [{\"email\": \"ada@example.com\"}]}' WHERE kind = 'nurture_leads'";
    sqlx::query(statement).execute(api.database.pool()).await.unwrap();
    let imports = api.scoped_key("imports").await;
    let workflows = api.scoped_key("workflows").await;
    let reads = api.scoped_key("workflows,imports,records:read").await;
    let get =
        async |key: &str, path: &str, status| support::json(api.request_with(key, Method::GET, path), status).await;
    let kinds = async |key: &str| {
        let jobs = get(key, "/dev/crm/jobs?count=true", 200).await;
        support::each(&jobs, "kind").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&imports).await, ["import_leads"]);
    assert_eq!(kinds(&workflows).await, ["nurture_leads"]);
    assert_eq!(kinds(&reads).await, ["nurture_leads", "import_leads"]);

    let (of_import, of_nurture) = (format!("/dev/crm/jobs/{}", id(&import)), format!("/dev/crm/jobs/{}", id(&nurture)));
    let refused = get(&imports, &of_nurture, 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "workflows" }]));
    let refused = get(&workflows, &of_import, 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "imports" }]));
    let refused = get(&imports, &format!("{of_import}/errors"), 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "records:read" }]));
    get(&reads, &format!("{of_import}/errors"), 200).await;
    get(&imports, &format!("/dev/crm/jobs/{MISSING}"), 404).await;
    get(&imports, "/dev/crm/jobs/x", 400).await;

    // A preview shows records.
    let shown = get(&workflows, &of_nurture, 200).await;
    assert_eq!(shown["result"], json!({ "leads": 1, "preview": null }));
    assert_eq!(get(&workflows, "/dev/crm/jobs", 200).await[0]["result"], shown["result"]);
    let again = api.request_with(&workflows, Method::POST, "/dev/crm/leads/nurture/start?dry_run=true");
    assert_eq!(support::json(again, 202).await["result"], shown["result"]);
    assert_eq!(get(&reads, &of_nurture, 200).await["result"]["preview"][0]["email"], "ada@example.com");
    assert_eq!(get(&reads, "/dev/crm/jobs?kind=nurture_leads", 200).await[0]["result"]["leads"], 1);
    let cancelled = api.request_with(&workflows, Method::POST, &format!("{of_nurture}/cancel"));
    assert_eq!(support::json(cancelled, 200).await["result"], shown["result"]);
    let events = api.request_with(&workflows, Method::GET, &format!("{of_nurture}/events"));
    let events = events.send().await.unwrap().text().await.unwrap();
    assert!(events.contains("event: end") && !events.contains("ada@example.com"), "{events}");
}

#[tokio::test]
async fn a_bulk_change_needs_the_scope_of_what_it_does() {
    let api = Api::start().await;
    for kind in ["bulk_leads", "undo_bulk"] {
        api.leaves_jobs(kind);
    }
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let bulk = |action: &str| match action {
        "delete" => json!({ "filter": "all", "action": action, "confirm": 1 }),
        "update" => json!({ "filter": "all", "action": action, "set": { "company": "x" } }),
        _ => json!({ "filter": "all", "action": action }),
    };
    for (action, scope) in [("update", "records:write"), ("delete", "records:delete"), ("enroll", "")] {
        let send = async |key: &str, path: &str, body: Value, status| {
            support::json(api.request_with(key, Method::POST, path).json(&body), status).await
        };
        let start = format!("workflows,{scope}");
        let (without, with) =
            (api.scoped_key("workflows,records:read").await, api.scoped_key(start.trim_end_matches(',')).await);
        if !scope.is_empty() {
            let refused = send(&without, "/dev/crm/leads/bulk", bulk(action), 403).await;
            assert_eq!(refused["errors"], json!([{ "code": "scope", "field": scope }]), "{action}");
        }
        let job = send(&with, "/dev/crm/leads/bulk", bulk(action), 202).await;
        let path = format!("/dev/crm/jobs/{}", id(&job));
        support::json(api.request_with(&without, Method::GET, &path), 200).await;
        send(&without, &format!("{path}/cancel"), json!({}), 200).await;
        // Who may not make the change may neither repeat nor undo it.
        if !scope.is_empty() {
            send(&without, &format!("{path}/retry"), json!({}), 403).await;
            send(&without, &format!("{path}/undo"), json!({}), 403).await;
        }
        send(&with, &format!("{path}/retry"), json!({}), 202).await;
    }
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", id(&lead))).await, lead);
}

#[tokio::test]
async fn a_preview_with_a_record_needs_to_read_it() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let key = api.scoped_key("emails:read").await;
    let both = api.scoped_key("emails:read,records:read").await;
    let preview = |key: &str, lead_id: Option<&str>| {
        let mut body = json!({ "template": { "subject": "Hi {{ lead.first_name }}", "body": "Hello" } });
        if let Some(id) = lead_id {
            body["lead_id"] = id.into();
        }
        api.request_with(key, Method::POST, "/dev/crm/emails/preview").json(&body)
    };
    support::json(preview(&key, None), 200).await;
    let refused = support::json(preview(&key, Some(id(&lead))), 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "records:read" }]));
    assert_eq!(support::json(preview(&both, Some(id(&lead))), 200).await["subject"], "Hi Ada");
}

#[tokio::test]
async fn me_shows_the_scopes_of_a_key() {
    let api = Api::start().await;
    let key = api.scoped_key("emails:read,records:read").await;
    let me = support::json(api.request_with(&key, Method::GET, "/dev/crm/me"), 200).await;
    assert_eq!(me["scopes"], json!(["records:read", "emails:read"]));
}
