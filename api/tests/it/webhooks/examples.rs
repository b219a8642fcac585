//! The receivers in `docs/webhooks.md` verify real requests.

use std::process::Stdio;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use testing::receiver::Receiver;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Setup, WEBHOOKS};
use crate::support::id;

const PAGE: &str = include_str!("../../../../docs/webhooks.md");

/// The verified event, or nothing if the request is not from the CRM.
fn verified(secret: &str, headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    Webhook::new(secret).ok()?.verify(body, headers).ok()?;
    serde_json::from_slice(body).ok()
}

/// The code of a language in the page.
fn code(language: &str) -> &'static str {
    let begin = format!("```{language}\n");
    let code = &PAGE[PAGE.find(&begin).unwrap() + begin.len()..];
    &code[..code.find("```").unwrap()]
}

#[tokio::test]
async fn the_receiver_in_rust_verifies_a_delivery() {
    // The page has the function above.
    let this = include_str!("examples.rs");
    let function = &code("rust")[code("rust").find("/// The verified").unwrap()..];
    assert!(this.contains(function), "{function}");
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({})).await;
    setup.lead("ada").await;
    let request = setup.receiver.until(1).await.remove(0);
    let (secret, headers) = (webhook["secret"].as_str().unwrap(), super::headers(&request));
    assert_eq!(verified(secret, &headers, request.body.as_bytes()).unwrap()["type"], "lead.created");
    assert_eq!(verified(secret, &headers, request.body.to_uppercase().as_bytes()), None);
}

#[tokio::test]
async fn the_receiver_in_python_verifies_a_delivery() {
    receives("python", "py", &[]).await;
}

#[tokio::test]
async fn the_receiver_in_typescript_verifies_a_delivery() {
    let version = Command::new("node").arg("--version").output().await;
    let version = version.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    // Older versions do not read TypeScript.
    if major.is_some_and(|major| major >= 23) {
        receives("typescript", "ts", &["--experimental-strip-types"]).await;
    }
}

/// Runs a receiver of the page, which gets a delivery and an unsigned request.
async fn receives(language: &str, extension: &str, arguments: &[&str]) {
    // The port is free again when the receiver starts, and allowed before.
    let placeholder = Receiver::start().await;
    let (port, url) = (placeholder.address.port(), placeholder.url("/"));
    let setup = Setup::start_with_another(placeholder.address).await;
    drop(placeholder);
    let body = json!({ "url": url, "events": ["lead.created"] });
    let webhook = setup.api.create(WEBHOOKS, body).await;
    // Beside other files, a program would import those that have the names of its libraries.
    let directory = std::env::temp_dir().join(format!("receiver-{port}"));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("receiver.{extension}"));
    std::fs::write(&file, code(language)).unwrap();
    let program = if language == "python" { "python3" } else { "node" };
    let mut receiver: Child = Command::new(program)
        .args(arguments)
        .arg(&file)
        .env("PORT", port.to_string())
        .env("WEBHOOK_SECRET", webhook["secret"].as_str().unwrap())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let forged = async || {
        let forged = reqwest::Client::new().post(&url).header("webhook-id", "evt_1").header("webhook-timestamp", "1");
        forged.header("webhook-signature", "v1,AAAA").body("{}").send().await
    };
    // It may need a moment until it listens.
    let answer = loop {
        match forged().await {
            Ok(answer) => break answer,
            Err(_) => {
                assert_eq!(receiver.try_wait().unwrap(), None, "the receiver has ended");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    assert_eq!(answer.status(), 401);
    let lead: Value = setup.lead("ada").await;
    let _worker = setup.worker();
    let delivered = setup.until_all(&webhook, 1, "delivered").await;
    assert_eq!(delivered[0]["status"], 204);
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.contains("lead.created") && line.contains(id(&lead)), "{line}");
    std::fs::remove_dir_all(directory).unwrap();
}
