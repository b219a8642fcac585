//! The command line of `crm-api`.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use dev::testing::Database;
use reqwest::Client;
use shared::db;
use tokio::process::Command;

use crate::support::{self, empty_database};

/// The program with nothing of ours in its environment but the database.
fn program(database: &Database, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crm-api"));
    command.args(arguments).env_clear().env("DATABASE_URL", database.url()).kill_on_drop(true);
    command
}

async fn run(database: &Database, arguments: &[&str]) -> Output {
    program(database, arguments).output().await.unwrap()
}

/// What a command that must succeed prints.
async fn print(database: &Database, arguments: &[&str]) -> String {
    let output = run(database, arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The sentence of a command that must fail.
fn sentence(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    std::str::from_utf8(&output.stderr).unwrap().trim_end()
}

#[tokio::test]
async fn several_processes_migrate_at_once() {
    let database = empty_database().await;
    let before = run(&database, &["workspaces", "list"]).await;
    assert_eq!(sentence(&before), "crm-api: the database's schema is not up to date; run crm-api migrate first");

    let migrations: Vec<_> =
        (0..4).map(|_| program(&database, &["migrate"]).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut migration in migrations {
        assert!(migration.wait().await.unwrap().success());
    }
    let pending = db::pending_migrations(&mut support::connect(database.url()).await).await.unwrap();
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!(print(&database, &["migrate"]).await, "");
}

#[tokio::test]
async fn a_workspace_and_its_keys_from_the_first_to_the_last() {
    let database = Database::create().await;
    let id = print(&database, &["workspaces", "create", "acme"]).await;
    assert_eq!(id.lines().count(), 1);
    let id = id.trim();
    assert!(print(&database, &["workspaces", "list"]).await.contains(id));
    let taken = run(&database, &["workspaces", "create", "acme"]).await;
    assert_eq!(sentence(&taken), "crm-api: there is a workspace \"acme\" already");
    let blank = run(&database, &["workspaces", "create", " "]).await;
    assert_eq!(sentence(&blank), "crm-api: name must not be empty");

    let by_name = print(&database, &["keys", "create", "--workspace", "acme", "--name", "shop"]).await;
    let expires = ["keys", "create", "--workspace", id, "--name", "trial", "--expires", "2999-12-31"];
    let by_id = print(&database, &expires).await;
    for key in [&by_name, &by_id] {
        assert!(key.starts_with("crm_") && key.trim_end().len() == 40, "{key}");
    }
    let nowhere = run(&database, &["keys", "create", "--workspace", "nowhere", "--name", "x"]).await;
    assert_eq!(sentence(&nowhere), "crm-api: there is no workspace \"nowhere\"");
    let past =
        run(&database, &["keys", "create", "--workspace", "acme", "--name", "x", "--expires", "2020-01-01"]).await;
    assert_eq!(sentence(&past), "crm-api: a key cannot expire in the past");

    let listed = print(&database, &["keys", "list", "--workspace", "acme"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(
        lines[0].ends_with("shop") && lines[0].contains(&by_name[..10]) && lines[0].contains("never used"),
        "{listed}"
    );
    assert!(lines[1].contains("expires 2999-12-31"), "{listed}");
    assert!(!listed.contains(by_name.trim()), "a key is shown once");

    let key_id = lines[0].split_whitespace().next().unwrap();
    for _ in 0..2 {
        assert!(print(&database, &["keys", "revoke", key_id]).await.contains("revoked"));
    }
    let unknown = run(&database, &["keys", "revoke", id]).await;
    assert_eq!(sentence(&unknown), format!("crm-api: there is no key with the id {id}"));
}

#[tokio::test]
async fn a_wrong_call_is_told_how_to_call() {
    let database = Database::create().await;
    for arguments in [&["keys", "create"][..], &["fly"], &["keys", "revoke", "x"], &["serve", "--port", "1"]] {
        let output = run(&database, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_wrong_setting_stops_the_start_and_is_named() {
    let database = Database::create().await;
    for (name, value, expected) in [
        (
            "CRM_API__LISTNE",
            "127.0.0.1:0",
            "crm-api: there is no setting api.listne, which the environment variable CRM_API__LISTNE names",
        ),
        (
            "CRM_API__LISTEN",
            "here",
            "crm-api: the setting api.listen from the environment variable CRM_API__LISTEN is wrong: invalid socket address syntax",
        ),
        (
            "CRM_CONFIG",
            "/nowhere.toml",
            "crm-api: the settings file /nowhere.toml cannot be read: No such file or directory (os error 2)",
        ),
        (
            "DATABASE_URL",
            "",
            "crm-api: the setting database.url from the built-in settings is wrong: it is not set; set DATABASE_URL",
        ),
    ] {
        let output = program(&database, &["serve"]).env(name, value).output().await.unwrap();
        assert_eq!(sentence(&output), expected);
    }
    let file = std::env::temp_dir().join(format!("crm-{}.toml", uuid::Uuid::now_v7()));
    std::fs::write(&file, "[api]\nhead_timeout_s = 1\n").unwrap();
    let path = file.to_str().unwrap();
    let output = run(&database, &["--config", path, "serve"]).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(sentence(&output), format!("crm-api: there is no setting api.head_timeout_s, which {path} names"));
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let database = Database::create().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&database, &[]).env("CRM_API__LISTEN", &address).output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&format!("crm-api: cannot listen on {address}: ")), "{stderr}");
}

#[tokio::test]
async fn the_server_ends_cleanly_when_it_is_told_to() {
    let database = Database::create().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut server = program(&database, &[]).env("CRM_API__LISTEN", free.to_string()).spawn().unwrap();
    let begun = Instant::now();
    while Client::new().get(format!("http://{free}/readyz")).send().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = server.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(5), server.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}
