//! `crm-api config check` and `config show`, which need no database.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

/// Runs `crm-api config` with these settings only.
async fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crm-api"));
    command.arg("config").args(arguments).env_clear().envs(environment.iter().copied());
    command.output().await.unwrap()
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

const DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://crm:hidden@localhost/crm");

#[tokio::test]
async fn every_fault_is_listed_at_once() {
    let wrong = [("CRM_API__LISTEN", "here"), ("CRM_API__LISTNE", "x"), ("CRM_WORKER__QUEUES", "imprts")];
    let checked = config(&["check"], &wrong).await;
    assert_eq!(checked.status.code(), Some(1));
    let listed = text(&checked);
    let faults = listed.lines().filter(|line| line.starts_with("fault    ")).count();
    assert_eq!(faults, 4, "{listed}");
    for about in ["api.listen", "api.listne", "database.url", "worker.queues: unknown queue \"imprts\""] {
        assert!(listed.contains(about), "{listed}");
    }
    assert!(listed.ends_with("4 faults, 3 warnings.\n"), "{listed}");

    let checked = config(&["check", "--json"], &wrong).await;
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["faults"][0]["setting"], "api.listen");
    assert_eq!(report["faults"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn warnings_alone_do_not_fail() {
    let checked = config(&["check"], &[DATABASE]).await;
    assert_eq!(checked.status.code(), Some(0));
    assert!(text(&checked).contains("warning  mail.host: No email is sent"), "{checked:?}");
    let well_set = [
        DATABASE,
        ("CRM_PUBLIC_URL", "https://crm.example"),
        ("CRM_API__TRUSTED_PROXIES", "10.0.0.2"),
        ("CRM_WEBHOOKS__ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("CRM_MAIL__HOST", "smtp.example"),
        ("CRM_MAIL__FROM_EMAIL", "hello@crm.example"),
    ];
    assert_eq!(text(&config(&["check"], &well_set).await), "0 faults, 0 warnings.\n");
}

#[tokio::test]
async fn settings_are_shown_with_their_sources_and_without_secrets() {
    let directory = std::env::temp_dir().join(format!("crm-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&directory).unwrap();
    let (file, secret) = (directory.join("crm.toml"), directory.join("password"));
    std::fs::write(&file, "[jobs]\nkeep_days = 7\n").unwrap();
    std::fs::write(&secret, "hidden\n").unwrap();
    let (file, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    let environment =
        [DATABASE, ("CRM_CONFIG", file), ("CRM_WORKER__CONCURRENCY", "8"), ("CRM_MAIL__PASSWORD_FILE", secret)];

    let changed = config(&["show", "--changed"], &environment).await;
    assert_eq!(
        text(&changed),
        format!(
            "database.url = \"postgres://crm:***@localhost/crm\"  # DATABASE_URL\n\
             jobs.keep_days = 7                                 # {file}\n\
             mail.password = \"(secret)\"                         # CRM_MAIL__PASSWORD_FILE ({secret})\n\
             worker.concurrency = 8                             # CRM_WORKER__CONCURRENCY\n"
        )
    );

    let shown = config(&["show", "--json"], &environment).await;
    assert!(!text(&shown).contains("hidden"));
    let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let find = |name: &str| report["settings"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(find("jobs.keep_days")["source"], json!({ "kind": "file", "path": file }));
    assert_eq!(
        find("worker.shutdown_s"),
        &json!({ "name": "worker.shutdown_s", "value": 25, "source": { "kind": "default" } })
    );
    std::fs::remove_dir_all(directory).unwrap();
}
