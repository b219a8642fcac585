//! The command line of `crm-api`.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::platform::db;
use testing::Database;
use testing::serving::{ANY_PORT, Port, Serving};
use testing::supervise::{Ending, Supervised};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::sync::mpsc::unbounded_channel;

use crate::support;

/// The program, with only the database in its environment.
pub fn program(database: &Database, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crm-api"));
    command.args(arguments).env_clear().env("DATABASE_URL", database.url()).kill_on_drop(true);
    command
}

async fn run(database: &Database, arguments: &[&str]) -> Output {
    program(database, arguments).output().await.unwrap()
}

/// The output of a command that must succeed.
async fn print(database: &Database, arguments: &[&str]) -> String {
    let output = run(database, arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The error message of a command that must fail.
fn sentence(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    std::str::from_utf8(&output.stderr).unwrap().trim_end()
}

#[tokio::test]
async fn several_processes_can_migrate_at_once() {
    let database = Database::empty().await;
    let before = run(&database, &["workspaces", "list"]).await;
    assert_eq!(sentence(&before), "crm-api: the database schema is out of date; run crm-api migrate first");

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
async fn workspaces_and_keys_are_created_listed_and_revoked() {
    let database = Database::create().await;
    let id = print(&database, &["workspaces", "create", "acme"]).await;
    assert_eq!(id.lines().count(), 1);
    let id = id.trim();
    assert!(print(&database, &["workspaces", "list"]).await.contains(id));
    let taken = run(&database, &["workspaces", "create", "acme"]).await;
    assert_eq!(sentence(&taken), "crm-api: the workspace \"acme\" already exists");
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
    assert_eq!(sentence(&past), "crm-api: the expiry must be in the future");

    let listed = print(&database, &["keys", "list", "--workspace", "acme"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(
        lines[0].ends_with("shop") && lines[0].contains(&by_name[..10]) && lines[0].contains("never used"),
        "{listed}"
    );
    assert!(lines[1].contains("expires 2999-12-31"), "{listed}");
    assert!(!listed.contains(by_name.trim()), "a key is shown only once");

    let key_id = lines[0].split_whitespace().next().unwrap();
    for _ in 0..2 {
        assert!(print(&database, &["keys", "revoke", key_id]).await.contains("revoked"));
    }
    let unknown = run(&database, &["keys", "revoke", id]).await;
    assert_eq!(sentence(&unknown), format!("crm-api: no key has the id {id}"));
}

#[tokio::test]
async fn invalid_arguments_end_with_code_2() {
    let database = Database::create().await;
    for arguments in [&["keys", "create"][..], &["fly"], &["keys", "revoke", "x"], &["serve", "--port", "1"]] {
        let output = run(&database, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test]
async fn an_invalid_setting_is_named_and_prevents_the_start() {
    let database = Database::create().await;
    for (name, value, expected) in [
        (
            "CRM_API__LISTNE",
            "127.0.0.1:0",
            "crm-api: unknown setting api.listne in the environment variable CRM_API__LISTNE",
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
    assert_eq!(sentence(&output), format!("crm-api: unknown setting api.head_timeout_s in {path}"));
}

#[tokio::test]
async fn an_address_that_stays_in_use_is_named() {
    let database = Database::create().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program(&database, &[]);
    command.env("CRM_API__LISTEN", &address).env("CRM_API__BIND_TIMEOUT_S", "1");
    let output = command.output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&format!("crm-api: cannot listen on {address}: ")), "{stderr}");
}

#[tokio::test]
async fn the_server_waits_until_its_port_is_released() {
    let database = Database::create().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let taken = Arc::new(Mutex::new(Some(taken)));
    let mut server = Server::start(&database, &[("CRM_API__LISTEN", &address)], {
        let taken = taken.clone();
        move |line| {
            if line.contains("the port is taken") {
                taken.lock().unwrap().take();
            }
        }
    });
    assert_eq!(server.serving.address(Port::Public).await.unwrap().to_string(), address);
    assert!(taken.lock().unwrap().is_none());
    server.process.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_serves_requests_while_its_admin_port_is_in_use() {
    let database = Database::create().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut server = Server::start(&database, &[("CRM_ADMIN__LISTEN", &address.to_string())], |_| {});
    let public = server.serving.address(Port::Public).await.unwrap();
    assert_eq!(reqwest::get(format!("http://{public}/readyz")).await.unwrap().status(), 200);
    drop(taken);
    assert_eq!(server.serving.address(Port::Admin).await.unwrap(), address);
    assert_eq!(reqwest::get(format!("http://{address}/metrics")).await.unwrap().status(), 200);
    server.process.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_stops_cleanly_on_sigterm() {
    let database = Database::create().await;
    let mut server = Server::start(&database, &[], |_| {});
    let public = server.serving.address(Port::Public).await.unwrap();
    assert_eq!(reqwest::get(format!("http://{public}/readyz")).await.unwrap().status(), 200);
    server.process.signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(10), server.process.ended()).await;
    assert!(ended.unwrap().unwrap().is_success());
}

#[tokio::test]
async fn the_log_names_the_client_key_and_route_of_each_request() {
    let database = Database::create().await;
    let workspace = print(&database, &["workspaces", "create", "acme"]).await;
    let create = ["keys", "create", "--workspace", workspace.trim(), "--name", "test"];
    let key = print(&database, &create).await;
    let listed = print(&database, &["keys", "list", "--workspace", "acme"]).await;
    let key_id = listed.split_whitespace().next().unwrap().to_owned();
    // Only a trusted proxy can forward the client's address.
    for (trusted, client) in [("", "127.0.0.1"), ("127.0.0.0/8", "198.51.100.7")] {
        let (sender, mut lines) = unbounded_channel();
        let settings = [("CRM_API__TRUSTED_PROXIES", trusted), ("CRM_LOG__FORMAT", "json")];
        let mut server = Server::start(&database, &settings, move |line| drop(sender.send(line.to_owned())));
        let public = server.serving.address(Port::Public).await.unwrap();
        let request = reqwest::Client::new().get(format!("http://{public}/dev/crm/leads?email=ann@example.com"));
        let request = request.bearer_auth(key.trim()).header("x-forwarded-for", "203.0.113.9, 198.51.100.7");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let line = loop {
            let line: Value = serde_json::from_str(&lines.recv().await.unwrap()).unwrap();
            if line["message"] == "answered" {
                break line;
            }
        };
        assert_eq!((&line["peer"], &line["key_id"]), (&json!(client), &json!(key_id)), "{line}");
        assert_eq!((&line["route"], &line["status"]), (&json!("/dev/crm/leads"), &json!(200)), "{line}");
        assert!(line["span"]["request_id"].is_string() && !line.to_string().contains("ann@example.com"), "{line}");
        server.process.stop().await.unwrap();
    }
}

/// A running server.
struct Server {
    process: Supervised,
    serving: Serving,
}

impl Server {
    fn start(database: &Database, settings: &[(&str, &str)], on_line: impl Fn(&str) + Clone + Send + 'static) -> Self {
        let program = env!("CARGO_BIN_EXE_crm-api");
        let mut process = Supervised::start(program, Ending::TERMINATE, |command| {
            command.env_clear().env("DATABASE_URL", database.url()).envs(ANY_PORT).envs(settings.iter().copied());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
        .unwrap();
        let serving = Serving::default();
        let noted = serving.clone();
        process.hand_on_lines(move |line| {
            noted.note(&line);
            on_line(&line);
        });
        Self { process, serving }
    }
}

#[tokio::test]
async fn an_operator_allows_a_workspace_to_send_from_a_domain() {
    let database = Database::create().await;
    print(&database, &["workspaces", "create", "acme"]).await;
    assert_eq!(print(&database, &["workspaces", "senders", "acme"]).await, "");
    let allowed = print(&database, &["workspaces", "allow-sender", "acme", "Bücher.Example."]).await;
    assert_eq!(allowed, "xn--bcher-kva.example\n");
    print(&database, &["workspaces", "allow-sender", "acme", "xn--bcher-kva.example"]).await;
    assert_eq!(print(&database, &["workspaces", "senders", "acme"]).await, allowed);
    let wrong = run(&database, &["workspaces", "allow-sender", "acme", "not a domain"]).await;
    assert_eq!(sentence(&wrong), "crm-api: domain must be a domain such as example.com");
    assert_eq!(print(&database, &["workspaces", "remove-sender", "acme", "bücher.example"]).await, allowed);
    let again = run(&database, &["workspaces", "remove-sender", "acme", "bücher.example"]).await;
    assert_eq!(sentence(&again), "crm-api: the workspace \"acme\" is not allowed to send from bücher.example");
    assert_eq!(print(&database, &["workspaces", "senders", "acme"]).await, "");
}

/// A process of HAProxy that notes commands and agrees to all of them.
fn haproxy(socket: &Path) -> Arc<Mutex<Vec<String>>> {
    let (listener, commands) = (UnixListener::bind(socket).unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let noted = commands.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut command = vec![0; 16 * 1024];
            let length = stream.read(&mut command).await.unwrap();
            let command = String::from_utf8(command[..length].to_vec()).unwrap();
            let answer = if command.starts_with("prepare") { "New version created: 7\n" } else { "\n" };
            noted.lock().unwrap().push(command);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    commands
}

#[tokio::test]
async fn haproxy_finds_the_cell_of_a_key_by_its_hash_and_that_of_a_link_by_its_workspace() {
    let database = Database::create().await;
    let workspace = print(&database, &["workspaces", "create", "acme"]).await.trim().replace('-', "");
    let key = print(&database, &["keys", "create", "--workspace", "acme", "--name", "shop"]).await;
    let hash: String = Sha256::digest(key.trim()).iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = format!("{hash} cell1\n{workspace} cell1\n");
    assert_eq!(print(&database, &["keys", "map", "--cell", "cell1"]).await, lines);

    let directory = std::env::temp_dir().join(format!("crm-cells-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&directory).unwrap();
    let (file, socket) = (directory.join("cell1.map"), directory.join("haproxy"));
    let commands = haproxy(&socket);
    let (file, socket) = (file.to_str().unwrap(), socket.to_str().unwrap());
    let map = ["keys", "map", "--cell", "cell1", "--file", file, "--socket", socket];
    print(&database, &map).await;
    assert_eq!(std::fs::read_to_string(file).unwrap(), lines);
    let expected = [
        format!("prepare map {file}\n"),
        format!("add map @7 {file} <<\n{lines}\n"),
        format!("commit map @7 {file}\n"),
    ];
    assert_eq!(*commands.lock().unwrap(), expected);

    let id = print(&database, &["keys", "list", "--workspace", "acme"]).await;
    print(&database, &["keys", "revoke", id.split(' ').next().unwrap()]).await;
    print(&database, &map).await;
    assert_eq!(std::fs::read_to_string(file).unwrap(), format!("{workspace} cell1\n"));
    std::fs::remove_dir_all(&directory).unwrap();
}
