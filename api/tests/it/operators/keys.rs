//! Operators have keys, which work on the admin port only.

use reqwest::{Client, Method};
use serde_json::json;
use shared::operations::actions;

use super::{Operations, ids};
use crate::support::{self, Api};

#[tokio::test]
async fn an_operator_is_created_listed_and_revoked() {
    let operations = Operations::start().await;
    assert!(operations.key.starts_with("crm_op_") && operations.key.len() == 43, "{}", operations.key);
    assert_eq!(operations.read("/jobs").await, json!([]));

    let listed = operations.json(&["operators", "list"]).await;
    assert_eq!((&listed[0]["name"], &listed[0]["prefix"]), (&json!("ada"), &json!(operations.key[..13])));
    assert!(listed[0]["last_used_at"].is_string() && listed[0]["expires_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains(&operations.key) && listed[0]["hash"].is_null());
    let days: f64 = sqlx::query_scalar("SELECT extract(day FROM expires_at - created_at)::float8 FROM operators")
        .fetch_one(operations.api.database.pool())
        .await
        .unwrap();
    assert_eq!(days, 90.0);

    let forever = operations.json(&["operators", "create", "monitoring", "--never"]).await;
    assert!(forever["expires_at"].is_null() && forever["key"].as_str().unwrap().starts_with("crm_op_"));
    assert_eq!(operations.error(&["operators", "create", "ada"]).await, "crm-api: the operator \"ada\" already exists");
    assert_eq!(operations.error(&["operators", "create", " "]).await, "crm-api: name must not be empty");

    let id = ids(&listed)[0].to_string();
    for _ in 0..2 {
        assert!(operations.print(&["operators", "revoke", &id]).await.contains("revoked"));
    }
    let refused = support::json(operations.request(Method::GET, "/jobs"), 401).await;
    assert_eq!(refused, json!({ "message": "Invalid or missing operator key" }));
    let unknown = operations.api.workspace_id.to_string();
    let error = operations.error(&["operators", "revoke", &unknown]).await;
    assert_eq!(error, format!("crm-api: there is no operator {unknown}"));
    // Its name is free again.
    operations.print(&["operators", "create", "ada"]).await;
}

#[tokio::test]
async fn requests_need_the_valid_key_of_an_operator() {
    let operations = Operations::start().await;
    let url = format!("http://{}/operator/queues", operations.api.admin);
    let missing = Client::new().get(&url).send().await.unwrap();
    assert_eq!((missing.status().as_u16(), &missing.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
    for wrong in ["x", &operations.api.key, &operations.key[..42], &format!("{}0", operations.key)] {
        support::json(Client::new().get(&url).bearer_auth(wrong), 401).await;
    }
    // Unknown paths do not show without a key that they are unknown.
    let nowhere = format!("http://{}/operator/nowhere", operations.api.admin);
    support::json(Client::new().get(&nowhere), 401).await;
    support::json(operations.request(Method::GET, "/nowhere"), 404).await;

    // The key opens nothing else, and the API is not on the public port.
    let public = |path: &str| Client::new().get(operations.api.url(path)).bearer_auth(&operations.key);
    support::json(public("/dev/crm/leads"), 401).await;
    support::json(public("/operator/queues"), 404).await;

    sqlx::query("UPDATE operators SET expires_at = now()").execute(operations.api.database.pool()).await.unwrap();
    support::json(operations.request(Method::GET, "/queues"), 401).await;
    assert!(operations.print(&["operators", "list"]).await.contains("expired"));
}

#[tokio::test]
async fn an_address_that_sends_many_wrong_keys_is_limited() {
    let api = Api::start_with(|settings| settings.api.rejected_keys_per_minute = 2).await;
    let request = || Client::new().get(format!("http://{}/operator/jobs", api.admin)).bearer_auth("crm_op_x");
    for status in [401, 401, 429] {
        support::json(request(), status).await;
    }
}

#[tokio::test]
async fn every_command_that_changes_something_is_in_the_audit() {
    let operations = Operations::start().await;
    let key = operations.print(&["keys", "create", "--workspace", "acme", "--name", "shop"]).await;
    let listed = operations.print(&["keys", "list", "--workspace", "acme"]).await;
    let key_id = listed.lines().last().unwrap().split_whitespace().next().unwrap().to_owned();
    operations.print(&["workspaces", "create", "globex"]).await;
    for arguments in [
        &["workspaces", "limit", "acme", "--per-minute", "9"][..],
        &["workspaces", "allow-sender", "acme", "acme.example"],
        &["workspaces", "remove-sender", "acme", "acme.example"],
        &["keys", "rotate", &key_id],
        &["sign-in-link", &key_id],
        &["keys", "revoke", &key_id],
        &["mail", "hold"],
        &["mail", "release"],
    ] {
        operations.print(arguments).await;
    }
    operations.error(&["workspaces", "create", "acme"]).await;
    // Whoever only looks leaves no trace.
    operations.print(&["workspaces", "list"]).await;
    operations.print(&["mail", "status"]).await;

    let audit = operations.json(&["audit"]).await;
    let actions: Vec<&str> = audit.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    let expected = [
        "workspaces.create",
        "mail.release",
        "mail.hold",
        "keys.revoke",
        "sign_in_links.create",
        "keys.rotate",
        "workspaces.remove_sender",
        "workspaces.allow_sender",
        "workspaces.limit",
        "workspaces.create",
        "keys.create",
        "operators.create",
    ];
    assert_eq!(actions, expected);
    assert_eq!(audit[0]["error"], "conflict: name another workspace has this name");
    for row in audit.as_array().unwrap() {
        assert!(row["started_at"].is_string() && row["finished_at"].is_string(), "{row}");
        assert!(row["actor"].as_str().unwrap().contains('@') && row["source"] == "cli", "{row}");
    }
    assert!(!audit.to_string().contains(key.trim()), "no key is recorded");

    // The workspace's own log names the action.
    let own = operations.json(&["audit", "--workspace", "acme"]).await;
    assert_eq!((&own[0]["type"], &own[0]["actor"]["type"]), (&json!("api_key.revoked"), &json!("operator")));
    assert_eq!(own[0]["actor"]["id"], audit[3]["id"]);
    assert_eq!(operations.read("/actions?workspace=acme").await, own);

    let filtered = operations.json(&["audit", "--action", "keys", "--limit", "2"]).await;
    assert_eq!(ids(&filtered), [ids(&audit)[3], ids(&audit)[5]]);
    assert_eq!(operations.read("/actions?action=keys&limit=2").await, filtered);
    let since = audit[9]["started_at"].as_str().unwrap();
    assert_eq!(ids(&operations.json(&["audit", "--since", since]).await), ids(&audit)[..10]);
    assert_eq!(operations.json(&["audit", "--operator", "nobody"]).await, json!([]));
    let actor = audit[0]["actor"].as_str().unwrap().split('@').next().unwrap();
    assert_eq!(ids(&operations.json(&["audit", "--operator", actor]).await), ids(&audit));
    let path = format!("/actions/{}", ids(&audit)[0]);
    assert_eq!(operations.read(&path).await, audit[0]);
    assert!(operations.print(&["audit"]).await.starts_with("STARTED"));
}

#[tokio::test]
async fn actions_are_kept_for_400_days() {
    let operations = Operations::start().await;
    operations.print(&["operators", "create", "bob"]).await;
    let age =
        "UPDATE operator_actions SET started_at = now() - make_interval(days => $2) WHERE arguments ->> 'name' = $1";
    for (name, days) in [("ada", 401), ("bob", 399)] {
        sqlx::query(age).bind(name).bind(days).execute(operations.api.database.pool()).await.unwrap();
    }
    let connection = &mut operations.api.connection().await;
    assert_eq!(
        [actions::prune(connection, 100).await.unwrap(), actions::prune(connection, 100).await.unwrap()],
        [1, 0]
    );
    let left = operations.json(&["audit"]).await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["arguments"]["name"]), (1, &json!("bob")));
}
