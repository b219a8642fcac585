//! Queues, kinds, workers, workspaces and schedules are listed.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;
use uuid::Uuid;

use super::{Operations, ids};
use crate::holds::until;
use crate::support;

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

#[tokio::test]
async fn queues_and_kinds_show_what_waits_and_how_fast_it_is_done() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let due = operations.jobs(acme, 4, "queued", None).await;
    operations.jobs(acme, 1, "running", None).await;
    let set = "UPDATE jobs SET run_at = now() + make_interval(secs => $2) WHERE id = $1";
    for (id, seconds) in [(due[0], -60.0), (due[1], 3_600.0)] {
        sqlx::query(set).bind(id).bind(seconds).execute(operations.api.database.pool()).await.unwrap();
    }
    let queues = operations.read("/queues").await;
    let names: Vec<&str> = queues.as_array().unwrap().iter().map(|queue| queue["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["imports", "mail", "webhooks", "workflows"]);
    let workflows = named(&queues, "workflows");
    assert_eq!([&workflows["due"], &workflows["future"], &workflows["running"]], [3, 1, 1]);
    assert!((60.0..90.0).contains(&workflows["oldest_due_s"].as_f64().unwrap()), "{workflows}");
    assert_eq!((&workflows["per_minute"], &workflows["eta_s"]), (&json!(0), &Value::Null));
    let imports = named(&queues, "imports");
    assert_eq!((&imports["due"], &imports["oldest_due_s"], &imports["eta_s"]), (&json!(0), &Value::Null, &json!(0.0)));

    // Two of the three that are due end, so the rest takes half a minute at that rate.
    operations.act("/jobs/cancel", json!({ "ids": [due[2], due[3]] })).await;
    let workflows = named(&operations.read("/queues").await, "workflows").clone();
    assert_eq!(
        (&workflows["due"], &workflows["per_minute"], &workflows["eta_s"]),
        (&json!(1), &json!(2), &json!(30.0))
    );
    let kinds = operations.json(&["kinds", "list"]).await;
    let kind = named(&kinds, "clean_up");
    assert_eq!((&kind["queue"], &kind["due"], &kind["per_minute"]), (&json!("workflows"), &json!(1), &json!(2)));
    assert_eq!(named(&operations.read("/kinds").await, "nightly")["due"], 0);
    let table = operations.print(&["queues", "list"]).await;
    assert!(table.starts_with("NAME") && table.lines().count() == 5, "{table}");
    assert!(operations.print(&["kinds", "list"]).await.contains("import_leads"));
}

#[tokio::test]
async fn workspaces_are_listed_by_load() {
    let operations = Operations::start().await;
    let globex = operations.workspace("globex").await;
    operations.jobs(globex, 3, "queued", None).await;
    operations.jobs(operations.api.workspace_id, 1, "running", None).await;
    let id = crate::emails::queued(&operations.api, "ada@example.com", None).await;
    crate::emails::set_state(&operations.api, id, "unknown").await;
    let listed = operations.read("/workspaces").await;
    assert_eq!(ids(&listed), [globex, operations.api.workspace_id]);
    assert_eq!((&listed[0]["due_jobs"], &listed[0]["running_jobs"]), (&json!(3), &json!(0)));
    assert_eq!((&listed[1]["running_jobs"], &listed[1]["unknown_emails"]), (&json!(1), &json!(1)));
    let shown = operations.read("/workspaces/globex").await;
    assert_eq!(
        (&shown["name"], &shown["due_jobs"], &shown["suspended_at"]),
        (&json!("globex"), &json!(3), &Value::Null)
    );
    assert_eq!(operations.read(&format!("/workspaces/{globex}")).await["name"], "globex");
    support::json(operations.request(Method::GET, "/workspaces/nowhere"), 400).await;
    assert_eq!(operations.json(&["workspaces", "show", "globex"]).await["due_jobs"], 3);
    assert_eq!(ids(&operations.json(&["workspaces", "list"]).await), ids(&listed));
    let error = operations.error(&["workspaces", "show", "nowhere"]).await;
    assert_eq!(error, "crm-api: there is no workspace \"nowhere\"");
}

#[tokio::test]
async fn a_worker_is_listed_drained_and_undrained() {
    let operations = Operations::start().await;
    let _worker = Process::worker(&operations.api.database, &["--queues", "workflows"]);
    until("the worker is registered", async || operations.read("/workers").await != json!([])).await;
    let listed = operations.read("/workers").await;
    assert_eq!((&listed[0]["state"], &listed[0]["queues"]), (&json!("running"), &json!(["workflows"])));
    let id = ids(&listed)[0].to_string();
    assert_eq!(ids(&operations.json(&["workers", "list"]).await), ids(&listed));
    assert_eq!(operations.json(&["workers", "show", &id]).await["host"], listed[0]["host"]);
    assert_eq!(operations.read(&format!("/workers/{id}")).await["pid"], listed[0]["pid"]);

    let drained = operations.act(&format!("/workers/{id}/drain"), json!({})).await;
    assert_eq!((&drained["action"], &drained["arguments"]), (&json!("workers.drain"), &json!({ "worker": id })));
    assert!(drained["result"]["draining_since"].is_string(), "{drained}");
    let undrained = operations.json(&["workers", "undrain", &id]).await;
    assert_eq!(
        (&undrained["action"], &undrained["result"]["draining_since"]),
        (&json!("workers.undrain"), &Value::Null)
    );
    operations.print(&["workers", "drain", &id]).await;
    operations.act(&format!("/workers/{id}/undrain"), json!({})).await;
    assert!(operations.print(&["workers", "list"]).await.contains(&id));

    let unknown = Uuid::now_v7();
    operations.send(&format!("/workers/{unknown}/drain"), json!({}), 404).await;
    assert_eq!(operations.last_action().await["error"], "not found");
    support::json(operations.request(Method::GET, &format!("/workers/{unknown}")), 404).await;
    assert_eq!(
        operations.error(&["workers", "show", &unknown.to_string()]).await,
        format!("crm-api: there is no worker {unknown}")
    );
}

#[tokio::test]
async fn schedules_show_their_next_and_last_runs() {
    let operations = Operations::start().await;
    operations.api.leaves_jobs("nurture_leads");
    let globex = operations.workspace("globex").await;
    let path = "/dev/crm/schedules";
    let schedule = json!({ "kind": "nurture_leads", "cron": "30 8 * * *" });
    let schedule = operations.api.create(path, schedule).await;
    let id = support::id(&schedule).to_owned();
    let job = support::json(operations.api.post(&format!("{path}/{id}/run")), 202).await;

    let listed = operations.read("/schedules").await;
    assert_eq!(listed.as_array().unwrap().len(), 3, "two nightly runs, and this one");
    let own = listed.as_array().unwrap().iter().find(|row| row["id"] == id.as_str()).unwrap();
    assert_eq!((&own["workspace"], &own["kind"]), (&json!("acme"), &json!("nurture_leads")));
    assert_eq!(own["next_runs"], schedule["next_runs"]);
    assert_eq!((&own["last_runs"][0]["job_id"], &own["last_runs"][0]["status"]), (&job["id"], &json!("queued")));
    let others = operations.json(&["schedules", "list", "--workspace", "globex"]).await;
    assert_eq!((others.as_array().unwrap().len(), &others[0]["workspace_id"]), (1, &json!(globex)));
    assert_eq!((&others[0]["kind"], &others[0]["last_runs"]), (&json!("nightly"), &json!([])));
    assert_eq!(ids(&operations.read("/schedules?workspace=globex").await), ids(&others));
    let shown = operations.json(&["schedules", "show", &id]).await;
    assert_eq!(shown["last_runs"][0]["job_id"], job["id"]);
    assert_eq!(operations.read(&format!("/schedules/{id}")).await["id"], id);
    assert!(operations.print(&["schedules", "list"]).await.contains("nurture_leads"));
    let unknown = Uuid::now_v7();
    support::json(operations.request(Method::GET, &format!("/schedules/{unknown}")), 404).await;
    let error = operations.error(&["schedules", "show", &unknown.to_string()]).await;
    assert_eq!(error, format!("crm-api: there is no schedule {unknown}"));
}

/// How long lists and counts take among many finished jobs: a million if tests are thorough.
#[tokio::test]
async fn lists_and_counts_are_fast_among_many_finished_jobs() {
    let operations = Operations::start().await;
    let workspaces =
        [operations.api.workspace_id, operations.workspace("globex").await, operations.workspace("initech").await];
    let each = if testing::is_thorough() { 333_334 } else { 4_000 };
    for workspace_id in workspaces {
        operations.jobs(workspace_id, each, "succeeded", None).await;
        operations.jobs(workspace_id, 10, "failed", Some("The disk is full")).await;
    }
    operations.jobs(workspaces[0], 10_000, "queued", None).await;
    sqlx::query("VACUUM ANALYZE jobs").execute(operations.api.database.pool()).await.unwrap();
    for path in [
        "/jobs",
        "/jobs?status=failed",
        "/jobs?status=due",
        "/jobs?workspace=globex&error=disk&status=failed",
        "/jobs/count",
        "/jobs/count?status=failed",
        "/jobs/count?status=due",
        "/jobs/count?status=succeeded",
        "/queues",
        "/kinds",
        "/workers",
        "/workspaces",
        "/schedules",
        "/actions",
    ] {
        let started = Instant::now();
        operations.read(path).await;
        let took = started.elapsed().as_secs_f64();
        println!("{path}: {:.0} ms", took * 1_000.0);
        assert!(took < 1.0, "{path} took {took} s");
    }
    for (path, filter, status) in [("/jobs/cancel", "due", "cancelled"), ("/jobs/retry", "cancelled", "queued")] {
        let started = Instant::now();
        let request = operations.request(Method::POST, path);
        let answer = request.json(&super::matching(json!({ "status": filter }), 10_000)).send().await.unwrap();
        println!("{path} of 10,000 jobs: answered after {:?}", started.elapsed());
        // On a busy machine it continues after its response.
        assert!([200, 202].contains(&answer.status().as_u16()) && started.elapsed().as_secs() < 5);
        let id = answer.json::<Value>().await.unwrap()["data"]["id"].as_str().unwrap().to_owned();
        let action = async || operations.read(&format!("/actions/{id}")).await;
        until("the action has ended", async || action().await["finished_at"].is_string()).await;
        println!("{path} of 10,000 jobs: ended after {:?}", started.elapsed());
        assert_eq!(action().await["done"], 10_000);
        assert_eq!(operations.count(workspaces[0], status).await, 10_000);
    }
}
