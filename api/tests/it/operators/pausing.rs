//! Queues, kinds and workspaces are paused and resumed, and workspaces suspended.

use reqwest::Method;
use serde_json::{Value, json};

use super::Operations;
use crate::support::{self, faults};

#[tokio::test]
async fn queues_kinds_and_workspaces_are_paused_and_resumed() {
    let operations = Operations::start().await;
    for (group, name, target) in
        [("queues", "imports", "queue"), ("kinds", "import_leads", "kind"), ("workspaces", "acme", "workspace")]
    {
        let stored = if target == "workspace" { operations.api.workspace_id.to_string() } else { name.to_owned() };
        let paused = operations.act(&format!("/{group}/{name}/pause"), json!({ "reason": "a full disk" })).await;
        assert_eq!(paused["action"], format!("{group}.pause"));
        assert_eq!(paused["arguments"], json!({ target: name, "reason": "a full disk" }));
        let pauses = operations.read("/pauses").await;
        assert_eq!((&pauses[0]["target"], &pauses[0]["name"]), (&json!(target), &json!(stored)));
        assert_eq!(pauses[0]["reason"], "a full disk");
        let listed = operations.read(&format!("/{group}")).await;
        let row = listed.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        assert!(row["paused_since"].is_string() && row["pause_reason"] == "a full disk", "{row}");

        let resumed = operations.act(&format!("/{group}/{name}/resume"), json!({})).await;
        assert_eq!(
            (&resumed["action"], &resumed["result"]),
            (&json!(format!("{group}.resume")), &json!({ "was_paused": true }))
        );
        assert_eq!(operations.read("/pauses").await, json!([]));

        assert_eq!(operations.print(&[group, "pause", name, "--reason", "x"]).await, format!("Paused {name}.\n"));
        assert!(operations.print(&[group, "list"]).await.contains("20"), "since when it is paused");
        assert_eq!(operations.print(&[group, "resume", name]).await, format!("Resumed {name}.\n"));
        assert_eq!(operations.print(&[group, "resume", name]).await, format!("{name} was not paused.\n"));
        assert_eq!(operations.last_action().await["source"], "cli");
    }
    let refused = operations.send("/queues/letters/pause", json!({}), 400).await;
    assert_eq!(faults(&refused), [("queue", "invalid")]);
    assert_eq!(operations.last_action().await["error"].as_str().map(|error| error.starts_with("invalid")), Some(true));
    operations.send("/kinds/letters/pause", json!({}), 400).await;
    operations.send("/workspaces/nowhere/pause", json!({}), 400).await;
    let refused = operations.send("/queues/imports/pause", json!({ "reason": 1 }), 400).await;
    assert_eq!(faults(&refused), [("reason", "invalid")]);
    operations.send("/queues/imports/pause", json!({ "until": "x" }), 400).await;
    operations.send("/queues/imports/resume", json!({ "reason": "x" }), 400).await;
    support::json(operations.request(Method::POST, "/queues/imports/pause?now=true"), 400).await;
    support::json(operations.request(Method::GET, "/queues/imports/pause"), 405).await;
    let error = operations.error(&["queues", "pause", "letters"]).await;
    assert!(error.starts_with("crm-api: --queue must be one of"), "{error}");
    assert_eq!(operations.read("/pauses").await, json!([]));
}

#[tokio::test]
async fn a_suspended_workspace_is_refused_until_its_suspension_ends() {
    let operations = Operations::start().await;
    let suspended = operations.act("/workspaces/acme/suspend", json!({})).await;
    assert_eq!(
        (&suspended["action"], &suspended["arguments"]),
        (&json!("workspaces.suspend"), &json!({ "workspace": "acme" }))
    );
    support::until(403, || operations.api.get("/dev/crm/leads")).await;
    assert!(operations.read("/workspaces/acme").await["suspended_at"].is_string());
    assert_eq!(operations.print(&["workspaces", "unsuspend", "acme"]).await, "acme is not suspended.\n");
    support::until(200, || operations.api.get("/dev/crm/leads")).await;
    assert_eq!(operations.print(&["workspaces", "suspend", "acme"]).await, "acme is suspended.\n");
    let ended = operations.act("/workspaces/acme/unsuspend", json!({})).await;
    assert_eq!(ended["result"]["suspended_at"], Value::Null);
    operations.send("/workspaces/nowhere/suspend", json!({}), 400).await;
    let error = operations.error(&["workspaces", "suspend", "nowhere"]).await;
    assert_eq!(error, "crm-api: there is no workspace \"nowhere\"");
}
