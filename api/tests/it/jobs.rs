//! Jobs are followed, cancelled and retried over HTTP. The tests act as the worker, through the
//! queue's functions.

use futures_util::StreamExt;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use shared::queue::{self, Ended, Lease, Outcome, Progress, Reporting};

use crate::support::{self, Api, faults};

pub(crate) const FILE: &str = "Name,Email\nAnn,ann@example.com\n";

fn path(job: &Value, tail: &str) -> String {
    format!("/dev/crm/jobs/{}{tail}", job["id"].as_str().unwrap())
}

/// Claims the only job.
pub async fn claim(api: &Api) -> Lease {
    let claimed = queue::claim(&mut api.connection().await, "imports", 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed[0].lease()
}

pub async fn finish(api: &Api, lease: Lease, outcome: Outcome) {
    queue::finish(&mut api.connection().await, &[Ended { lease, outcome, reporting: Reporting::Records }])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_accepted_import_is_a_job() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import(FILE).await;
    assert_eq!(job["kind"], "import_leads");
    assert_eq!(job["status"], "queued");
    assert_eq!(job["progress"], json!({ "done": 0, "total": 1 }));
    assert_eq!(job["attempt"], 0);
    for unset in ["result", "error", "started_at", "finished_at", "subject"] {
        assert_eq!(job.get(unset), Some(&Value::Null), "{unset}");
    }
    assert_eq!(support::json(api.get(&path(&job, "")), 200).await, job);
    let unknown = support::json(api.get("/dev/crm/jobs/01890a5d-ac96-774b-bcce-b302099a8057"), 404).await;
    assert_eq!(unknown, json!({ "message": "Resource not found" }));
}

#[tokio::test]
async fn a_job_has_the_id_of_the_request_that_started_it() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let file = reqwest::multipart::Part::text(FILE).file_name("leads.csv");
    let form = reqwest::multipart::Form::new().part("file", file);
    let request = api.post("/dev/crm/leads/import").header("x-request-id", "abc").multipart(form);
    support::json(request, 202).await;
    let claimed = queue::claim(&mut api.connection().await, "imports", 1).await.unwrap();
    assert_eq!(claimed[0].request_id.as_deref(), Some("abc"));
}

#[tokio::test]
async fn a_job_that_yielded_is_still_running() {
    let api = Api::start().await;
    let job = api.import(FILE).await;
    let lease = claim(&api).await;
    let progress = Progress { done: 1, total: Some(2) };
    queue::progress(&mut api.connection().await, lease, progress, &json!({}), None).await.unwrap();
    let running = support::json(api.get(&path(&job, "")), 200).await;
    assert_eq!((&running["status"], &running["attempt"]), (&json!("running"), &json!(1)));

    finish(&api, lease, Outcome::Yielded).await;
    assert_eq!(support::json(api.get(&path(&job, "")), 200).await, running);
    assert_eq!(support::json(api.get("/dev/crm/jobs?status=running,failed"), 200).await, json!([running]));
    assert_eq!(support::json(api.get("/dev/crm/jobs?status=queued"), 200).await, json!([]));
    let counted = api.get("/dev/crm/jobs?status=running&limit=1&count=true").send().await.unwrap();
    assert_eq!(counted.headers()["x-total-count"], "1");

    assert!(claim(&api).await.attempt > lease.attempt);
    assert_eq!(support::json(api.get(&path(&job, "")), 200).await, running);
    let cancelled = support::json(api.post(&path(&job, "/cancel")), 200).await;
    assert_eq!(cancelled["status"], "cancelled");
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_in_pages() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let mut imported = Vec::new();
    for _ in 0..5 {
        imported.insert(0, api.import(FILE).await);
    }
    support::json(api.post(&path(&imported[1], "/cancel")), 200).await;
    imported[1] = support::json(api.get(&path(&imported[1], "")), 200).await;
    assert_eq!(support::json(api.get("/dev/crm/jobs"), 200).await, json!(imported));

    let first = api.get("/dev/crm/jobs?limit=3&count=true&kind=import_leads").send().await.unwrap();
    assert_eq!(first.headers()["x-total-count"], "5");
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    assert_eq!(support::body(first, 200).await, json!(imported[..3]));
    let second = api.get(next).send().await.unwrap();
    assert!(!second.headers().contains_key("link"));
    assert_eq!(support::body(second, 200).await, json!(imported[3..]));

    let cancelled = support::json(api.get("/dev/crm/jobs?status=cancelled,failed"), 200).await;
    assert_eq!(cancelled, json!([imported[1]]));
    let wrong = support::json(api.get("/dev/crm/jobs?status=done&kind=export&limit=0&cursor=x"), 400).await;
    let expected = [("status", "invalid"), ("kind", "invalid"), ("limit", "out_of_range"), ("cursor", "invalid")];
    assert_eq!(faults(&wrong), expected);
}

#[tokio::test]
async fn a_cancelled_job_stays_cancelled_until_it_is_retried() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import(FILE).await;
    let lease = claim(&api).await;
    let cancelled = support::json(api.post(&path(&job, "/cancel")), 200).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["finished_at"].is_string());
    assert_eq!(support::json(api.post(&path(&job, "/cancel")).json(&json!({})), 200).await, cancelled);

    // The worker that had the lease finishes too late.
    finish(&api, lease, Outcome::Succeeded(None)).await;
    assert_eq!(support::json(api.get(&path(&job, "")), 200).await, cancelled);

    let retried = api.post(&path(&job, "/retry")).send().await.unwrap();
    assert_eq!(retried.headers()["location"], path(&job, "").as_str());
    let retried = support::body(retried, 202).await;
    assert_eq!((&retried["status"], &retried["finished_at"]), (&json!("queued"), &Value::Null));
    assert_eq!(support::json(api.post(&path(&job, "/retry")), 202).await, retried);
}

#[tokio::test]
async fn a_failed_job_reports_its_error_and_a_succeeded_one_cannot_be_retried() {
    let api = Api::start().await;
    let job = api.import(FILE).await;
    finish(&api, claim(&api).await, Outcome::Failed("the file is cursed".to_owned())).await;
    let failed = support::json(api.get(&path(&job, "")), 200).await;
    assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &json!("the file is cursed")));

    let retried = support::json(api.post(&path(&job, "/retry")), 202).await;
    assert_eq!((&retried["status"], &retried["error"]), (&json!("queued"), &Value::Null));
    finish(&api, claim(&api).await, Outcome::Succeeded(Some(json!({ "rows": 1 })))).await;
    let again = support::json(api.post(&path(&job, "/retry")), 409).await;
    assert_eq!(again["message"], "Resource already exists");
    let cancelled = support::json(api.post(&path(&job, "/cancel")), 200).await;
    assert_eq!((&cancelled["status"], &cancelled["result"]), (&json!("succeeded"), &json!({ "rows": 1 })));
}

#[tokio::test]
async fn unknown_parameters_and_fields_are_rejected() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import(FILE).await;
    for action in ["/cancel", "/retry"] {
        let body = support::json(api.post(&path(&job, action)).json(&json!({ "force": true })), 400).await;
        assert_eq!(faults(&body), [("force", "unknown")]);
        let query = support::json(api.post(&path(&job, &format!("{action}?force=1"))), 400).await;
        assert_eq!(faults(&query), [("force", "unknown")]);
    }
    for action in ["/cancel", "/retry"] {
        let unknown = api.post(&format!("/dev/crm/jobs/01890a5d-ac96-774b-bcce-b302099a8057{action}"));
        assert_eq!(support::json(unknown, 404).await, json!({ "message": "Resource not found" }));
    }
}

/// The events of a job, one by one: name and data.
async fn events(request: RequestBuilder) -> impl StreamExt<Item = (String, Value)> + Unpin {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let pieces = Box::pin(response.bytes_stream());
    let events = futures_util::stream::unfold((pieces, String::new()), |(mut pieces, mut text)| async move {
        loop {
            if let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                if let Some((name, data)) = event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: "))
                {
                    let event = (name.to_owned(), serde_json::from_str(data).unwrap());
                    return Some((event, (pieces, rest)));
                }
                text = rest;
                continue;
            }
            text.push_str(std::str::from_utf8(&pieces.next().await?.unwrap()).unwrap());
        }
    });
    Box::pin(events)
}

#[tokio::test]
async fn a_job_is_followed_to_its_end() {
    let api = Api::start().await;
    let job = api.import(FILE).await;
    let mut events = events(api.get(&path(&job, "/events"))).await;
    assert_eq!(events.next().await.unwrap(), ("progress".to_owned(), job.clone()));

    let lease = claim(&api).await;
    let (name, running) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &running["status"]), ("progress", &json!("running")));

    let half = Progress { done: 1, total: Some(2) };
    queue::progress(&mut api.connection().await, lease, half, &json!({ "rows": 1 }), None).await.unwrap();
    let (_, halfway) = events.next().await.unwrap();
    assert_eq!(halfway["progress"], json!({ "done": 1, "total": 2 }));

    // The stream survives a short outage of the database.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crm-api' AND datname = current_database()";
    sqlx::query(cut).execute(&mut api.connection().await).await.unwrap();
    finish(&api, lease, Outcome::Succeeded(None)).await;
    let (name, done) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &done["status"]), ("progress", &json!("succeeded")));
    assert_eq!(events.next().await.unwrap(), ("end".to_owned(), done));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn the_events_of_a_job_that_has_ended_end_immediately() {
    let api = Api::start().await;
    let job = api.import(FILE).await;
    let job = support::json(api.post(&path(&job, "/cancel")), 200).await;
    let events: Vec<_> = events(api.get(&path(&job, "/events"))).await.collect().await;
    assert_eq!(events, [("progress".to_owned(), job.clone()), ("end".to_owned(), job)]);
    let unknown = api.get("/dev/crm/jobs/01890a5d-ac96-774b-bcce-b302099a8057/events");
    assert_eq!(support::json(unknown, 404).await, json!({ "message": "Resource not found" }));
}

#[tokio::test]
async fn rejected_rows_are_returned_as_json_or_as_csv() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import("Name,Email,Score\nAnn,ann@example.com,1\n\"B, \"\"b\"\"\",bob,2\nCy,,\n").await;
    reject(&api, &job, 3, "email", "invalid", json!(["B, \"b\"", "bob", "2"])).await;
    reject(&api, &job, 4, "email", "required", json!(["Cy"])).await;
    reject(&api, &job, 5, "file", "too_many_cells", json!(["D", "d@example.com", "1", "what?"])).await;

    let rows = support::json(api.get(&path(&job, "/errors")), 200).await;
    assert_eq!(rows.as_array().unwrap().len(), 3);
    let first = json!({ "line": 3, "field": "email", "code": "invalid", "message": "is wrong",
        "outcome": "failed", "faults": [{ "field": "email", "code": "invalid", "message": "is wrong" }],
        "row": { "Name": "B, \"b\"", "Email": "bob", "Score": "2" } });
    assert_eq!(rows[0], first);

    let csv = api.get(&path(&job, "/errors")).header("accept", "text/csv").send().await.unwrap();
    assert_eq!(csv.status(), 200);
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let expected = "Name,Email,Score,_line,_outcome,_faults\r\n\
        \"B, \"\"b\"\"\",bob,2,3,failed,email: is wrong\r\n\
        Cy,,,4,failed,email: is wrong\r\n\
        D,d@example.com,1,5,failed,file: is wrong,what?\r\n";
    assert_eq!(csv.text().await.unwrap(), expected);
}

#[tokio::test]
async fn many_rejected_rows_are_returned_in_order() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import(FILE).await;
    let many = "INSERT INTO job_errors (workspace_id, job_id, line, field, code, message, cells)
        SELECT workspace_id, id, line, 'email', 'invalid', 'is wrong', '[\"Ann\"]'
        FROM jobs, generate_series(2, 1501) AS line WHERE id = $1::uuid";
    sqlx::query(many).bind(job["id"].as_str().unwrap()).execute(&mut api.connection().await).await.unwrap();
    let rows = support::json(api.get(&path(&job, "/errors")), 200).await;
    let lines: Vec<u64> = rows.as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (2..=1501).collect::<Vec<u64>>());
    let csv = api.get(&path(&job, "/errors")).header("accept", "text/csv;q=0.9, */*;q=0.1").send().await.unwrap();
    assert_eq!(csv.text().await.unwrap().lines().count(), 1501);
}

async fn reject(api: &Api, job: &Value, line: i64, field: &str, code: &str, cells: Value) {
    sqlx::query(
        "INSERT INTO job_errors (workspace_id, job_id, line, field, code, message, cells)
         SELECT workspace_id, id, $2, $3, $4, 'is wrong', $5 FROM jobs WHERE id = $1::uuid",
    )
    .bind(job["id"].as_str().unwrap())
    .bind(line)
    .bind(field)
    .bind(code)
    .bind(cells)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
}
