//! The files of `deploy/` name what exists: alerts, pages, metrics, settings, ports and times.

use std::collections::BTreeSet;

use regex::Regex;
use shared::platform::config::{Report, Settings};

use super::{files, path, read};

/// All matches of the first group of a pattern.
fn all(pattern: &str, text: &str) -> Vec<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn settings() -> Settings {
    let url = ("DATABASE_URL".to_owned(), "postgres://localhost/crm".to_owned());
    Settings::from_layers(None, [url]).unwrap()
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let rules = read("deploy/prometheus/rules.yaml");
    let alerts = all(r"- alert: (\w+)", &rules);
    let pages = all(r"runbook_url: https://\S+/docs/runbooks/([a-z-]+)\.md", &rules);
    assert!((12..=18).contains(&alerts.len()), "{alerts:?}");
    assert_eq!(alerts.len(), pages.len(), "each alert has a runbook_url");
    let operating = read("docs/operating.md");
    for (alert, page) in alerts.iter().zip(&pages) {
        let text = read(&format!("docs/runbooks/{page}.md"));
        assert!(text.starts_with(&format!("# {alert}: ")), "{page}");
        let parts = all(r"(?m)^## (.+)$", &text);
        assert_eq!(parts, ["What it means", "What users notice", "Look", "Do", "When it is over"], "{page}");
        assert!(operating.contains(&format!("| {alert} |")), "{alert}");
    }
    let there: BTreeSet<String> = files("docs/runbooks").into_iter().map(|(name, _)| name).collect();
    let named = pages.iter().map(|page| format!("docs/runbooks/{page}.md"));
    assert_eq!(there, named.chain(["docs/runbooks/README.md".to_owned()]).collect());
}

#[test]
fn every_metric_of_the_rules_and_the_board_is_documented() {
    if !path("docs/metrics.md").is_file() {
        testing::skipped("docs/metrics.md does not exist, so metrics in deploy/ are not checked");
        return;
    }
    let documented = read("docs/metrics.md");
    let documented: BTreeSet<&str> = documented.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    for file in ["deploy/prometheus/rules.yaml", "deploy/prometheus/rules.test.yaml", "deploy/grafana/board.json"] {
        for metric in all(r"\b((?:crm|process)_[a-z_]+)", &read(file)) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
            let is_documented = documented.contains(&*metric) || of_histogram.is_some_and(|it| documented.contains(it));
            assert!(is_documented, "{metric} in {file}");
        }
    }
}

/// Variables that are no settings: the file of the settings, and the revision of a build.
const OTHERS: [&str; 2] = ["CONFIG", "REVISION"];
/// Checks of the doctor whose names look like settings.
const CHECKS: [&str; 4] = ["database.nodes", "mail.hold", "mail.server", "webhooks.secrets"];

#[test]
fn every_setting_in_the_files_exists() {
    let report = Report::from_layers(None, []);
    let known: BTreeSet<&str> = report.entries.iter().map(|entry| &*entry.name).collect();
    let pages = ["docs/operating.md", "docs/deploying.md"].map(|name| (name.to_owned(), read(name)));
    for (file, text) in files("deploy").into_iter().chain(pages).chain(files("docs/runbooks")) {
        for variable in all(r"\bCRM_([A-Z_]+[A-Z])\b", &text) {
            let setting = variable.strip_suffix("_FILE").unwrap_or(&variable).to_lowercase().replace("__", ".");
            assert!(known.contains(&*setting) || OTHERS.contains(&&*variable), "CRM_{variable} in {file}");
        }
        if !file.ends_with(".md") {
            continue;
        }
        for setting in all(r"`((?:api|database|mail|webhooks|worker|jobs|imports|console|log)\.[a-z_]+)[` =]", &text) {
            assert!(known.contains(&*setting) || CHECKS.contains(&&*setting), "{setting} in {file}");
        }
    }
}

#[test]
fn ports_and_paths_are_those_of_the_programs() {
    let settings = settings();
    let (api, admin, worker) =
        (settings.api.listen.port(), settings.api_admin().port(), settings.worker_admin().port());
    let ports = [api, admin, worker].map(|port| port.to_string());
    let compose = read("deploy/compose.yaml");
    for port in all(r"/dev/tcp/127\.0\.0\.1/(\d+)", &compose).iter().chain(&all(r"CRM_\w+LISTEN: \S+:(\d+)", &compose))
    {
        assert!(ports.contains(port), "{port} in compose.yaml");
    }
    let prometheus = read("deploy/prometheus/prometheus.yaml");
    for (port, name) in
        [(admin, "api-1"), (admin, "api-2"), (worker, "worker-1"), (worker, "worker-2"), (admin, "admin")]
    {
        assert!(prometheus.contains(&format!("\"{name}:{port}\"")), "{name}");
    }
    for name in ["api", "worker"] {
        let text = read(&format!("deploy/kubernetes/{name}.yaml"));
        for port in all(r"containerPort: (\d+)", &text).iter().chain(&all(r#"prometheus.io/port: "(\d+)""#, &text)) {
            assert!(ports.contains(port), "{port} in {name}.yaml");
        }
        let admin_port = if name == "api" { admin } else { worker };
        assert!(text.contains(&format!("name: admin, containerPort: {admin_port}")), "{name}.yaml");
        let paths: BTreeSet<String> = all(r"httpGet: \{ path: (\S+),", &text).into_iter().collect();
        assert_eq!(paths, ["/healthz", "/readyz"].map(str::to_owned).into(), "{name}.yaml");
    }
    assert!(read("deploy/haproxy/haproxy.cfg").contains("uri /readyz"));
}

/// A supervisor that kills earlier than the programs stop would interrupt them.
#[test]
fn supervisors_wait_for_the_programs_to_stop() {
    let settings = settings();
    let compose = read("deploy/compose.yaml");
    for (program, shutdown) in [("api", settings.api.shutdown_s), ("worker", settings.worker.shutdown_s)] {
        let enough = |file: &str, seconds: &str| {
            let seconds: u64 = seconds.parse().unwrap();
            assert!((shutdown + 5..=shutdown + 20).contains(&seconds), "{program}: {seconds} s in {file}");
        };
        let unit = read(&format!("deploy/systemd/crm-{program}.service"));
        enough("systemd", &all(r"TimeoutStopSec=(\d+)", &unit)[0]);
        let pod = read(&format!("deploy/kubernetes/{program}.yaml"));
        enough("kubernetes", &all(r"terminationGracePeriodSeconds: (\d+)", &pod)[0]);
        let service = compose.split(&format!("x-{program}:")).nth(1).unwrap();
        enough("compose.yaml", &all(r"stop_grace_period: (\d+)s", service)[0]);
    }
}

/// A proxy that keeps a connection for longer than the API sends requests into closed ones.
#[test]
fn the_proxy_fits_the_times_of_the_api() {
    let (settings, proxy) = (settings(), read("deploy/haproxy/haproxy.cfg"));
    let seconds = |name: &str| -> u64 { all(&format!(r"{name} (\d+)s"), &proxy)[0].parse().unwrap() };
    assert!(seconds("pool-purge-delay") * 2 < settings.api.header_timeout_s, "idle connections to the API");
    assert!(seconds("timeout http-request") >= settings.api.header_timeout_s);
    for timeout in ["timeout client", "timeout server"] {
        assert!(seconds(timeout) > settings.api.write_timeout_s.max(settings.api.request_timeout_s), "{timeout}");
    }
}
