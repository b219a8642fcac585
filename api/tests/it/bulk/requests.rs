//! What a request must have, and how it is confirmed.

use reqwest::Method;
use serde_json::{Value, json};

use super::{CUSTOMERS, LEADS, NOBODY, ORDERS, accepted, bulk, counts, customer, lead, order, start};
use crate::support::{self, Api, faults, id};

async fn refused(api: &Api, list: &str, body: Value) -> Value {
    api.send(Method::POST, &format!("{list}/bulk"), body, 400).await
}

#[tokio::test]
async fn every_fault_of_a_request_is_named() {
    let api = Api::start().await;
    let update = |filter: Value| json!({ "filter": filter, "action": "update", "set": { "score": 1 } });
    let set = |set: Value| json!({ "filter": "all", "action": "update", "set": set });
    let many: serde_json::Map<String, Value> = (0..101).map(|n| (format!("custom.{n}"), json!("x"))).collect();
    for (list, body, expected) in [
        (LEADS, json!({}), vec![("action", "required"), ("filter", "required")]),
        (LEADS, update(json!({})), vec![("filter", "required")]),
        (LEADS, update(json!(null)), vec![("filter", "required")]),
        (LEADS, update(json!("every")), vec![("filter", "invalid")]),
        (LEADS, update(json!([])), vec![("filter", "invalid")]),
        (LEADS, update(json!({ "tz": "UTC" })), vec![("filter", "required")]),
        (LEADS, update(json!(many)), vec![("filter", "too_many")]),
        (
            LEADS,
            update(json!({ "limit": 5, "cursor": "x", "sort": "name", "fields": "id", "count": true, "size": 1 })),
            vec![
                ("filter.limit", "unknown"),
                ("filter.cursor", "unknown"),
                ("filter.sort", "unknown"),
                ("filter.fields", "unknown"),
                ("filter.count", "unknown"),
                ("filter.size", "unknown"),
            ],
        ),
        (
            LEADS,
            update(json!({ "size": 1, "status": "old", "score[gte]": "x", "id": "1" })),
            vec![
                ("filter.size", "unknown"),
                ("filter.status", "invalid"),
                ("filter.score[gte]", "invalid"),
                ("filter.id", "invalid"),
            ],
        ),
        (
            LEADS,
            update(json!({ "status": null, "score": { "gte": 1 }, "source": [], "id": [["x"]] })),
            vec![
                ("filter.status", "invalid"),
                ("filter.score", "invalid"),
                ("filter.source", "invalid"),
                ("filter.id", "invalid"),
            ],
        ),
        (LEADS, update(json!({ "deleted": true })), vec![("filter.deleted", "invalid")]),
        (LEADS, update(json!({ "deleted": "yes" })), vec![("filter.deleted", "invalid")]),
        (LEADS, json!({ "filter": { "deleted": false }, "action": "restore" }), vec![("filter.deleted", "invalid")]),
        (LEADS, json!({ "filter": { "status": "new" }, "action": "restore" }), vec![("filter.status", "unknown")]),
        (LEADS, json!({ "filter": "all", "action": "merge" }), vec![("action", "invalid")]),
        (LEADS, json!({ "filter": "all", "action": "update" }), vec![("set", "required")]),
        (LEADS, set(json!({})), vec![("set", "required")]),
        (LEADS, set(json!([])), vec![("set", "invalid")]),
        (
            LEADS,
            set(json!({ "id": NOBODY, "won_at": null, "score": 101, "size": 1, "name": "", "email": null })),
            vec![
                ("set.id", "read_only"),
                ("set.won_at", "read_only"),
                ("set.score", "out_of_range"),
                ("set.size", "unknown"),
                ("set.name", "required"),
                ("set.email", "required"),
            ],
        ),
        (CUSTOMERS, set(json!({ "segment": "loyal" })), vec![("set.segment", "read_only")]),
        (LEADS, json!({ "filter": "all", "action": "assign" }), vec![("set", "required")]),
        (
            LEADS,
            json!({ "filter": "all", "action": "assign", "set": { "assigned_to": "x", "score": 1 } }),
            vec![("set.score", "invalid"), ("set.assigned_to", "invalid")],
        ),
        (LEADS, json!({ "filter": "all", "action": "delete", "set": { "score": 1 } }), vec![("set", "invalid")]),
        (
            LEADS,
            json!({ "filter": "all", "action": "convert", "set": { "email": "x@example.com", "type": "x" } }),
            vec![("set.email", "not_unique"), ("set.type", "invalid")],
        ),
        (CUSTOMERS, json!({ "filter": "all", "action": "convert" }), vec![("action", "invalid")]),
        (ORDERS, json!({ "filter": "all", "action": "assign" }), vec![("action", "invalid")]),
        (
            ORDERS,
            json!({ "filter": "all", "action": "delete", "confirm": "1", "dry_run": "no", "force": true }),
            vec![("dry_run", "invalid"), ("confirm", "invalid"), ("force", "unknown")],
        ),
    ] {
        let mut expected = expected;
        let answer = refused(&api, list, body.clone()).await;
        let mut given = faults(&answer);
        given.sort_unstable();
        expected.sort_unstable();
        assert_eq!(given, expected, "{body}");
    }
    let answer = support::json(api.post(&format!("{LEADS}/bulk?dry_run=true")).json(&update(json!("all"))), 400).await;
    assert_eq!(faults(&answer), [("dry_run", "unknown")]);
    assert_eq!(api.read("/dev/crm/jobs").await, json!([]));
}

#[tokio::test]
async fn a_grave_change_is_confirmed_with_the_number_that_matches() {
    let (api, _worker) = start().await;
    for name in ["ada", "bob"] {
        lead(&api, name, json!({})).await;
    }
    let delete = |confirm: Value| json!({ "filter": "all", "action": "delete", "confirm": confirm });
    for (confirm, code) in
        [(json!(null), "confirm_required"), (json!(1), "confirm_mismatch"), (json!(0), "confirm_mismatch")]
    {
        let answer = refused(&api, LEADS, delete(confirm)).await;
        assert_eq!(faults(&answer), [("confirm", code)]);
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("must be 2,"), "{message}");
    }
    let answer = refused(&api, LEADS, json!({ "filter": "all", "action": "convert" })).await;
    assert_eq!(faults(&answer), [("confirm", "confirm_required")]);
    // A number that is given is compared, even where none is needed.
    let update =
        |confirm: i64| json!({ "filter": "all", "action": "update", "set": { "score": 1 }, "confirm": confirm });
    assert_eq!(faults(&refused(&api, LEADS, update(3)).await), [("confirm", "confirm_mismatch")]);
    assert_eq!(counts(&bulk(&api, LEADS, update(2)).await), [2, 2, 0, 0]);
    let dry = bulk(&api, LEADS, json!({ "filter": "all", "action": "delete", "dry_run": true })).await;
    assert_eq!((counts(&dry), &dry["result"]["confirm"]), ([2, 2, 0, 0], &json!(2)));
    assert_eq!(counts(&bulk(&api, LEADS, delete(json!(2))).await), [2, 2, 0, 0]);
    // Nothing is left to delete.
    assert_eq!(counts(&bulk(&api, LEADS, delete(json!(0))).await), [0, 0, 0, 0]);
}

#[tokio::test]
async fn what_a_change_refers_to_must_exist() {
    let api = Api::start().await;
    let customer = customer(&api, "ada").await;
    order(&api, &customer).await;
    for (list, field) in [(ORDERS, "customer_id"), (CUSTOMERS, "lead_id")] {
        let body = json!({ "filter": "all", "action": "update", "set": { field: NOBODY } });
        let answer = api.send(Method::POST, &format!("{list}/bulk"), body, 404).await;
        assert_eq!(answer["errors"][0]["field"], format!("set.{field}"));
        assert_eq!(answer["errors"][0]["code"], "not_found");
    }
}

#[tokio::test]
async fn a_repeated_request_is_accepted_once() {
    let (api, _worker) = start().await;
    lead(&api, "ada", json!({})).await;
    let body = json!({ "filter": "all", "action": "update", "set": { "score": 1 } });
    let send = || api.post(&format!("{LEADS}/bulk")).header("idempotency-key", "k").json(&body);
    let first = support::json(send(), 202).await;
    assert_eq!(support::json(send(), 202).await, first);
    assert_eq!(counts(&api.ended(&first).await), [1, 1, 0, 0]);
    assert_eq!(api.read("/dev/crm/jobs").await.as_array().unwrap().len(), 1);
    // Without a key, each request is a job of its own.
    let second = accepted(&api, LEADS, body.clone()).await;
    assert_ne!(id(&second), id(&first));
    assert_eq!(counts(&api.ended(&second).await), [1, 0, 1, 0]);
}
