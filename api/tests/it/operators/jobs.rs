//! Jobs are found, retried and cancelled over all workspaces.

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::{Timestamp, Uuid};

use super::{Operations, ids, matching, newest};
use crate::support::{self, faults};

#[tokio::test]
async fn jobs_of_all_workspaces_are_filtered() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let globex = operations.workspace("globex").await;
    let failed = operations.jobs(acme, 2, "failed", Some("The disk is full")).await;
    let others = operations.jobs(globex, 3, "failed", Some("it panicked")).await;
    let mut succeeded = operations.jobs(globex, 2, "succeeded", None).await;
    let cancelled = operations.jobs(acme, 1, "cancelled", None).await;
    let running = operations.jobs(acme, 1, "running", None).await;
    let due = operations.jobs(globex, 1, "queued", None).await;
    let waiting = operations.jobs(acme, 1, "queued", Some("later")).await;
    let future = operations.jobs(acme, 1, "queued", None).await;
    let quarantined = operations.jobs(acme, 1, "queued", None).await;
    let worker = Uuid::now_v7();
    for (update, id) in [
        ("UPDATE jobs SET run_at = now() + interval '1 hour' WHERE id = $1", future[0]),
        ("UPDATE jobs SET crashes = 1 WHERE id = $1", quarantined[0]),
        ("UPDATE jobs SET queue = 'imports', kind = 'import_leads' WHERE id = $1", others[0]),
    ] {
        sqlx::query(update).bind(id).execute(operations.api.database.pool()).await.unwrap();
    }
    // Ids rise with time.
    let two_hours_ago = u64::try_from((Utc::now() - TimeDelta::hours(2)).timestamp()).unwrap();
    let old = Uuid::new_v7(Timestamp::from_unix_time(two_hours_ago, 0, 0, 0));
    let age = "UPDATE jobs SET id = $2, created_at = now() - interval '2 hours' WHERE id = $1";
    sqlx::query(age).bind(succeeded[0]).bind(old).execute(operations.api.database.pool()).await.unwrap();
    succeeded[0] = old;
    let held = "UPDATE jobs SET worker_id = $2 WHERE id = $1";
    sqlx::query(held).bind(running[0]).bind(worker).execute(operations.api.database.pool()).await.unwrap();
    let all = [&failed, &others, &succeeded, &cancelled, &running, &due, &waiting, &future, &quarantined];
    let all: Vec<&[Uuid]> = all.iter().map(|ids| ids.as_slice()).collect();
    let (globex_id, worker) = (globex.to_string(), worker.to_string());
    for (filter, expected) in [
        (&[][..], newest(&all)),
        (&[("status", "failed")], newest(&[&failed, &others])),
        (&[("status", "failed"), ("workspace", "acme")], newest(&[&failed])),
        (&[("workspace", &globex_id)], newest(&[&others, &succeeded, &due])),
        (&[("error", "DISK")], newest(&[&failed])),
        (&[("status", "succeeded")], newest(&[&succeeded])),
        (&[("status", "cancelled")], newest(&[&cancelled])),
        (&[("status", "running")], newest(&[&running])),
        (&[("status", "queued")], newest(&[&due, &waiting, &future, &quarantined])),
        (&[("status", "due")], newest(&[&due, &waiting, &quarantined])),
        (&[("status", "future")], newest(&[&future])),
        (&[("status", "waiting")], newest(&[&waiting])),
        (&[("worker", &worker)], newest(&[&running])),
        (&[("queue", "imports")], vec![others[0]]),
        (&[("kind", "import_leads")], vec![others[0]]),
        (&[("older_than", "1h")], vec![succeeded[0]]),
        (&[("created_before", "2999-01-01"), ("status", "running")], newest(&[&running])),
        (&[("created_after", "2999-01-01")], vec![]),
    ] {
        let query: Vec<String> = filter.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options: Vec<String> =
            filter.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let listed = operations.read(&format!("/jobs?{}", query.join("&"))).await;
        assert_eq!(ids(&listed), expected, "{filter:?}");
        assert_eq!(operations.json(&[&["jobs", "list"], &options[..]].concat()).await, listed, "{filter:?}");
        let count = operations.read(&format!("/jobs/count?{}", query.join("&"))).await;
        assert_eq!(count, json!({ "count": expected.len() }), "{filter:?}");
        assert_eq!(operations.json(&[&["jobs", "count"], &options[..]].concat()).await, count, "{filter:?}");
    }
    assert_eq!(ids(&operations.read("/jobs?limit=3").await), newest(&all)[..3]);
    let table = operations.print(&["jobs", "list", "--status", "failed"]).await;
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.starts_with("ID ") && table.contains("The disk is full"), "{table}");
}

#[tokio::test]
async fn wrong_filters_are_refused() {
    let operations = Operations::start().await;
    for (query, fault) in [
        ("?colour=red", ("colour", "unknown")),
        ("?status=lost", ("status", "invalid")),
        ("?worker=x", ("worker", "invalid")),
        ("?older_than=long", ("older_than", "invalid")),
        ("?created_after=soon", ("created_after", "invalid")),
        ("?limit=1001", ("limit", "out_of_range")),
        ("?status=failed&status=queued", ("status", "duplicate")),
        ("?workspace=nowhere", ("workspace", "unknown")),
    ] {
        let refused = support::json(operations.request(Method::GET, &format!("/jobs{query}")), 400).await;
        assert_eq!(faults(&refused), [fault], "{query}");
    }
    let error = operations.error(&["jobs", "list", "--older-than", "long"]).await;
    assert!(error.starts_with("crm-api: --older-than must be a whole number of"), "{error}");
    let error = operations.error(&["jobs", "count", "--workspace", "nowhere"]).await;
    assert_eq!(error, "crm-api: --workspace is not the name or the id of a workspace");

    for (body, fault) in [
        (json!({}), ("filter", "required")),
        (json!({ "filter": {} , "expect": 0 }), ("filter", "required")),
        (json!({ "filter": { "status": "failed" } }), ("expect", "required")),
        (json!({ "filter": { "status": "failed" }, "expect": "all" }), ("expect", "invalid")),
        (json!({ "filter": { "status": "lost" }, "expect": 0 }), ("filter.status", "invalid")),
        (json!({ "filter": { "colour": "red" }, "expect": 0 }), ("filter.colour", "unknown")),
        (json!({ "filter": { "status": null }, "expect": 0 }), ("filter.status", "invalid")),
        (json!({ "filter": { "all": true, "status": "failed" }, "expect": 0 }), ("filter.all", "not_allowed")),
        (json!({ "ids": [] }), ("ids", "invalid")),
        (json!({ "ids": ["x"] }), ("ids.0", "invalid")),
        (json!({ "ids": [Uuid::now_v7()] }), ("ids", "unknown")),
        (json!({ "ids": [Uuid::now_v7()], "expect": 1 }), ("expect", "not_allowed")),
        (json!({ "ids": [Uuid::now_v7()], "filter": { "all": true } }), ("ids", "not_allowed")),
        (json!({ "filter": { "status": "failed" }, "expect": 0, "force": true }), ("force", "unknown")),
    ] {
        let refused = operations.send("/jobs/retry", body.clone(), 400).await;
        assert_eq!(faults(&refused), [fault], "{body}");
    }
    let large = json!({ "filter": { "error": "x".repeat(70_000) }, "expect": 0 });
    operations.send("/jobs/retry", large, 413).await;
    assert_eq!(operations.read("/actions?action=jobs").await, json!([]), "nothing has begun");
    let error = operations.error(&["jobs", "retry"]).await;
    assert_eq!(error, "crm-api: name ids, options that select, or --all");
}

#[tokio::test]
async fn a_job_is_shown() {
    let operations = Operations::start().await;
    let id = operations.jobs(operations.api.workspace_id, 1, "failed", Some("it panicked")).await[0];
    let shown = operations.read(&format!("/jobs/{id}")).await;
    for (field, value) in [
        ("id", json!(id)),
        ("workspace", json!("acme")),
        ("workspace_id", json!(operations.api.workspace_id)),
        ("queue", json!("workflows")),
        ("kind", json!("clean_up")),
        ("status", json!("failed")),
        ("error", json!("it panicked")),
        ("attempt", json!(1)),
        ("due_at", Value::Null),
        ("worker_id", Value::Null),
        ("progress_done", json!(0)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(operations.json(&["jobs", "show", &id.to_string()]).await, shown);
    assert!(operations.print(&["jobs", "show", &id.to_string()]).await.contains("it panicked"));
    let unknown = Uuid::now_v7();
    support::json(operations.request(Method::GET, &format!("/jobs/{unknown}")), 404).await;
    assert_eq!(
        operations.error(&["jobs", "show", &unknown.to_string()]).await,
        format!("crm-api: there is no job {unknown}")
    );
}

#[tokio::test]
async fn failed_jobs_are_retried_if_their_number_is_the_expected_one() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let globex = operations.workspace("globex").await;
    operations.jobs(acme, 1_200, "failed", Some("The disk is full")).await;
    operations.jobs(globex, 5, "failed", Some("The disk is full")).await;
    operations.jobs(acme, 2, "succeeded", None).await;
    let filter = json!({ "workspace": "acme", "status": "failed" });

    let refused = operations.send("/jobs/retry", matching(filter.clone(), 1_199), 409).await;
    assert_eq!((&refused["matched"], &refused["errors"][0]["code"]), (&json!(1_200), &json!("count_differs")));
    assert_eq!(refused["errors"][0]["field"], "expect");
    assert_eq!(
        (operations.count(acme, "failed").await, operations.last_action().await["action"].clone()),
        (1_200, json!("operators.create"))
    );

    let action = operations.act("/jobs/retry", matching(filter.clone(), 1_200)).await;
    for (field, value) in [
        ("action", json!("jobs.retry")),
        ("actor", json!("ada")),
        ("source", json!("api")),
        ("matched", json!(1_200)),
        ("done", json!(1_200)),
        ("result", json!({ "unchanged": 0 })),
        ("error", Value::Null),
        ("arguments", json!({ "filter": filter, "expect": 1_200 })),
    ] {
        assert_eq!(action[field], value, "{field}");
    }
    assert_eq!(operations.last_action().await, action);
    let left = [operations.count(acme, "queued").await, operations.count(globex, "failed").await];
    assert_eq!((left, operations.count(acme, "succeeded").await), ([1_200, 5], 2));
    // Each job has its event, and the workspace's log names the action.
    let log = operations.api.read("/dev/crm/audit?type=job.retried&limit=1000").await;
    assert_eq!(log.as_array().unwrap().len(), 1_000);
    assert_eq!(log[0]["actor"], json!({ "type": "operator", "id": action["id"] }));
    // A second time there is nothing left.
    let again = operations.act("/jobs/retry", matching(filter, 0)).await;
    assert_eq!((&again["matched"], &again["done"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_command_without_the_expected_number_prints_it_and_changes_nothing() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    operations.jobs(acme, 3, "failed", Some("The disk is full")).await;
    let retry = ["jobs", "retry", "--status", "failed", "--error", "disk is"];
    for expect in [&[][..], &["--expect", "2"]] {
        let output = operations.run(&[&retry, expect].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let repeat = "crm-api jobs retry --status failed --error 'disk is' --expect 3";
        assert!(text.starts_with("3 match; nothing was changed.") && text.trim_end().ends_with(repeat), "{text}");
    }
    let output = operations.run(&[&retry[..], &["--json"]].concat()).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b"{\"matched\":3}\n"[..]));
    assert_eq!(operations.count(acme, "failed").await, 3);

    let action = operations.json(&[&retry[..], &["--expect", "3"]].concat()).await;
    assert_eq!((&action["source"], &action["matched"], &action["done"]), (&json!("cli"), &json!(3), &json!(3)));
    assert_eq!(operations.count(acme, "queued").await, 3);
    // Everything is what can be cancelled, or retried.
    operations.jobs(acme, 2, "succeeded", None).await;
    let cancel = operations.print(&["jobs", "cancel", "--all", "--expect", "3"]).await;
    assert_eq!(cancel, "3 matched, 3 cancelled.\n");
    let waiting = operations.jobs(acme, 1, "queued", Some("later")).await;
    let retry = operations.print(&["jobs", "retry", "--all", "--expect", "4"]).await;
    assert_eq!(retry, "4 matched, 4 retried.\n");
    assert_eq!((operations.count(acme, "queued").await, operations.status(waiting[0]).await), (4, "queued".to_owned()));
    let none = operations.print(&["jobs", "retry", "--status", "succeeded", "--expect", "0"]).await;
    assert_eq!(none, "0 matched, 0 retried.\n");
}

#[tokio::test]
async fn jobs_are_cancelled_and_retried_by_id() {
    let operations = Operations::start().await;
    let globex = operations.workspace("globex").await;
    let queued = operations.jobs(operations.api.workspace_id, 2, "queued", None).await;
    let running = operations.jobs(globex, 1, "running", None).await;
    let succeeded = operations.jobs(globex, 1, "succeeded", None).await;
    let ids = [queued[0], running[0], succeeded[0]];
    let action = operations.act("/jobs/cancel", json!({ "ids": ids })).await;
    assert_eq!((&action["matched"], &action["done"]), (&json!(3), &json!(2)));
    assert_eq!(action["result"], json!({ "unchanged": 1 }));
    let statuses = [operations.status(queued[0]).await, operations.status(running[0]).await];
    assert_eq!(statuses, ["cancelled", "cancelled"]);
    assert_eq!([operations.status(queued[1]).await, operations.status(succeeded[0]).await], ["queued", "succeeded"]);

    let retried = operations.print(&["jobs", "retry", &queued[0].to_string(), &succeeded[0].to_string()]).await;
    assert!(retried.starts_with("2 matched, 1 retried, 1 could no longer be changed"), "{retried}");
    assert_eq!(operations.status(queued[0]).await, "queued");
    let mixed = operations.error(&["jobs", "retry", &queued[0].to_string(), "--status", "failed"]).await;
    assert_eq!(mixed, "crm-api: ids cannot be combined with options that select");
}

#[tokio::test]
async fn jobs_that_need_a_confirmation_or_do_the_same_work_are_not_retried() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let braked = operations.jobs(acme, 1, "failed", Some("too_many_emails: the run would write 20001 emails")).await;
    let same = operations.jobs(acme, 3, "failed", None).await;
    let active = operations.jobs(acme, 2, "failed", None).await;
    let key = "UPDATE jobs SET dedupe_key = $2 WHERE id = ANY ($1)";
    for (ids, dedupe_key) in [(&same[..], "clean_up"), (&active[..], "other")] {
        sqlx::query(key).bind(ids).bind(dedupe_key).execute(operations.api.database.pool()).await.unwrap();
    }
    let running = operations.jobs(acme, 1, "running", None).await;
    sqlx::query(key).bind(&running).bind("other").execute(operations.api.database.pool()).await.unwrap();

    let action = operations.act("/jobs/retry", matching(json!({ "status": "failed" }), 6)).await;
    assert_eq!((&action["matched"], &action["done"]), (&json!(6), &json!(1)));
    assert_eq!(action["result"], json!({ "unchanged": 4, "too_many_emails": 1, "too_many_emails_ids": [braked[0]] }));
    // Of jobs that do the same work, the newest is retried.
    assert_eq!([operations.status(same[2]).await, operations.status(same[0]).await], ["queued", "failed"]);
    let printed = operations.print(&["jobs", "retry", "--error", "too_many", "--expect", "1"]).await;
    assert!(printed.starts_with("1 matched, 0 retried.\n1 were left out"), "{printed}");
    assert!(printed.contains(&braked[0].to_string()), "{printed}");
}

#[tokio::test]
async fn two_operators_retry_the_same_jobs_once() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    operations.jobs(acme, 600, "failed", None).await;
    let body = matching(json!({ "status": "failed" }), 600);
    let both = async || {
        let request = operations.request(Method::POST, "/jobs/retry").json(&body).send().await.unwrap();
        let status = request.status().as_u16();
        (status, request.json::<Value>().await.unwrap())
    };
    let answers: [(u16, Value); 2] = tokio::join!(both(), both()).into();
    let done: i64 = answers.iter().filter_map(|(_, answer)| answer["data"]["done"].as_i64()).sum();
    // The second one either met fewer jobs than it expected, or changed those that were left.
    assert!(answers.iter().all(|(status, _)| [200, 409].contains(status)), "{answers:?}");
    assert_eq!((done, operations.count(acme, "queued").await), (600, 600));
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE type = 'job.retried'")
        .fetch_one(operations.api.database.pool())
        .await
        .unwrap();
    assert_eq!(events, 600);
}
