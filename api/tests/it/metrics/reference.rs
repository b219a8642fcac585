//! The pages are as Prometheus' conventions and `docs/metrics.md` say.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use testing::{Process, skipped, workspace};

use super::{Page, cluster, text};
use crate::support::{self, Api};
use crate::workflows::rows;

/// Metrics that need a cause which this file does not have: a client that leaves, and a replica.
const UNCAUSED: [&str; 3] =
    ["crm_http_requests_abandoned_total", "crm_database_replication_lag_bytes", "crm_database_replication_lag_seconds"];

/// The pages of both programs, with everything that a small system has.
async fn pages() -> Vec<(&'static str, String)> {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    let worker = Process::worker(&api.database, &["--queues", "mail,webhooks,imports"]);
    let (here, there) = (api.admin.to_string(), worker.admin_url().await);
    support::json(api.post("/dev/crm/followups/process"), 202).await;
    rows(&api, "ANALYZE").await;
    let has_all = |page: &Page| {
        let parts = page.samples.iter().filter(|it| it.name == "crm_cluster_sample_success");
        parts.clone().count() == 7
            && parts.clone().all(|part| part.value == 1.0)
            && page.samples.iter().any(|it| it.name == "crm_workspace_jobs")
    };
    cluster(&here, "read", has_all).await;
    vec![
        ("crm-api", text(&here, "/metrics").await),
        ("crm-worker", text(&there, "/metrics").await),
        ("cluster", text(&here, "/metrics/cluster").await),
    ]
}

#[tokio::test]
async fn the_pages_keep_the_conventions_and_have_the_metrics_of_the_reference() {
    let pages = pages().await;
    let documented = documented();
    for (name, text) in &pages {
        promtool(name, text);
        let (page, mut wanted) = (Page::parse(text), documented[*name].clone());
        let labels = page.labels();
        for (metric, (kind, help)) in &page.families {
            let labels: Vec<&str> = labels[metric].iter().map(String::as_str).collect();
            let row = wanted.remove(metric).unwrap_or_else(|| panic!("{metric} is not in docs/metrics.md"));
            assert_eq!(row, (kind.clone(), labels.join(", "), help.clone()), "{metric} in docs/metrics.md");
        }
        let absent: Vec<&String> = wanted.keys().filter(|name| !UNCAUSED.contains(&name.as_str())).collect();
        assert!(absent.is_empty(), "docs/metrics.md has metrics that {name} does not export: {absent:?}");
    }
}

#[tokio::test]
async fn every_admin_port_shows_the_same_cluster() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    support::json(api.post("/dev/crm/followups/process"), 202).await;
    let worker = Process::worker(&api.database, &["--queues", "imports"]);
    let read = |page: &Page| {
        let wanted = [
            (r#"crm_jobs{queue="workflows",kind="process_followups",state="due"}"#, 1.0),
            (r#"crm_queue_workers{queue="imports"}"#, 1.0),
            (r#"crm_queue_workers{queue="workflows"}"#, 0.0),
            (r#"crm_workspaces{state="active"}"#, 1.0),
        ];
        wanted.iter().all(|(series, value)| page.value(series) == Some(*value))
    };
    let here = cluster(&api.admin.to_string(), "counted by crm-api", read).await;
    let there = cluster(&worker.admin_url().await, "counted by crm-worker", read).await;
    let names = |page: &Page| page.families.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&here), names(&there));
    let busiest = format!(r#"crm_workspace_jobs{{workspace_id="{}",workspace="acme"}}"#, api.workspace_id);
    assert_eq!((here.value(&busiest), there.value(&busiest)), (Some(1.0), Some(1.0)));
}

#[tokio::test]
async fn paused_jobs_are_not_overdue() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    support::json(api.post("/dev/crm/followups/process"), 202).await;
    rows(&api, "INSERT INTO pauses (target, name, created_at) VALUES ('queue', 'workflows', now())").await;
    rows(&api, "UPDATE jobs SET run_at = now() - interval '1 hour'").await;
    let series = |state: &str| format!(r#"crm_jobs{{queue="workflows",kind="process_followups",state="{state}"}}"#);
    let page = cluster(&api.admin.to_string(), "paused", |page| page.value(&series("paused")) == Some(1.0)).await;
    assert_eq!(page.value(&series("due")), Some(0.0));
    let oldest = r#"crm_jobs_oldest_due_seconds{queue="workflows",kind="process_followups"}"#;
    assert_eq!(page.value(oldest), Some(0.0));
    assert_eq!(page.value(r#"crm_pauses{target="queue"}"#), Some(1.0));
}

#[tokio::test]
async fn at_most_ten_workspaces_are_shown_the_busiest_first() {
    let api = Api::start().await;
    rows(
        &api,
        "INSERT INTO workspaces (id, name) SELECT md5(n::text)::uuid, 'w' || n FROM generate_series(1, 30) AS n;
         INSERT INTO jobs (id, workspace_id, queue, kind, payload)
         SELECT gen_random_uuid(), md5(w::text)::uuid, 'workflows', 'find_themes', '{}'
         FROM generate_series(1, 30) AS w, generate_series(1, w)",
    )
    .await;
    api.leaves_jobs("find_themes");
    let has_jobs = |page: &Page| page.samples.iter().any(|it| it.name == "crm_workspace_jobs");
    let page = cluster(&api.admin.to_string(), "counted", has_jobs).await;
    let shown = page.samples.iter().filter(|it| it.name == "crm_workspace_jobs");
    let mut shown: Vec<(f64, &str)> = shown.map(|it| (it.value, it.labels["workspace"].as_str())).collect();
    shown.sort_by(|a, b| b.0.total_cmp(&a.0));
    let wanted: Vec<(f64, String)> = (21..=30).rev().map(|n| (f64::from(n), format!("w{n}"))).collect();
    assert_eq!(shown, wanted.iter().map(|(jobs, name)| (*jobs, name.as_str())).collect::<Vec<_>>());
}

/// Checks a page with `promtool`, if it is installed.
fn promtool(name: &str, text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        return skipped("promtool is not installed: it checks the pages of metrics");
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{name}: {said}");
}

/// The tables of `docs/metrics.md`, by page: the type, the labels and the text of each metric.
fn documented() -> BTreeMap<String, BTreeMap<String, (String, String, String)>> {
    let path = workspace::root().join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut pages = BTreeMap::<String, BTreeMap<_, _>>::new();
    let mut both = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        let Some(cells) = line.strip_prefix("| `").and_then(|line| line.strip_suffix(" |")) else { continue };
        if section.starts_with("Names before") {
            continue;
        }
        let cells: Vec<&str> = cells.split(" | ").collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{line}") };
        let row = (kind.to_owned(), labels.replace('`', "").trim().to_owned(), help.to_owned());
        let name = name.trim_end_matches('`').to_owned();
        match section.as_str() {
            "Both programs" => drop(both.insert(name, row)),
            "The cluster" => drop(pages.entry("cluster".to_owned()).or_default().insert(name, row)),
            program => drop(pages.entry(program.trim_matches('`').to_owned()).or_default().insert(name, row)),
        }
    }
    for program in ["crm-api", "crm-worker"] {
        pages.entry(program.to_owned()).or_default().extend(both.clone());
    }
    assert_eq!(json!(pages.keys().collect::<Vec<_>>()), json!(["cluster", "crm-api", "crm-worker"]));
    pages
}
