//! What each action does to each kind of record.

use reqwest::Method;
use serde_json::{Value, json};
use shared::records::RecordType;

use super::{
    CUSTOMERS, LEADS, NOBODY, ORDERS, OWNER, bulk, counts, customer, done, entries, lead, order, rejected, start,
};
use crate::emails::queued;
use crate::support::{Api, id};

fn pair(one: &str, other: &Value) -> (String, String) {
    (one.to_owned(), id(other).to_owned())
}

async fn state(api: &Api, email: uuid::Uuid) -> Value {
    api.read(&format!("/dev/crm/emails/{email}")).await["state"].clone()
}

#[tokio::test]
async fn an_update_changes_each_record_as_its_own_update_would() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "ada", json!({ "first_name": "Ada", "last_name": "Byron", "name": "Ada Byron" })).await;
    let bob = lead(&api, "bob", json!({ "score": 5, "status": "won" })).await;
    let set = json!({ "status": "won", "last_name": "King", "custom_fields": { "list": "2026" }, "phone": null });
    let job = bulk(&api, LEADS, json!({ "filter": "all", "action": "update", "set": set })).await;
    assert_eq!(counts(&job), [2, 2, 0, 0]);
    let path = |record: &Value| format!("{LEADS}/{}", id(record));
    let (ada_now, bob_now) = (api.read(&path(&ada)).await, api.read(&path(&bob)).await);
    // A name that was made of its parts is made anew, and a name of its own stays.
    assert_eq!((&ada_now["name"], &bob_now["name"]), (&json!("Ada King"), &json!("bob")));
    assert_eq!((&ada_now["won_at"], &bob_now["won_at"]), (&ada_now["updated_at"], &bob["won_at"]));
    assert_eq!((&bob_now["score"], &bob_now["custom_fields"]), (&json!(5), &json!({ "list": "2026" })));
    // The new name is found.
    let found = api.read(&format!("{LEADS}?q=king")).await;
    assert_eq!(found[0]["id"], ada["id"]);
    assert_eq!(entries(&api, &job).await, (2, 2));

    // A name that becomes too long rejects its record alone.
    api.send(Method::PUT, &path(&ada), json!({ "first_name": "a".repeat(150), "last_name": "b" }), 200).await;
    let set = json!({ "last_name": "b".repeat(150) });
    let job = bulk(&api, LEADS, json!({ "filter": "all", "action": "update", "set": set })).await;
    assert_eq!(counts(&job), [2, 1, 0, 1]);
    assert_eq!(rejected(&api, &job).await, [(id(&ada).to_owned(), "too_long".to_owned())]);
    let errors = api.read(&format!("/dev/crm/jobs/{}/errors", id(&job))).await;
    assert_eq!(errors[0]["row"], json!({ "id": id(&ada), "email": "ada@example.com" }));
    assert_eq!((&errors[0]["field"], &errors[0]["outcome"]), (&json!("name"), &json!("failed")));
}

#[tokio::test]
async fn customers_and_orders_are_updated() {
    let (api, _worker) = start().await;
    let (ada, bob) = (customer(&api, "ada").await, customer(&api, "bob").await);
    let (first, second) = (order(&api, &ada).await, order(&api, &ada).await);
    let email = queued(&api, "ada@example.com", Some((RecordType::Customer, id(&ada).parse().unwrap()))).await;
    let body = json!({ "filter": { "email": "ada@example.com" }, "action": "update", "set": { "status": "blocked" } });
    assert_eq!(counts(&bulk(&api, CUSTOMERS, body).await), [1, 1, 0, 0]);
    // A blocked customer gets no email.
    assert_eq!(state(&api, email).await, "cancelled");
    let body = json!({ "filter": "all", "action": "assign", "set": { "assigned_to": OWNER } });
    assert_eq!(counts(&bulk(&api, CUSTOMERS, body).await), [2, 2, 0, 0]);
    assert_eq!(api.read(&format!("{CUSTOMERS}/{}", id(&bob))).await["assigned_to"], OWNER);

    let set = json!({ "status": "shipped", "customer_id": id(&bob) });
    let body = json!({ "filter": { "status": "pending" }, "action": "update", "set": set });
    let job = bulk(&api, ORDERS, body).await;
    assert_eq!(counts(&job), [2, 2, 0, 0]);
    assert_eq!(done(&api, &job).await.len(), 2);
    for order in [first, second] {
        let order = api.read(&format!("{ORDERS}/{}", id(&order))).await;
        assert_eq!((&order["status"], &order["customer_id"]), (&json!("shipped"), &bob["id"]));
    }
}

#[tokio::test]
async fn a_unique_value_is_set_in_one_record_only() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "ada", json!({})).await;
    lead(&api, "bob", json!({ "external_id": "b" })).await;
    let email = queued(&api, "ada@example.com", Some((RecordType::Lead, id(&ada).parse().unwrap()))).await;
    let set = |filter: Value, set: Value| json!({ "filter": filter, "action": "update", "set": set });
    let refused =
        api.send(Method::POST, &format!("{LEADS}/bulk"), set(json!("all"), json!({ "external_id": "x" })), 400).await;
    assert_eq!(crate::support::faults(&refused), [("set.external_id", "not_unique")]);
    // Several records can be without a value.
    assert_eq!(counts(&bulk(&api, LEADS, set(json!("all"), json!({ "external_id": null }))).await), [2, 1, 1, 0]);

    let of_ada = json!({ "id": id(&ada) });
    let job = bulk(&api, LEADS, set(of_ada.clone(), json!({ "email": "bob@example.com" }))).await;
    assert_eq!(counts(&job), [1, 0, 0, 1]);
    assert_eq!(rejected(&api, &job).await, [(id(&ada).to_owned(), "taken".to_owned())]);
    assert_eq!(state(&api, email).await, "queued");
    let job = bulk(&api, LEADS, set(of_ada, json!({ "email": "countess@example.com" }))).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    // What is queued to the old address is not sent.
    assert_eq!(state(&api, email).await, "cancelled");
}

#[tokio::test]
async fn deleted_customers_come_back_with_what_was_deleted_with_them() {
    let (api, _worker) = start().await;
    let (ada, bob) = (customer(&api, "ada").await, customer(&api, "bob").await);
    let source = lead(&api, "ada", json!({})).await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{}", id(&ada)), json!({ "lead_id": id(&source) }), 200).await;
    let (first, second) = (order(&api, &ada).await, order(&api, &bob).await);
    let call = json!({ "type": "call", "subject": "s", "date": "2024-01-01" });
    let interactions = format!("{CUSTOMERS}/{}/interactions", id(&ada));
    let interaction = api.create(&interactions, call).await;

    let body = json!({ "filter": "all", "action": "delete", "confirm": 2 });
    let job = bulk(&api, CUSTOMERS, body).await;
    assert_eq!(counts(&job), [2, 2, 0, 0]);
    let mut effects = done(&api, &job).await;
    effects.sort();
    let together = [&ada, &bob, &first, &second, &interaction].map(|record| pair("deleted", record));
    let mut expected: Vec<_> = together.into_iter().chain([pair("updated", &source)]).collect();
    expected.sort();
    assert_eq!(effects, expected);
    for list in [CUSTOMERS, ORDERS] {
        assert_eq!(api.read(list).await, json!([]));
    }
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&source))).await["customer_id"], json!(null));

    let job = bulk(&api, CUSTOMERS, json!({ "filter": { "email": "ada@example.com" }, "action": "restore" })).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    let mut effects = done(&api, &job).await;
    effects.sort();
    let together = [&ada, &first, &interaction].map(|record| pair("restored", record));
    let mut expected: Vec<_> = together.into_iter().chain([pair("updated", &source)]).collect();
    expected.sort();
    assert_eq!(effects, expected);
    assert_eq!(api.read(&interactions).await.as_array().unwrap().len(), 1);
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&source))).await["customer_id"], ada["id"]);
    assert_eq!(api.read(&format!("{ORDERS}/{}", id(&first))).await["customer_id"], ada["id"]);
    api.delete(&format!("{ORDERS}/{}", id(&second)), 404).await;
    let job = bulk(&api, CUSTOMERS, json!({ "filter": { "deleted": true }, "action": "restore" })).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    assert_eq!(api.read(ORDERS).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn records_whose_place_is_taken_stay_deleted() {
    let (api, _worker) = start().await;
    let (ada, bob, eve) =
        (lead(&api, "ada", json!({})).await, lead(&api, "bob", json!({})).await, lead(&api, "eve", json!({})).await);
    bulk(&api, LEADS, json!({ "filter": "all", "action": "delete", "confirm": 3 })).await;
    lead(&api, "bob", json!({})).await;
    // An earlier lead with an email is in the way of a later one.
    let second = lead(&api, "eve", json!({})).await;
    api.delete(&format!("{LEADS}/{}", id(&second)), 204).await;
    for dry_run in [true, false] {
        let body = json!({ "filter": "all", "action": "restore", "dry_run": dry_run });
        let job = bulk(&api, LEADS, body).await;
        assert_eq!(counts(&job), [4, 2, 0, 2], "{job}");
        let taken = "taken".to_owned();
        let expected = [(id(&bob).to_owned(), taken.clone()), (id(&second).to_owned(), taken)];
        assert_eq!(rejected(&api, &job).await, expected);
    }
    for lead in [&ada, &eve] {
        api.read(&format!("{LEADS}/{}", id(lead))).await;
    }

    let (first, second) = (customer(&api, "one").await, customer(&api, "two").await);
    let (one, two) = (order(&api, &first).await, order(&api, &second).await);
    bulk(&api, ORDERS, json!({ "filter": "all", "action": "delete", "confirm": 2 })).await;
    api.delete(&format!("{CUSTOMERS}/{}", id(&first)), 204).await;
    let job = bulk(&api, ORDERS, json!({ "filter": "all", "action": "restore" })).await;
    assert_eq!(rejected(&api, &job).await, [(id(&one).to_owned(), "not_found".to_owned())]);
    assert_eq!(done(&api, &job).await, [pair("restored", &two)]);
}

#[tokio::test]
async fn leads_become_customers() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "ada", json!({ "company": "Analytical" })).await;
    let bob = lead(&api, "bob", json!({})).await;
    let eve = lead(&api, "eve", json!({})).await;
    let zoe = lead(&api, "zoe", json!({})).await;
    // Bob is a customer already, Eve's address belongs to another lead, and Zoe is converted.
    let known = customer(&api, "bob").await;
    let other = lead(&api, "other", json!({})).await;
    let of_other = customer(&api, "eve").await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{}", id(&of_other)), json!({ "lead_id": id(&other) }), 200).await;
    api.send(Method::POST, &format!("{LEADS}/{}/convert", id(&zoe)), json!({}), 201).await;
    let filter = json!({ "id": [id(&ada), id(&bob), id(&eve), id(&zoe)] });
    for dry_run in [true, false] {
        let body = json!({ "filter": filter, "action": "convert", "set": { "type": "business" }, "confirm": 4, "dry_run": dry_run });
        let job = bulk(&api, LEADS, body).await;
        assert_eq!(counts(&job), [4, 2, 0, 2]);
        let mut reasons = rejected(&api, &job).await;
        reasons.sort();
        let mut expected =
            vec![(id(&eve).to_owned(), "taken".to_owned()), (id(&zoe).to_owned(), "already_converted".to_owned())];
        expected.sort();
        assert_eq!(reasons, expected);
        assert_eq!(api.read(&format!("{LEADS}/{}", id(&ada))).await["customer_id"].is_null(), dry_run);
    }
    let customer = api.read(&format!("{CUSTOMERS}?email=ada@example.com")).await;
    assert_eq!((&customer[0]["type"], &customer[0]["company"]), (&json!("business"), &json!("Analytical")));
    assert_eq!(customer[0]["lead_id"], ada["id"]);
    let linked = api.read(&format!("{CUSTOMERS}/{}", id(&known))).await;
    assert_eq!((&linked["lead_id"], &linked["type"]), (&bob["id"], &json!("business")));
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&ada))).await["status"], "converted");
    let history = api.read(&format!("{CUSTOMERS}/{}/history", id(&customer[0]))).await;
    assert_eq!(history[0]["actor"], json!({ "type": "conversion", "id": id(&ada) }));
    assert_ne!(history[0]["actor"]["id"], NOBODY);
}
