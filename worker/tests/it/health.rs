//! The endpoints of a worker for operators: liveness, readiness, metrics and the log.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use shared::queue;
use testing::proxy::{Mode, Proxy};
use testing::test_jobs::Chore;
use testing::{create_trigger, drop_trigger};

use crate::support::{Ledger, PATIENCE};

async fn ask(address: &str, path: &str) -> Option<(StatusCode, String)> {
    let answer = reqwest::get(format!("http://{address}{path}")).await.ok()?;
    Some((answer.status(), answer.text().await.unwrap()))
}

async fn wait_until(address: &str, path: &str, status: StatusCode) -> String {
    let started = Instant::now();
    loop {
        match ask(address, path).await {
            Some((now, body)) if now == status => return body,
            _ => assert!(started.elapsed() < PATIENCE, "{path} does not answer {status} in time"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reports_readiness_and_metrics() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker_process(&[]);
    let address = worker.admin().await;
    wait_until(&address, "/readyz", StatusCode::OK).await;
    assert_eq!(ask(&address, "/healthz").await, Some((StatusCode::OK, "ok\n".into())));
    assert_eq!(ask(&address, "/secrets").await.unwrap().0, StatusCode::NOT_FOUND);

    for chore in [Chore::Nothing, Chore::Nothing, Chore::Fail { reason: "for the test".into() }] {
        let id = ledger.enqueue(chore).await;
        ledger.until_finished(id).await;
    }
    let later = ledger.job(&Chore::Nothing).delay(Duration::from_secs(3600));
    queue::enqueue(&mut *ledger.connection().await, later).await.unwrap();
    let metrics = wait_until(&address, "/metrics", StatusCode::OK).await;
    for line in [
        r#"crm_job_attempts_started_total{kind="chore",queue="chores"} 3"#,
        r#"crm_job_attempts_total{kind="chore",outcome="succeeded",queue="chores"} 2"#,
        r#"crm_job_attempts_total{kind="chore",outcome="failed",queue="chores"} 1"#,
        r#"crm_jobs_rescued_total{kind="import_leads",queue="imports"} 0"#,
        r#"crm_job_duration_seconds_bucket{kind="chore",queue="chores",le="+Inf"} 3"#,
        r#"crm_job_duration_seconds_count{kind="chore",queue="chores"} 3"#,
        r#"crm_job_wait_seconds_count{queue="chores"} 3"#,
        "crm_database_up 1",
    ] {
        assert!(metrics.lines().any(|present| present == line), "{line} is not in\n{metrics}");
    }
    let wanted = [
        r#"crm_jobs{kind="chore",queue="chores",state="future"} 1"#,
        r#"crm_jobs_failed{kind="chore",queue="chores"} 1"#,
        // Kinds without jobs are reported as well.
        r#"crm_jobs{kind="import_leads",queue="imports",state="due"} 0"#,
        r#"crm_emails{state="unknown"} 0"#,
        r#"crm_queue_workers{queue="imports"} 1"#,
        r#"crm_cluster_sample_success{part="jobs"} 1"#,
    ];
    let started = Instant::now();
    loop {
        let cluster = wait_until(&address, "/metrics/cluster", StatusCode::OK).await;
        let absent: Vec<_> = wanted.iter().filter(|line| !cluster.lines().any(|present| present == **line)).collect();
        if absent.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{absent:?} are not in\n{cluster}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_jobs_while_its_port_is_taken_and_answers_once_it_is_free() {
    let ledger = Ledger::create().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let worker = ledger.worker_process(&[("CRM_WORKER__LISTEN", &address)]);
    let id = ledger.enqueue(Chore::Nothing).await;
    ledger.until_finished(id).await;
    drop(taken);
    assert_eq!(worker.admin().await, address);
    wait_until(&address, "/healthz", StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_database_is_alive_but_not_ready() {
    let ledger = Ledger::at("postgres://nobody@127.0.0.1:1/nothing".into());
    let worker = ledger.worker_process(&[]);
    let address = worker.admin().await;
    wait_until(&address, "/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    wait_until(&address, "/healthz", StatusCode::OK).await;
    // Unknown counts are omitted, not reported as 0.
    let metrics = wait_until(&address, "/metrics", StatusCode::OK).await;
    assert!(metrics.contains("crm_database_up 0"), "{metrics}");
    let cluster = wait_until(&address, "/metrics/cluster", StatusCode::OK).await;
    assert!(cluster.contains(r#"crm_cluster_sample_success{part="jobs"} 0"#), "{cluster}");
    assert!(!cluster.contains("crm_jobs{") && !cluster.contains("crm_emails{"), "{cluster}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_not_ready_while_migrations_are_pending() {
    let ledger = Ledger::create().await;
    let last =
        "UPDATE _sqlx_migrations SET success = NOT success WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(last).execute(&ledger.pool).await.unwrap();
    let worker = ledger.worker_process(&[]);
    let address = worker.admin().await;
    loop {
        let body = wait_until(&address, "/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        if body.contains("crm-api migrate") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sqlx::query(last).execute(&ledger.pool).await.unwrap();
    wait_until(&address, "/readyz", StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_at_level_warn_name_the_job() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker_process(&[("CRM_LOG__LEVEL", "warn"), ("CRM_LOG__FORMAT", "json")]);
    let mut expected = Vec::new();
    for (chore, message) in
        [(Chore::Stumble, "job attempt failed"), (Chore::Panic, "the job's handler panicked: as told")]
    {
        let job = ledger.job(&chore).request_id(Some(&format!("request-of-{message}")));
        expected.push((queue::enqueue(&mut *ledger.connection().await, job).await.unwrap().id, message));
    }
    let started = Instant::now();
    for (id, message) in expected {
        let line = loop {
            let output = worker.output();
            let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = { lines }.find(|line| line["message"] == message) {
                break line;
            }
            assert!(started.elapsed() < PATIENCE, "{output}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let span = &line["span"];
        assert_eq!(span["job_id"], id.to_string(), "{line}");
        assert_eq!(span["kind"], "chore", "{line}");
        assert_eq!(span["workspace_id"], ledger.workspace.to_string(), "{line}");
        assert_eq!(span["request_id"], format!("request-of-{message}"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_not_ready_while_the_database_behind_its_proxy_is_unavailable() {
    let ledger = Ledger::create().await;
    let proxy = Proxy::start(&ledger.url, Mode::Close).await;
    let through = proxy.url(&ledger.url);
    let worker = ledger.worker_process(&[("DATABASE_URL", &through)]);
    let address = worker.admin().await;
    for mode in [Mode::Close, Mode::Garbage, Mode::Silence] {
        proxy.set(mode);
        let body = wait_until(&address, "/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(body, "the database does not answer\n", "{mode:?}");
        proxy.set(Mode::Forward);
        wait_until(&address, "/readyz", StatusCode::OK).await;
        let id = ledger.enqueue(Chore::Nothing).await;
        ledger.until_finished(id).await;
    }
    // The worker retried a hundred times meanwhile.
    let complaints = worker.complaints();
    assert!((1..=10).contains(&complaints.len()), "{complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_jobs_wait_for_the_database_is_ready_and_reports_the_reason() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker_process(&[]);
    let address = worker.admin().await;
    let full = "DO $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '53100'; END $$";
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(ledger.enqueue(Chore::Execute { statements: vec![full.into()] }).await);
    }
    for id in &ids {
        ledger.until(*id, "waiting", |job| job.retry_at.is_some()).await;
    }
    let body = loop {
        let body = wait_until(&address, "/readyz", StatusCode::OK).await;
        if body.contains("waiting for a retry") {
            break body;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let why = "chore waiting for a retry: the database's disk is full (SQLSTATE 53100)";
    assert!(body.starts_with("ok\n") && body.contains(why), "{body}");
    let metrics = wait_until(&address, "/metrics", StatusCode::OK).await;
    for line in [
        r#"crm_job_attempts_total{kind="chore",outcome="waited",queue="chores"} "#,
        r#"crm_service_waiting{service="claiming jobs"} 0"#,
    ] {
        assert!(metrics.lines().any(|present| present.starts_with(line)), "{line} is not in\n{metrics}");
    }
    // Each of the 20 jobs has waited several times.
    const WAITED: &str = r#"crm_job_attempts_total{kind="chore",outcome="waited",queue="chores"} "#;
    let waited = async || {
        let metrics = wait_until(&address, "/metrics", StatusCode::OK).await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(WAITED));
        line.unwrap().parse::<u64>().unwrap()
    };
    while waited().await < 60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(worker.complaints().len() <= 3, "{:#?}", worker.complaints());
    for id in ids {
        ledger.cancel(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_fail_because_of_the_database_recover_and_report_it() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker_process(&[]);
    let address = worker.admin().await;
    wait_until(&address, "/readyz", StatusCode::OK).await;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '53100'; END $$";
    let trigger = "CREATE TRIGGER full_disk BEFORE UPDATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION full_disk()";
    create_trigger(&mut *ledger.connection().await, full, trigger).await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let began = Instant::now();
    let body = loop {
        let body = wait_until(&address, "/readyz", StatusCode::OK).await;
        if body.contains("claiming jobs is waiting") {
            break body;
        }
        assert!(began.elapsed() < PATIENCE, "{body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(body.contains("claiming jobs is waiting: the database's disk is full (SQLSTATE 53100)"), "{body}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(worker.complaints().len() <= 6, "{:#?}", worker.complaints());
    drop_trigger(&mut *ledger.connection().await, "full_disk", "jobs").await;
    ledger.until_finished(id).await;
    while wait_until(&address, "/readyz", StatusCode::OK).await.contains("jobs is waiting") {
        assert!(began.elapsed() < PATIENCE, "readiness still reports the error");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
