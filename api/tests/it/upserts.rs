//! A `POST` with `on_conflict=update` updates the record that exists.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, each, faults, id, json as answer};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const ORDERS: &str = "/dev/crm/orders";
const PEOPLE: [&str; 2] = [LEADS, CUSTOMERS];
const NOBODY: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

async fn upsert(api: &Api, path: &str, body: Value, status: u16) -> Value {
    api.send(Method::POST, &format!("{path}?on_conflict=update"), body, status).await
}

async fn upserts(api: &Api, path: &str, items: Value) -> Vec<Value> {
    let body = json!({ "items": items });
    let results = api.send(Method::POST, &format!("{path}/batch?on_conflict=update"), body, 200).await;
    results["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

fn person(name: &str, email: &str, external_id: Option<&str>) -> Value {
    let mut person = json!({ "name": name, "email": email });
    if let Some(external_id) = external_id {
        person["external_id"] = external_id.into();
    }
    person
}

/// The field, code and conflicting record of a 409.
fn taken(answer: &Value) -> (&str, &str, &str) {
    let error = &answer["errors"][0];
    let text = |field: &str| error[field].as_str().unwrap();
    (text("field"), text("code"), text("id"))
}

#[tokio::test]
async fn a_record_is_created_once_and_then_updated() {
    let api = Api::start().await;
    for path in PEOPLE {
        let mut body = person("Ada", "ada@example.com", None);
        body["phone"] = "1".into();
        body["notes"] = "n".into();
        let response = api.post(&format!("{path}?on_conflict=update")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let created: Value = response.json().await.unwrap();
        assert_eq!(location, format!("{path}/{}", id(&created)));
        let place = format!("{path}/{}", id(&created));
        let status = if path == LEADS { "won" } else { "inactive" };
        api.send(Method::PUT, &place, json!({ "status": status }), 200).await;

        // Absent fields stay, also those that have a default for a new record; null clears.
        let body = json!({ "name": "Countess", "email": "ADA@example.com", "notes": null });
        let response = api.post(&format!("{path}?on_conflict=update")).json(&body).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().contains_key("etag")), (200, true));
        let updated: Value = response.json().await.unwrap();
        assert_eq!(api.read(&place).await, updated);
        assert_eq!((id(&updated), &updated["created_at"]), (id(&created), &created["created_at"]));
        let fields = ["name", "email", "phone", "notes", "status"].map(|field| updated[field].clone());
        assert_eq!(fields, [json!("Countess"), json!("ADA@example.com"), json!("1"), Value::Null, json!(status)]);
        // The same body again changes nothing.
        assert_eq!(upsert(&api, path, body, 200).await, updated);
        let changes = api.read(&format!("{place}/history")).await;
        assert_eq!(changes[0]["changes"]["name"], json!({ "from": "Ada", "to": "Countess" }));
        assert_eq!(api.read(path).await.as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_external_id_comes_before_the_email() {
    let api = Api::start().await;
    for path in PEOPLE {
        let ada = upsert(&api, path, person("Ada", "ada@example.com", Some("1")), 201).await;
        let bob = upsert(&api, path, person("Bob", "bob@example.com", None), 201).await;
        // Found by the external id, it gets the email.
        let moved = upsert(&api, path, person("Ada", "ada@moved.example", Some("1")), 200).await;
        assert_eq!((id(&moved), &moved["email"]), (id(&ada), &json!("ada@moved.example")));
        // Found by the email, it gets the external id.
        let known = upsert(&api, path, person("Bob", "Bob@example.com", Some("2")), 200).await;
        assert_eq!((id(&known), &known["external_id"]), (id(&bob), &json!("2")));

        // The two name different records.
        let both = upsert(&api, path, person("x", "bob@example.com", Some("1")), 409).await;
        assert_eq!(taken(&both), ("email", "taken", id(&bob)));
        // The email's record has another external id.
        let another = upsert(&api, path, person("x", "bob@example.com", Some("3")), 409).await;
        assert_eq!(taken(&another), ("email", "taken", id(&bob)));
        // Without an external id, the body says nothing about it.
        let updated = upsert(&api, path, person("Robert", "bob@example.com", None), 200).await;
        assert_eq!((id(&updated), &updated["external_id"]), (id(&bob), &json!("2")));

        // Deleted records are not found.
        api.delete(&format!("{path}/{}", id(&bob)), 204).await;
        let new = upsert(&api, path, person("Bob", "bob@example.com", Some("2")), 201).await;
        assert_ne!(id(&new), id(&bob));
    }
}

#[tokio::test]
async fn the_body_must_be_valid_for_a_creation() {
    let api = Api::start().await;
    for path in PEOPLE {
        let ada = upsert(&api, path, person("Ada", "ada@example.com", Some("1")), 201).await;
        let body = json!({ "email": "ada@example.com", "external_id": "1", "id": id(&ada), "phone": 7 });
        let rejected = upsert(&api, path, body, 400).await;
        let mut reported = faults(&rejected);
        reported.sort_unstable();
        assert_eq!(reported, [("id", "read_only"), ("name", "required"), ("phone", "invalid")]);
        let body = person("Ada", "ada@example.com", None);
        for (query, fault) in [
            ("on_conflict=merge", ("on_conflict", "invalid")),
            ("on_conflict=update&on_conflict=update", ("on_conflict", "duplicate")),
            ("on_conflicts=update", ("on_conflicts", "unknown")),
        ] {
            let rejected = api.send(Method::POST, &format!("{path}?{query}"), body.clone(), 400).await;
            assert_eq!(faults(&rejected), [fault]);
        }
        api.send(Method::POST, &format!("{path}?on_conflict=fail"), body, 409).await;
    }
    // Users and interactions have none.
    let lead = api.read(LEADS).await[0].clone();
    for (path, body) in [
        ("/dev/crm/users".to_owned(), person("Ada", "ada@example.com", None)),
        (format!("{LEADS}/{}/interactions", id(&lead)), json!({ "type": "call" })),
    ] {
        let rejected = api.send(Method::POST, &format!("{path}?on_conflict=update"), body, 400).await;
        assert_eq!(faults(&rejected), [("on_conflict", "unknown")]);
    }
}

#[tokio::test]
async fn an_order_is_found_by_its_external_id_alone() {
    let api = Api::start().await;
    let customer = api.create(CUSTOMERS, person("Ada", "ada@example.com", None)).await;
    let order =
        |customer: &str, quantity: i64| json!({ "customer_id": customer, "product_id": NOBODY, "quantity": quantity });
    let with_id = |customer: &str, quantity: i64| {
        let mut order = order(customer, quantity);
        order["external_id"] = "1001".into();
        order
    };
    let ada = id(&customer);
    upsert(&api, ORDERS, order(ada, 1), 201).await;
    upsert(&api, ORDERS, order(ada, 1), 201).await;
    let first = upsert(&api, ORDERS, with_id(ada, 1), 201).await;
    let again = upsert(&api, ORDERS, with_id(ada, 2), 200).await;
    assert_eq!((id(&again), &again["quantity"], &again["order_date"]), (id(&first), &json!(2), &first["order_date"]));
    let missing = upsert(&api, ORDERS, with_id(NOBODY, 3), 404).await;
    assert_eq!(missing["errors"][0]["field"], "customer_id");
    assert_eq!(api.read(ORDERS).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn twenty_at_once_make_one_record() {
    let api = Api::start().await;
    let customer = api.create(CUSTOMERS, person("Cid", "cid@example.com", None)).await;
    let order = json!({ "customer_id": id(&customer), "product_id": NOBODY, "quantity": 1, "external_id": "1001" });
    for (path, body) in [
        (LEADS, person("Ada", "ada@example.com", None)),
        (CUSTOMERS, person("Ada", "ada@example.com", None)),
        (LEADS, person("Bob", "bob@example.com", Some("1"))),
        (CUSTOMERS, person("Bob", "bob@example.com", Some("1"))),
        (ORDERS, order),
    ] {
        let before = api.read(path).await.as_array().unwrap().len();
        let at_once = (0..20).map(|n| {
            let mut body = body.clone();
            body["notes"] = format!("note {n}").into();
            api.post(&format!("{path}?on_conflict=update")).json(&body).send()
        });
        let mut statuses: Vec<u16> =
            join_all(at_once).await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!((&statuses[..19], statuses[19]), (&[200; 19][..], 201), "{path}");
        assert_eq!(api.read(path).await.as_array().unwrap().len(), before + 1, "{path}");
    }
}

#[tokio::test]
async fn an_idempotency_key_replays_the_creation_and_the_update() {
    let api = Api::start().await;
    let send = async |key: &str, name: &str, status: u16| {
        let request = api.post(&format!("{LEADS}?on_conflict=update")).header("idempotency-key", key);
        let response = request.json(&person(name, "ada@example.com", None)).send().await.unwrap();
        let replayed = response.headers().contains_key("idempotent-replayed");
        assert_eq!(response.status(), status);
        (replayed, response.text().await.unwrap())
    };
    let (_, created) = send("c", "Ada", 201).await;
    let (_, updated) = send("u", "Countess", 200).await;
    assert_eq!(send("c", "Ada", 201).await, (true, created));
    assert_eq!(send("u", "Countess", 200).await, (true, updated));
    assert_eq!(each(&api.read(LEADS).await, "name"), ["Countess"]);
    // The parameter is a part of the request.
    let without = api.post(LEADS).header("idempotency-key", "c").json(&person("Ada", "ada@example.com", None));
    answer(without, 422).await;
}

#[tokio::test]
async fn a_later_item_of_a_batch_updates_what_an_earlier_one_created() {
    let api = Api::start().await;
    for path in PEOPLE {
        let ada = api.create(path, person("Ada", "ada@example.com", Some("1"))).await;
        let mut noted = person("Bob", "BOB@example.com", None);
        noted["notes"] = "n".into();
        let items = json!([
            person("Bob", "bob@example.com", None),
            noted,
            person("Countess", "ada@example.com", None),
            person("Robert", "bob@example.com", Some("2")),
            person("x", "bob@example.com", Some("1")),
            person("", "eve@example.com", None),
            person("x", "ada@example.com", Some("3")),
            { "id": id(&ada), "email": "ada@moved.example" },
            // Given up only at the end of the batch.
            person("x", "ada@example.com", None),
        ]);
        let results = upserts(&api, path, items).await;
        assert_eq!(statuses(&results), [201, 200, 200, 200, 409, 400, 409, 200, 409], "{path}");
        let bob = &results[3]["record"];
        assert_eq!(id(bob), id(&results[0]["record"]));
        let fields = ["name", "email", "notes", "external_id"].map(|field| bob[field].clone());
        assert_eq!(fields, ["Robert", "bob@example.com", "n", "2"].map(Value::from));
        assert_eq!(&api.read(&format!("{path}/{}", id(bob))).await, bob);
        assert_eq!(taken(&results[4]["error"]), ("email", "taken", id(bob)));
        assert_eq!(taken(&results[6]["error"]), ("email", "taken", id(&ada)));
        let moved = &results[7]["record"];
        assert_eq!((&moved["name"], &moved["email"]), (&json!("Countess"), &json!("ada@moved.example")));
        assert_eq!(&api.read(&format!("{path}/{}", id(&ada))).await, moved);
        assert_eq!(api.read(path).await.as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_rejected_item_of_a_batch_leaves_no_trace() {
    let api = Api::start().await;
    let customer = api.create(CUSTOMERS, person("Ada", "ada@example.com", None)).await;
    let order = |customer: &str, quantity: i64| json!({ "customer_id": customer, "product_id": NOBODY, "quantity": quantity, "external_id": "1001" });
    let items = json!([order(NOBODY, 1), order(id(&customer), 2), order(NOBODY, 3), order(id(&customer), 4)]);
    let results = upserts(&api, ORDERS, items).await;
    assert_eq!(statuses(&results), [404, 201, 404, 200]);
    let orders = api.read(ORDERS).await;
    assert_eq!((orders.as_array().unwrap().len(), &orders[0]["quantity"]), (1, &json!(4)));
    assert_eq!(orders[0], results[3]["record"]);
}

#[tokio::test]
async fn an_update_writes_the_other_side_of_a_link() {
    let api = Api::start().await;
    let lead = api.create(LEADS, person("Ada", "ada@example.com", None)).await;
    let customer = api.create(CUSTOMERS, person("Ada", "ada@example.com", None)).await;
    let mut linked = person("Ada", "ada@example.com", None);
    linked["lead_id"] = id(&lead).into();
    upsert(&api, CUSTOMERS, linked, 200).await;
    let lead = api.read(&format!("{LEADS}/{}", id(&lead))).await;
    assert_eq!(lead["customer_id"], id(&customer));
}

#[tokio::test]
async fn concurrent_batches_update_what_another_created() {
    let api = Api::start().await;
    let items = |reverse: bool| {
        let mut items: Vec<Value> = (0..100)
            .map(|n| {
                person(
                    "x",
                    &format!("x{n}@example.com"),
                    Some(&n.to_string()).filter(|_| n % 2 == 0).map(|n| n.as_str()),
                )
            })
            .collect();
        if reverse {
            items.reverse();
        }
        json!(items)
    };
    let answers = join_all((0..6).map(|n| upserts(&api, LEADS, items(n % 2 == 0)))).await;
    let count = |status: u64| answers.iter().flat_map(|results| statuses(results)).filter(|one| *one == status).count();
    assert_eq!((count(201), count(200)), (100, 500));
}
