//! Users of a workspace.

use reqwest::Method;
use serde_json::json;

use crate::support::{self, Api, each, faults, id};

const USERS: &str = "/dev/crm/users";

#[tokio::test]
async fn a_user_is_created_updated_and_deleted() {
    let api = Api::start().await;
    let user = api.create(USERS, json!({ "name": " Grace ", "email": "grace@example.com" })).await;
    let expected = json!({
        "id": id(&user), "name": "Grace", "email": "grace@example.com",
        "created_at": user["created_at"], "updated_at": user["created_at"],
    });
    assert_eq!(user, expected);
    let path = format!("{USERS}/{}", id(&user));
    let renamed = api.send(Method::PUT, &path, json!({ "name": "Grace Hopper" }), 200).await;
    assert_eq!((&renamed["name"], &renamed["email"]), (&json!("Grace Hopper"), &json!("grace@example.com")));
    api.create(USERS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    assert_eq!(each(&api.read(&format!("{USERS}?sort=email")).await, "name"), ["Ada", "Grace Hopper"]);
    assert_eq!(each(&api.read(&format!("{USERS}?email=GRACE@example.com")).await, "name"), ["Grace Hopper"]);

    let lead = json!({ "name": "L", "email": "l@example.com", "assigned_to": id(&user) });
    let lead = api.create("/dev/crm/leads", lead).await;
    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    let left = api.read(&format!("/dev/crm/leads/{}", id(&lead))).await;
    assert_eq!(left["assigned_to"], user["id"], "records stay assigned to a deleted user");
}

#[tokio::test]
async fn an_email_is_unique_among_users() {
    let api = Api::start().await;
    let ada = api.create(USERS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let taken = json!({ "name": "Another", "email": "ADA@example.com" });
    support::json(api.post(USERS).json(&taken), 409).await;
    let bob = api.create(USERS, json!({ "name": "Bob", "email": "bob@example.com" })).await;
    support::json(
        api.request(Method::PUT, &format!("{USERS}/{}", id(&bob))).json(&json!({ "email": "Ada@Example.com" })),
        409,
    )
    .await;
    api.send(Method::PUT, &format!("{USERS}/{}", id(&ada)), json!({ "email": "Ada@example.com" }), 200).await;
    let rejected = api.send(Method::POST, USERS, json!({ "email": "no", "role": "admin" }), 400).await;
    let mut reported = faults(&rejected);
    reported.sort_unstable();
    assert_eq!(reported, [("email", "invalid"), ("name", "required"), ("role", "unknown")]);
    let api = api.on("another").await;
    api.create(USERS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
}
