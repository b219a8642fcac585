//! Schedules start jobs at their times.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Map, Value, json};
use shared::schedule::{self, Started};
use sqlx::Connection;
use testing::{Process, earlier};
use uuid::Uuid;

use crate::feedback;
use crate::holds::until;
use crate::nurture::many_enrolled_leads;
use crate::support::{self, Api, each, faults, id};
use crate::workflows::{put_settings, rows};

const SCHEDULES: &str = "/dev/crm/schedules";
const NOBODY: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

fn path(schedule: &Value, tail: &str) -> String {
    format!("{SCHEDULES}/{}{tail}", id(schedule))
}

async fn create(api: &Api, body: Value) -> Value {
    api.create(SCHEDULES, body).await
}

async fn nightly(api: &Api) -> Value {
    api.read(&format!("{SCHEDULES}?kind=nightly")).await[0].clone()
}

async fn runs(api: &Api, schedule: &Value) -> Value {
    api.read(&path(schedule, "/runs")).await
}

/// Deals with a schedule as a worker does whose database has this time.
async fn look(api: &Api, schedule: &Value, now: DateTime<Utc>) -> Vec<Started> {
    let mut connection = api.connection().await;
    let mut transaction = connection.begin().await.unwrap();
    let id = Uuid::try_parse(id(schedule)).unwrap();
    let started = schedule::start(&mut transaction, api.workspace_id, id, now).await.unwrap();
    transaction.commit().await.unwrap();
    started.unwrap_or_default()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

fn leaves_runs(api: &Api) {
    for kind in ["nurture_leads", "process_followups", "remind_feedback", "request_feedback", "bulk_leads", "nightly"] {
        api.leaves_jobs(kind);
    }
}

#[tokio::test]
async fn a_schedule_is_created_read_changed_and_deleted() {
    let api = Api::start().await;
    let body = json!({ "kind": "process_followups", "cron": "0  9 * * mon-fri", "time_zone": "Europe/Berlin" });
    let answer = api.post(SCHEDULES).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let created: Value = answer.json().await.unwrap();
    assert_eq!(location, path(&created, ""));
    let next = created["next_runs"].as_array().unwrap();
    assert_eq!(next.len(), 5);
    assert!(next.windows(2).all(|pair| time(&pair[0]) < time(&pair[1])), "{created}");
    for (field, value) in [
        ("kind", json!("process_followups")),
        ("params", json!({})),
        ("cron", json!("0 9 * * mon-fri")),
        ("every", json!(null)),
        ("at", json!(null)),
        ("time_zone", json!("Europe/Berlin")),
        ("overlap", json!("skip")),
        ("catch_up", json!("latest")),
        ("until", json!(null)),
        ("status", json!("active")),
    ] {
        assert_eq!(created[field], value, "{field}");
    }
    assert_eq!(api.read(&location).await, created);
    assert_eq!(api.send(Method::PUT, &location, created.clone(), 200).await, created, "as it was read");

    let changed = json!({ "every": "PT6H", "overlap": "queue", "catch_up": "all", "params": { "confirm": 5 } });
    let changed = api.send(Method::PUT, &location, changed, 200).await;
    assert_eq!((&changed["cron"], &changed["every"]), (&json!(null), &json!("PT6H")));
    assert_eq!((&changed["overlap"], &changed["params"]), (&json!("queue"), &json!({ "confirm": 5 })));
    assert_eq!(time(&changed["next_runs"][0]), time(&created["created_at"]) + TimeDelta::hours(6));
    let stale =
        api.request(Method::PUT, &location).header("if-match", "\"other\"").json(&json!({ "cron": "0 1 * * *" }));
    support::json(stale, 412).await;

    assert_eq!(each(&api.read(SCHEDULES).await, "kind"), ["process_followups", "nightly"]);
    assert_eq!(api.read(&format!("{SCHEDULES}?status=paused")).await, json!([]));
    api.delete(&location, 204).await;
    api.delete(&location, 404).await;
    assert_eq!(each(&api.read(SCHEDULES).await, "kind"), ["nightly"]);
}

#[tokio::test]
async fn the_time_zone_is_that_of_the_workspace_unless_another_is_given() {
    let api = Api::start().await;
    put_settings(&api, json!({ "time_zone": "Asia/Tokyo" })).await;
    let made = create(&api, json!({ "kind": "remind_feedback", "at": "2999-01-02", "until": "2999-01-03" })).await;
    assert_eq!((&made["time_zone"], &made["at"]), (&json!("Asia/Tokyo"), &json!("2999-01-01T15:00:00Z")));
    assert_eq!(
        (&made["until"], &made["next_runs"]),
        (&json!("2999-01-02T15:00:00Z"), &json!(["2999-01-01T15:00:00Z"]))
    );
    let other = json!({ "kind": "remind_feedback", "cron": "0 9 * * *", "time_zone": "America/New_York" });
    assert_eq!(create(&api, other).await["time_zone"], "America/New_York");
}

#[tokio::test]
async fn an_invalid_schedule_is_refused_with_its_fields() {
    let api = Api::start().await;
    let valid = json!({ "kind": "process_followups", "cron": "0 9 * * *" });
    for (change, expected) in [
        (json!({ "kind": null }), vec![("kind", "required")]),
        (json!({ "kind": "nightly" }), vec![("kind", "invalid")]),
        (json!({ "kind": "import_leads" }), vec![("kind", "invalid")]),
        (json!({ "kind": 5 }), vec![("kind", "invalid")]),
        (json!({ "cron": null }), vec![("cron", "required")]),
        (json!({ "cron": "" }), vec![("cron", "required")]),
        (json!({ "cron": "0 9 * *" }), vec![("cron", "invalid")]),
        (json!({ "cron": "0 9 30 2 *" }), vec![("cron", "never")]),
        (json!({ "every": "PT1H" }), vec![("every", "invalid")]),
        (json!({ "cron": null, "every": "PT59S" }), vec![("every", "out_of_range")]),
        (json!({ "cron": null, "every": "P1M" }), vec![("every", "invalid")]),
        (json!({ "cron": null, "at": "2020-01-01T00:00:00Z" }), vec![("at", "out_of_range")]),
        (json!({ "cron": null, "at": "tomorrow" }), vec![("at", "invalid")]),
        (json!({ "cron": null, "at": "" }), vec![("at", "required")]),
        (json!({ "until": "2020-01-01" }), vec![("until", "out_of_range")]),
        (json!({ "cron": null, "at": "2999-01-01", "until": "2998-01-01" }), vec![("until", "out_of_range")]),
        (json!({ "time_zone": "Mars/Olympus" }), vec![("time_zone", "invalid")]),
        (json!({ "overlap": "replace", "catch_up": "some" }), vec![("overlap", "invalid"), ("catch_up", "invalid")]),
        (json!({ "params": [] }), vec![("params", "invalid")]),
        (json!({ "id": NOBODY }), vec![("id", "read_only")]),
        (json!({ "status": "paused" }), vec![("status", "read_only")]),
        (json!({ "name": "x" }), vec![("name", "unknown")]),
        (
            json!({ "cron": "x", "params": { "dry": true }, "colour": 1 }),
            vec![("params.dry", "unknown"), ("cron", "invalid"), ("colour", "unknown")],
        ),
    ] {
        let mut body = valid.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = support::json(api.post(SCHEDULES).json(&body), 400).await;
        assert_eq!(faults(&refused), expected, "{body}");
    }
    let schedule = create(&api, valid).await;
    for (change, field, code) in [
        (json!({ "kind": "remind_feedback" }), "kind", "read_only"),
        (json!({ "cron": null }), "cron", "required"),
        (json!({ "cron": "0 8 * * *", "every": "PT1H" }), "every", "invalid"),
        (json!({ "at": "2020-01-01" }), "at", "out_of_range"),
        (json!({ "params": { "confirm": -1 } }), "params.confirm", "out_of_range"),
    ] {
        let refused = api.send(Method::PUT, &path(&schedule, ""), change, 400).await;
        assert_eq!(faults(&refused), [(field, code)]);
    }
}

/// The faults of a response, their fields with a prefix.
fn sorted_faults(refused: &Value, prefix: &str) -> Vec<String> {
    let mut faults: Vec<String> =
        faults(refused).iter().map(|(field, code)| format!("{prefix}{field}: {code}")).collect();
    faults.sort_unstable();
    faults
}

#[tokio::test]
async fn parameters_are_checked_as_those_of_the_request_that_starts_the_job() {
    let api = Api::start().await;
    for (kind, query) in [
        ("nurture_leads", "status=old&confirm=x&dry_run=maybe&colour=red"),
        ("process_followups", "dry_run=1&confirm=-1&status=new"),
        ("remind_feedback", "dry_run=&all=true"),
    ] {
        let route = match kind {
            "nurture_leads" => "leads/nurture/start",
            "process_followups" => "followups/process",
            _ => "feedback/process-reminders",
        };
        let direct = support::json(api.post(&format!("/dev/crm/{route}?{query}")), 400).await;
        let given = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut params: Map<String, Value> = given.map(|(name, text)| (name.to_owned(), json!(text))).collect();
        if kind == "nurture_leads" {
            params.insert("enroll".to_owned(), json!(true));
        }
        let body = json!({ "kind": kind, "params": params, "every": "P1D" });
        let scheduled = support::json(api.post(SCHEDULES).json(&body), 400).await;
        assert_eq!(sorted_faults(&scheduled, ""), sorted_faults(&direct, "params."), "{kind}");
    }
    for bulk in [json!({ "filter": {}, "action": "update" }), json!({ "filter": "all", "action": "fly", "set": 1 })] {
        let direct = support::json(api.post("/dev/crm/leads/bulk").json(&bulk), 400).await;
        let body = json!({ "kind": "bulk_leads", "params": bulk, "every": "P1D" });
        let scheduled = support::json(api.post(SCHEDULES).json(&body), 400).await;
        assert_eq!(sorted_faults(&scheduled, ""), sorted_faults(&direct, "params."));
    }
    // Without enrolment, all enrolled leads get their emails.
    for (kind, params, fault) in [
        ("nurture_leads", json!({ "status": "new" }), ("params.status", "invalid")),
        ("nurture_leads", json!({ "enroll": "yes" }), ("params.enroll", "invalid")),
        ("request_feedback", json!({}), ("params.customer_id", "required")),
        ("process_followups", json!({ "confirm": {} }), ("params.confirm", "invalid")),
    ] {
        let body = json!({ "kind": kind, "params": params, "every": "P1D" });
        let refused = support::json(api.post(SCHEDULES).json(&body), 400).await;
        assert_eq!(faults(&refused), [fault]);
    }

    // What they refer to must exist.
    for (kind, params, field) in [
        ("request_feedback", json!({ "customer_id": NOBODY }), "params.customer_id"),
        ("undo_bulk", json!({ "job_id": NOBODY }), "params.job_id"),
        (
            "bulk_orders",
            json!({ "filter": "all", "action": "update", "set": { "customer_id": NOBODY } }),
            "params.set.customer_id",
        ),
    ] {
        let body = json!({ "kind": kind, "params": params, "every": "P1D" });
        let refused = support::json(api.post(SCHEDULES).json(&body), 404).await;
        let reason = &refused["errors"][0];
        assert_eq!((&reason["field"], &reason["code"]), (&json!(field), &json!("not_found")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_a_job_within_seconds_of_its_time_and_lists_the_run() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let _workers = [Process::worker(&api.database, &[]), Process::worker(&api.database, &[])];
    let at = Utc::now() + TimeDelta::seconds(3);
    let change = json!({ "filter": { "email": "ada@example.com" }, "action": "update", "set": { "notes": "late" } });
    let schedule = create(&api, json!({ "kind": "bulk_leads", "params": change, "at": at.to_rfc3339() })).await;
    let ended = async || runs(&api, &schedule).await[0]["status"] == "succeeded";
    until("the job has ended", ended).await;
    let listed = runs(&api, &schedule).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let run = &listed[0];
    assert_eq!(time(&run["slot"]), time(&schedule["at"]));
    assert!((0.0..5.0).contains(&run["delay_s"].as_f64().unwrap()), "{run}");
    assert_eq!((&run["result"]["changed"], &run["error"]), (&json!(1), &json!(null)));
    let job = api.read(&format!("/dev/crm/jobs/{}", run["job_id"].as_str().unwrap())).await;
    assert_eq!((&job["kind"], &job["result"]), (&json!("bulk_leads"), &run["result"]));
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", id(&lead))).await["notes"], "late");
    let ended = api.read(&path(&schedule, "")).await;
    assert_eq!((&ended["status"], &ended["next_runs"]), (&json!("ended"), &json!([])));
    assert_eq!(api.read(&format!("{SCHEDULES}?status=ended")).await[0]["id"], schedule["id"]);
}

#[tokio::test]
async fn a_slot_is_skipped_or_waits_while_the_job_before_has_not_ended() {
    let api = Api::start().await;
    leaves_runs(&api);
    let change = json!({ "filter": "all", "action": "update", "set": { "notes": "x" } });
    for overlap in ["skip", "queue"] {
        let body = json!({ "kind": "bulk_leads", "params": change, "every": "PT10M", "overlap": overlap });
        let schedule = create(&api, body).await;
        let slot = |number: i32| time(&schedule["created_at"]) + TimeDelta::minutes(10) * number;
        let first = look(&api, &schedule, slot(1)).await;
        assert_eq!(first.len(), 1);
        look(&api, &schedule, slot(2)).await;
        look(&api, &schedule, slot(3)).await;
        let listed = runs(&api, &schedule).await;
        let claimed = async || {
            let claimed = shared::queue::claim(&mut api.connection().await, "imports", 10).await.unwrap();
            claimed.into_iter().map(|job| job.id).collect::<Vec<_>>()
        };
        let finish = async |job: Uuid| {
            rows(
                &api,
                &format!(
                    "UPDATE jobs SET status = 'succeeded', finished_at = now(), lease_until = NULL WHERE id = '{job}'"
                ),
            )
            .await
        };
        assert_eq!(claimed().await, [first[0].job.id], "{overlap}");
        if overlap == "skip" {
            assert_eq!(each(&listed, "status"), ["skipped", "skipped", "queued"]);
            assert!(listed[0]["job_id"].is_null() && listed[0]["delay_s"].is_null() && listed[0]["error"].is_string());
            finish(first[0].job.id).await;
            assert_eq!(look(&api, &schedule, slot(4)).await.len(), 1);
        } else {
            assert_eq!(each(&listed, "status"), ["queued", "queued", "queued"]);
            let jobs: Vec<Uuid> = each(&listed, "job_id").iter().map(|id| id.parse().unwrap()).collect();
            assert_eq!(jobs[2], first[0].job.id);
            // One after the other.
            for number in [1, 0] {
                finish(jobs[number + 1]).await;
                look(&api, &schedule, slot(3) + TimeDelta::minutes(2 - number as i64)).await;
                assert_eq!(claimed().await, [jobs[number]]);
            }
            look(&api, &schedule, slot(4)).await;
            api.delete(&path(&schedule, ""), 204).await;
            let waiting = api.read("/dev/crm/jobs?kind=bulk_leads&limit=1").await;
            assert_eq!(waiting[0]["status"], "cancelled", "it waited for a job of a schedule that is deleted");
        }
        rows(&api, "DELETE FROM jobs").await;
    }
}

#[tokio::test]
async fn missed_slots_are_made_up_as_the_schedule_says() {
    let api = Api::start().await;
    leaves_runs(&api);
    for (catch_up, statuses) in [
        ("latest", vec!["queued", "missed", "missed"]),
        ("none", vec!["missed", "missed", "missed"]),
        ("all", vec!["queued", "queued", "queued"]),
    ] {
        let schedule =
            create(&api, json!({ "kind": "process_followups", "every": "PT10M", "catch_up": catch_up })).await;
        let created = time(&schedule["created_at"]);
        look(&api, &schedule, created + TimeDelta::minutes(35)).await;
        let listed = runs(&api, &schedule).await;
        assert_eq!(each(&listed, "status"), statuses, "{catch_up}");
        assert_eq!(time(&listed[2]["slot"]), created + TimeDelta::minutes(10));
        assert_eq!(listed[0]["delay_s"].as_f64(), (catch_up != "none").then_some(300.0));
        // A slot that is a few seconds late was not missed.
        rows(&api, "DELETE FROM jobs").await;
        look(&api, &schedule, created + TimeDelta::minutes(40) + TimeDelta::seconds(59)).await;
        assert_eq!(runs(&api, &schedule).await[0]["status"], "queued", "{catch_up}");
        rows(&api, "DELETE FROM jobs").await;
    }
    let often = json!({ "kind": "process_followups", "every": "PT1M", "catch_up": "all", "overlap": "queue" });
    let schedule = create(&api, often).await;
    let started = look(&api, &schedule, time(&schedule["created_at"]) + TimeDelta::days(30)).await;
    assert_eq!(started.len(), 100);
    let first = api.get(&path(&schedule, "/runs?limit=60")).send().await.unwrap();
    let cursor = first.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    let first: Value = first.json().await.unwrap();
    let second = api.read(&path(&schedule, &format!("/runs?limit=60&cursor={cursor}"))).await;
    assert_eq!((first.as_array().unwrap().len(), second.as_array().unwrap().len()), (60, 40));
    assert!(time(&first[59]["slot"]) > time(&second[0]["slot"]));
}

#[tokio::test]
async fn a_pause_is_no_missed_run() {
    let api = Api::start().await;
    leaves_runs(&api);
    let schedule = create(&api, json!({ "kind": "process_followups", "every": "PT1M", "catch_up": "all" })).await;
    for _ in 0..2 {
        let paused = api.send(Method::POST, &path(&schedule, "/pause"), json!({}), 200).await;
        assert_eq!((&paused["status"], &paused["next_runs"]), (&json!("paused"), &json!([])));
    }
    let later = Utc::now() + TimeDelta::hours(1);
    assert!(look(&api, &schedule, later).await.is_empty());
    let [created, passed] = ["created_at", "passed_until"].map(|column| earlier(column, "1 hour"));
    rows(&api, &format!("UPDATE schedules SET {created}, {passed} WHERE kind <> 'nightly'")).await;
    let resumed = api.send(Method::POST, &path(&schedule, "/resume"), json!({}), 200).await;
    assert_eq!(resumed["status"], "active");
    assert!(time(&resumed["next_runs"][0]) > Utc::now());
    look(&api, &schedule, Utc::now()).await;
    assert_eq!(runs(&api, &schedule).await, json!([]));
    // It can be started meanwhile.
    api.send(Method::POST, &path(&schedule, "/pause"), json!({}), 200).await;
    let job = api.send(Method::POST, &path(&schedule, "/run"), json!({}), 202).await;
    let run = runs(&api, &schedule).await[0].clone();
    assert_eq!((&run["job_id"], &run["slot"], &run["delay_s"]), (&job["id"], &json!(null), &json!(null)));
}

#[tokio::test]
async fn a_new_time_counts_from_the_change_on() {
    let api = Api::start().await;
    leaves_runs(&api);
    let schedule = create(&api, json!({ "kind": "process_followups", "cron": "0 0 1 1 *" })).await;
    let past = Utc::now() - TimeDelta::minutes(2);
    rows(&api, &format!("UPDATE schedules SET {}", earlier("passed_until", "1 day"))).await;
    let change = json!({ "cron": past.format("%M %H * * *").to_string(), "time_zone": "UTC" });
    let changed = api.send(Method::PUT, &path(&schedule, ""), change, 200).await;
    assert!(time(&changed["next_runs"][0]) > Utc::now());
    assert!(look(&api, &schedule, Utc::now()).await.is_empty());
    // An end that lies before the next time.
    let until = (Utc::now() + TimeDelta::minutes(1)).to_rfc3339();
    let refused = api.send(Method::PUT, &path(&schedule, ""), json!({ "until": until }), 400).await;
    assert_eq!(faults(&refused), [("until", "out_of_range")]);
}

#[tokio::test]
async fn the_nightly_run_is_a_schedule_that_the_settings_move() {
    let api = Api::start().await;
    leaves_runs(&api);
    let night = nightly(&api).await;
    for (field, value) in [
        ("cron", json!("0 2 * * *")),
        ("time_zone", json!("UTC")),
        ("overlap", json!("queue")),
        ("status", json!("active")),
    ] {
        assert_eq!(night[field], value, "{field}");
    }
    put_settings(&api, json!({ "nightly_at": "23:45", "time_zone": "Europe/Berlin" })).await;
    let moved = nightly(&api).await;
    assert_eq!((&moved["cron"], &moved["time_zone"]), (&json!("45 23 * * *"), &json!("Europe/Berlin")));
    assert_eq!(time(&moved["next_runs"][0]).format("%M").to_string(), "45");
    for (change, field) in [
        (json!({ "cron": "0 3 * * *" }), "cron"),
        (json!({ "every": "P1D" }), "every"),
        (json!({ "time_zone": "UTC" }), "time_zone"),
        (json!({ "until": "2999-01-01" }), "until"),
        (json!({ "params": { "dry_run": true } }), "params"),
    ] {
        let refused = api.send(Method::PUT, &path(&night, ""), change, 400).await;
        assert_eq!(faults(&refused), [(field, "read_only")]);
    }
    assert_eq!(api.send(Method::PUT, &path(&night, ""), moved.clone(), 200).await, moved);
    let refused = support::json(api.request(Method::DELETE, &path(&night, "")), 409).await;
    assert_eq!(refused["errors"][0]["code"], "not_deletable");

    // It takes place once for each local date, whoever starts it and whenever.
    let job = api.send(Method::POST, &path(&night, "/run"), json!({}), 202).await;
    assert_eq!(api.send(Method::POST, &path(&night, "/run"), json!({}), 202).await["id"], job["id"]);
    let today = Utc::now().with_timezone(&chrono_tz::Europe::Berlin).date_naive();
    let next = time(&nightly(&api).await["next_runs"][0]).with_timezone(&chrono_tz::Europe::Berlin).date_naive();
    assert_eq!(next, today.succ_opt().unwrap());
    let run = runs(&api, &night).await[0].clone();
    assert_eq!((&run["date"], &run["job_id"]), (&json!(today), &job["id"]));
    look(&api, &night, time(&nightly(&api).await["next_runs"][0])).await;
    let dates: Vec<Value> =
        runs(&api, &night).await.as_array().unwrap().iter().map(|run| run["date"].clone()).collect();
    assert_eq!(dates, [json!(next), json!(today)]);

    let paused = api.send(Method::POST, &path(&night, "/pause"), json!({}), 200).await;
    assert_eq!(paused["status"], "paused");
    put_settings(&api, json!({ "nightly_at": "01:00" })).await;
    look(&api, &night, Utc::now() + TimeDelta::days(3)).await;
    assert_eq!(runs(&api, &night).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_run_that_cannot_start_is_listed_with_the_reason_and_delays_no_other() {
    let api = Api::start().await;
    leaves_runs(&api);
    let customer = feedback::customer(&api, "ada@example.com").await;
    let params = json!({ "customer_id": customer });
    let schedule = create(&api, json!({ "kind": "request_feedback", "params": params, "every": "PT10M" })).await;
    let created = time(&schedule["created_at"]);
    look(&api, &schedule, created + TimeDelta::minutes(10)).await;
    rows(&api, "UPDATE jobs SET status = 'succeeded', finished_at = now()").await;
    let place = format!("/dev/crm/customers/{customer}");
    api.send(Method::PUT, &place, json!({ "status": "blocked" }), 200).await;
    look(&api, &schedule, created + TimeDelta::minutes(20)).await;
    let listed = runs(&api, &schedule).await;
    assert_eq!(each(&listed, "status"), ["failed", "succeeded"]);
    assert!(listed[0]["error"].is_string() && listed[0]["job_id"].is_null(), "{listed}");
    let asked = api.read("/dev/crm/feedback").await;
    let history = api.read(&format!("/dev/crm/feedback/{}/history", id(&asked[0]))).await;
    assert_eq!(history[0]["actor"]["type"], "schedule", "{history}");
    assert_eq!(history[0]["actor"]["id"], schedule["id"]);
    // A caller reads the same reason at once.
    let refused = api.send(Method::POST, &path(&schedule, "/run"), json!({}), 409).await;
    assert_eq!(refused["errors"][0]["code"], "blocked");
    assert_eq!(runs(&api, &schedule).await, listed);
    assert_eq!(api.read(&path(&schedule, "")).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_run_is_braked_and_one_that_a_caller_starts_is_not() {
    let api = Api::start().await;
    put_settings(&api, json!({ "max_emails_per_run": 2 })).await;
    many_enrolled_leads(&api, 5).await;
    let _worker = Process::worker(&api.database, &["--queues", "workflows"]);
    let schedule = create(&api, json!({ "kind": "nurture_leads", "every": "PT10M" })).await;
    let started = look(&api, &schedule, time(&schedule["created_at"]) + TimeDelta::minutes(10)).await;
    let job = api.ended(&json!({ "id": started[0].job.id })).await;
    assert_eq!(job["status"], "failed");
    assert!(job["error"].as_str().unwrap().starts_with("too_many_emails"), "{job}");
    let listed = runs(&api, &schedule).await;
    assert_eq!((&listed[0]["status"], &listed[0]["error"]), (&json!("failed"), &job["error"]));
    let asked = api.send(Method::POST, &path(&schedule, "/run"), json!({}), 202).await;
    assert_eq!(api.ended(&asked).await["result"]["sent"], 5);
}

#[tokio::test]
async fn a_run_that_a_caller_starts_is_repeated_by_its_idempotency_key_alone() {
    let api = Api::start().await;
    leaves_runs(&api);
    let schedule = create(&api, json!({ "kind": "process_followups", "every": "P1D" })).await;
    let run = |key: &'static str| support::json(api.post(&path(&schedule, "/run")).header("idempotency-key", key), 202);
    let (one, same, other) = (run("one").await, run("one").await, run("other").await);
    assert_eq!(one["id"], same["id"]);
    assert_ne!(one["id"], other["id"], "each start has a job of its own");
    assert_eq!(runs(&api, &schedule).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_workspace_has_at_most_a_hundred_schedules() {
    let api = Api::start().await;
    let body = json!({ "kind": "process_followups", "every": "P1D" });
    let answers = (0..105).map(|_| async { api.post(SCHEDULES).json(&body).send().await.unwrap().status().as_u16() });
    let statuses = futures_util::future::join_all(answers).await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 99, "{statuses:?}");
    let refused = support::json(api.post(SCHEDULES).json(&body), 409).await;
    assert_eq!(refused["errors"][0]["code"], "limit_reached");
    assert_eq!(api.read(SCHEDULES).await.as_array().unwrap().len(), 100);
}
