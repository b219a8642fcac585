//! `crm-api doctor`: what is checked, what it finds, and what it does when something hangs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::smtp::{MailServer, Options};
use testing::{Database, Process};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::cli::program;
use crate::support::{Api, connect};

/// What the doctor finds, with these further settings.
pub async fn examine(database: &Database, environment: &[(&str, &str)]) -> Vec<Value> {
    findings(program(database, &["doctor", "--json"]).envs(environment.iter().copied())).await.1
}

async fn findings(command: &mut Command) -> (Option<i32>, Vec<Value>) {
    let output = command.output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = report["findings"].as_array().unwrap().clone();
    let is_healthy = findings.iter().all(|finding| finding["level"] != "fault");
    assert_eq!(report["healthy"], is_healthy);
    assert_eq!(output.status.code(), Some(i32::from(!is_healthy)), "{report}");
    (output.status.code(), findings)
}

/// The finding of a check, the worst one if there are several.
pub fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let of_check = || findings.iter().filter(|finding| finding["check"] == check);
    let worst = ["fault", "warning", "ok"].iter().find_map(|level| of_check().find(|it| it["level"] == *level));
    worst.unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

fn level(findings: &[Value], check: &str) -> String {
    finding(findings, check)["level"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn everything_is_checked_and_each_line_says_what_to_do() {
    let database = Database::create().await;
    let _worker = Process::worker(&database, &[]);
    let findings = loop {
        let findings = examine(&database, &[]).await;
        if level(&findings, "workers") == "ok" {
            break findings;
        }
    };
    for check in [
        "database",
        "database.version",
        "database.session",
        "database.connections",
        "clock",
        "database.size",
        "schema",
        "database.nodes",
        "workers",
        "mail.hold",
        "webhooks.secrets",
        "records.emails",
    ] {
        assert_eq!(level(&findings, check), "ok", "{:#}", finding(&findings, check));
    }
    // The server of the tests does not wait for the disk, and its role may do everything.
    assert_eq!(level(&findings, "database.settings"), "fault");
    assert_eq!(level(&findings, "database.role"), "warning");
    for finding in &findings {
        assert_eq!(finding["level"] == "ok", finding.get("action").is_none(), "{finding:#}");
    }

    let output = program(&database, &["doctor"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = "fault    database.settings     fsync is off: a crash of the machine can destroy the database. \
                Turn fsync on in PostgreSQL.";
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(text.ends_with("3 faults, 4 warnings.\n"), "{text}");
}

#[tokio::test]
async fn without_a_database_the_other_checks_run() {
    let database = Database::create().await;
    let mail = MailServer::start().await;
    let port = mail.address.port().to_string();
    let environment = [
        ("DATABASE_URL", "postgres://crm@127.0.0.1:1/crm"),
        ("CRM_MAIL__HOST", "127.0.0.1"),
        ("CRM_MAIL__PORT", &port),
        ("CRM_MAIL__TLS", "none"),
    ];
    let findings = examine(&database, &environment).await;
    let found = finding(&findings, "database");
    assert_eq!(found["level"], "fault");
    assert!(found["message"].as_str().unwrap().starts_with("The database cannot be reached: "), "{found}");
    assert_eq!(level(&findings, "mail.server"), "ok");
    assert!(findings.iter().any(|finding| finding["check"] == "imports.temp_dir"));
    assert!(!findings.iter().any(|finding| finding["check"] == "schema"));
}

/// Accepts connections, and says nothing on them.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

#[tokio::test]
async fn nothing_that_hangs_holds_the_doctor_up() {
    let database = Database::create().await;
    let (_listener, port) = silent().await;
    let (database_url, public_url) =
        (format!("postgres://crm@127.0.0.1:{port}/crm"), format!("https://127.0.0.1:{port}"));
    let mut command = program(&database, &["doctor", "--json", "--timeout-s", "1"]);
    command.env("DATABASE_URL", database_url).env("CRM_PUBLIC_URL", public_url);
    command.env("CRM_MAIL__HOST", "127.0.0.1").env("CRM_MAIL__PORT", &port).env("CRM_MAIL__TLS", "none");
    let began = Instant::now();
    let (_, findings) = findings(&mut command).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let message = finding(&findings, "database")["message"].as_str().unwrap();
    assert!(message.contains("no answer within 1 s"), "{message}");
    assert_eq!([level(&findings, "mail.server"), level(&findings, "links")], ["fault", "warning"]);
}

#[tokio::test]
async fn a_missing_migration_is_a_fault_and_stored_data_is_not_examined() {
    let findings = examine(&Database::empty().await, &[]).await;
    let found = finding(&findings, "schema");
    assert_eq!((&found["level"], &found["action"]), (&json!("fault"), &json!("Run crm-api migrate.")));
    assert!(!findings.iter().any(|finding| finding["check"] == "mail.hold"), "{findings:#?}");
}

#[tokio::test]
async fn faults_of_the_settings_are_all_listed() {
    let database = Database::create().await;
    let wrong = [("CRM_API__LISTNE", "x"), ("CRM_JOBS__KEEP_DAYS", "0"), ("CRM_IMPORTS__TEMP_DIR", "/nowhere")];
    let findings = examine(&database, &wrong).await;
    let faults: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["level"] == "fault")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    for (fault, about) in faults.iter().zip(["api.listne", "jobs.keep_days", "imports.temp_dir"]) {
        assert!(fault.contains(about), "{fault}");
    }
}

/// A role of its own for a test, which may connect to the database and do what `grants` say.
async fn role(connection: &mut PgConnection, grants: &[&str]) -> String {
    let name = format!("role_{:016x}", rand::random::<u64>());
    for statement in [&["CREATE ROLE {} LOGIN PASSWORD 'secret'"], grants].concat() {
        sqlx::raw_sql(AssertSqlSafe(statement.replace("{}", &name))).execute(&mut *connection).await.unwrap();
    }
    name
}

fn as_role(url: &str, role: &str) -> String {
    format!("postgres://{role}:secret@{}", url.split_once('@').unwrap().1)
}

#[tokio::test]
async fn a_role_that_may_not_write_is_a_fault() {
    let database = Database::create().await;
    let mut connection = connect(database.url()).await;
    let all = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}";
    let reader = role(&mut connection, &[all, "REVOKE DELETE ON leads FROM {}"]).await;
    let findings = examine(&database, &[("DATABASE_URL", &as_role(database.url(), &reader))]).await;
    let found = finding(&findings, "database.role");
    assert_eq!((&found["level"], &found["details"]), (&json!("fault"), &json!(["leads"])));
    let grant = "GRANT DELETE ON leads TO {}".replace("{}", &reader);
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(&mut connection).await.unwrap();
    let findings = examine(&database, &[("DATABASE_URL", &as_role(database.url(), &reader))]).await;
    assert_eq!(level(&findings, "database.role"), "ok", "{:#}", finding(&findings, "database.role"));
    let leave = format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {reader}; DROP ROLE {reader}");
    sqlx::raw_sql(AssertSqlSafe(leave)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_a_database_overrides_is_a_warning() {
    let database = Database::create().await;
    let mut connection = connect(database.url()).await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut connection).await.unwrap();
    let change = format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut connection).await.unwrap();
    let findings = examine(&database, &[]).await;
    let found = finding(&findings, "database.session");
    assert_eq!(found["level"], "warning");
    assert!(found["message"].as_str().unwrap().starts_with("default_transaction_isolation is serializable"), "{found}");
}

#[tokio::test]
async fn more_connections_than_the_server_has_are_a_fault() {
    let database = Database::create().await;
    let findings = examine(&database, &[("CRM_DATABASE__MAX_CONNECTIONS", "2000")]).await;
    assert_eq!(level(&findings, "database.connections"), "fault");
    let pooled = [("CRM_DATABASE__MAX_CONNECTIONS", "2000"), ("CRM_DATABASE__POOLER", "true")];
    assert_eq!(level(&examine(&database, &pooled).await, "database.connections"), "ok");
    assert_eq!(level(&examine(&database, &[]).await, "workers"), "warning");
}

#[tokio::test]
async fn the_mail_server_is_asked_for_everything_but_an_email() {
    let database = Database::create().await;
    let options = Options { login: Some(("crm", "right")), starttls: true, ..Options::default() };
    let server = MailServer::with(options).await;
    let (port, certificate) = (server.address.port().to_string(), server.certificate());
    let check = async |password: &str, trusted: &str| {
        let settings = [
            ("CRM_MAIL__HOST", "localhost"),
            ("CRM_MAIL__PORT", &port),
            ("CRM_MAIL__USER", "crm"),
            ("CRM_MAIL__PASSWORD", password),
            ("CRM_MAIL__CERTIFICATES", trusted),
        ];
        finding(&examine(&database, &settings).await, "mail.server").clone()
    };
    let path = certificate.to_str().unwrap();
    let right = check("right", path).await;
    assert_eq!(right["message"], format!("localhost:{port} answers and accepts the login."));
    let wrong = check("wrong", path).await;
    assert_eq!((&wrong["level"], &wrong["action"]), (&json!("fault"), &json!("Correct mail.user and mail.password.")));
    let untrusted = check("right", "").await;
    assert_eq!(untrusted["level"], "fault");
    assert!(
        untrusted["action"].as_str().unwrap().starts_with("Correct mail.tls, or set mail.certificates"),
        "{untrusted}"
    );
    std::fs::remove_file(certificate).unwrap();
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn links_must_lead_to_the_api() {
    let api = Api::start().await;
    let check = async |url: &str| finding(&examine(&api.database, &[("CRM_PUBLIC_URL", url)]).await, "links").clone();
    let mut here = check(&api.url("")).await;
    for _ in 0..5 {
        // A busy machine may need more than the 2 s of this check.
        if here["message"].as_str().unwrap().starts_with("No answer within") {
            here = check(&api.url("")).await;
        }
    }
    assert_eq!(here["level"], "ok", "{here}");
    let elsewhere = check(&api.url("/elsewhere")).await;
    assert_eq!(elsewhere["level"], "warning");
    assert!(
        elsewhere["message"].as_str().unwrap().ends_with("/elsewhere/healthz answers 404 Not Found."),
        "{elsewhere}"
    );
}
