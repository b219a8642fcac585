//! Records have the id of another system, which is unique among the records of a kind.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, each, faults, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const PRODUCT: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

/// The field and code of a conflict.
fn reason(answer: &Value) -> (&str, &str) {
    assert_eq!(answer["message"], "Resource already exists");
    (answer["errors"][0]["field"].as_str().unwrap(), answer["errors"][0]["code"].as_str().unwrap())
}

const TAKEN: (&str, &str) = ("external_id", "taken");

/// A body that creates a record: emails must differ.
fn body(mut fields: Value, external_id: &str) -> Value {
    fields["external_id"] = external_id.into();
    if fields.get("email").is_some() {
        fields["email"] = format!("{}@example.com", uuid::Uuid::now_v7()).into();
    }
    fields
}

/// The collections of each kind with an external id that callers create, and a body.
async fn collections(api: &Api) -> Vec<(String, Value)> {
    let person = json!({ "name": "Ada", "email": "" });
    let lead = api.create(LEADS, body(person.clone(), "a parent")).await;
    let customer = api.create(CUSTOMERS, body(person.clone(), "a parent")).await;
    vec![
        (LEADS.into(), person.clone()),
        (CUSTOMERS.into(), person),
        (format!("{LEADS}/{}/interactions", id(&lead)), json!({ "type": "call" })),
        (
            format!("{CUSTOMERS}/{}/interactions", id(&customer)),
            json!({ "type": "call", "subject": "s", "date": "2024-01-15" }),
        ),
        ("/dev/crm/orders".into(), json!({ "customer_id": id(&customer), "product_id": PRODUCT, "quantity": 1 })),
    ]
}

#[tokio::test]
async fn an_external_id_is_unique_among_the_records_of_a_kind() {
    let api = Api::start().await;
    for (path, fields) in collections(&api).await {
        let first = api.create(&path, body(fields.clone(), " A,17 ")).await;
        assert_eq!(first["external_id"], "A,17", "{path}");
        let found = api.read(&format!("{path}?external_id=A,17")).await;
        assert_eq!(each(&found, "id"), [id(&first)], "{path}");

        let again = api.send(Method::POST, &path, body(fields.clone(), "A,17"), 409).await;
        assert_eq!(reason(&again), TAKEN, "{path}");
        // Upper and lower case differ.
        let second = api.create(&path, body(fields.clone(), "a,17")).await;
        let place = format!("{path}/{}", id(&second));
        let again = api.send(Method::PUT, &place, json!({ "external_id": "A,17" }), 409).await;
        assert_eq!(reason(&again), TAKEN, "{path}");

        for (given, code) in
            [(json!("x".repeat(201)), "too_long"), (json!(17), "invalid"), (json!("a\u{0}"), "invalid")]
        {
            let rejected = api.send(Method::PUT, &place, json!({ "external_id": given }), 400).await;
            assert_eq!(faults(&rejected), [("external_id", code)], "{path}");
        }
        api.send(Method::PUT, &place, json!({ "external_id": "ü".repeat(200) }), 200).await;

        // Given up, it is free.
        let cleared = api.send(Method::PUT, &format!("{path}/{}", id(&first)), json!({ "external_id": "" }), 200).await;
        assert_eq!(cleared["external_id"], Value::Null, "{path}");
        let third = api.create(&path, body(fields.clone(), "A,17")).await;
        api.delete(&format!("{path}/{}", id(&third)), 204).await;
        api.create(&path, body(fields, "A,17")).await;
    }
    let api = api.on("globex").await;
    api.create(LEADS, body(json!({ "name": "Ada", "email": "" }), "A,17")).await;
}

#[tokio::test]
async fn interactions_with_different_leads_share_their_external_ids() {
    let api = Api::start().await;
    let lead = async || {
        let lead =
            api.create(LEADS, body(json!({ "name": "Ada", "email": "" }), &uuid::Uuid::now_v7().to_string())).await;
        format!("{LEADS}/{}/interactions", id(&lead))
    };
    let (one, other) = (lead().await, lead().await);
    let call = || body(json!({ "type": "call" }), "call-1");
    api.create(&one, call()).await;
    assert_eq!(reason(&api.send(Method::POST, &other, call(), 409).await), TAKEN);
}

#[tokio::test]
async fn a_restored_record_needs_its_external_id() {
    let api = Api::start().await;
    for path in [LEADS, CUSTOMERS] {
        let person = || body(json!({ "name": "Ada", "email": "" }), "7");
        let deleted = api.create(path, person()).await;
        let place = format!("{path}/{}", id(&deleted));
        api.delete(&place, 204).await;
        let other = api.create(path, person()).await;
        let restore = || api.post(&format!("{place}/restore"));
        assert_eq!(reason(&support::json(restore(), 409).await), TAKEN, "{path}");
        api.send(Method::PUT, &format!("{path}/{}", id(&other)), json!({ "external_id": null }), 200).await;
        assert_eq!(support::json(restore(), 200).await["external_id"], "7", "{path}");
    }

    // With its orders.
    let customer = api.create(CUSTOMERS, body(json!({ "name": "Bob", "email": "" }), "8")).await;
    let order =
        |customer: &Value| body(json!({ "customer_id": id(customer), "product_id": PRODUCT, "quantity": 1 }), "o-1");
    api.create("/dev/crm/orders", order(&customer)).await;
    let place = format!("{CUSTOMERS}/{}", id(&customer));
    api.delete(&place, 204).await;
    let other = api.read(CUSTOMERS).await[0].clone();
    let taken = api.create("/dev/crm/orders", order(&other)).await;
    assert_eq!(reason(&support::json(api.post(&format!("{place}/restore")), 409).await), TAKEN);
    api.delete(&format!("/dev/crm/orders/{}", id(&taken)), 204).await;
    support::json(api.post(&format!("{place}/restore")), 200).await;
    assert_eq!(api.read("/dev/crm/orders").await[0]["external_id"], "o-1");
}

#[tokio::test]
async fn a_conversion_may_set_the_external_id_of_the_customer() {
    let api = Api::start().await;
    let lead = api.create(LEADS, body(json!({ "name": "Ada", "email": "" }), "lead-7")).await;
    api.create(CUSTOMERS, body(json!({ "name": "Bob", "email": "" }), "taken")).await;
    let convert = async |external_id: &str, status: u16| {
        let path = format!("{LEADS}/{}/convert", id(&lead));
        api.send(Method::POST, &path, json!({ "external_id": external_id }), status).await
    };
    assert_eq!(reason(&convert("taken", 409).await), TAKEN);
    let converted = convert("customer-7", 201).await;
    assert_eq!(converted["customer"]["external_id"], "customer-7");
    assert_eq!(converted["lead"]["external_id"], "lead-7");
}

#[tokio::test]
async fn each_item_of_a_batch_needs_an_external_id_of_its_own() {
    let api = Api::start().await;
    for path in [LEADS, CUSTOMERS] {
        let person = |external_id: &str| body(json!({ "name": "Ada", "email": "" }), external_id);
        let present = api.create(path, person("1")).await;
        let change = |external_id: &str| json!({ "id": id(&present), "external_id": external_id });
        let items = json!([person("2"), person("2"), person("1"), change("2"), change("a\u{0}")]);
        let answer = api.send(Method::POST, &format!("{path}/batch"), json!({ "items": items }), 200).await;
        let results = answer["results"].as_array().unwrap();
        let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [201, 409, 409, 409, 400], "{path}: {answer}");
        assert_eq!(results[1]["error"]["errors"][0]["id"], results[0]["record"]["id"]);
        assert_eq!(results[2]["error"]["errors"][0]["id"], present["id"]);
    }
}

/// Imports a file; returns how many rows were created, updated, skipped and failed, and the faults.
async fn import(api: &Api, path: &str, query: &str, file: &str) -> (Value, [i64; 4], Vec<(i64, String)>) {
    let job = api.imported(&format!("{path}/import?{query}"), file.to_owned()).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let counts = ["created", "updated", "skipped", "failed"].map(|count| job["result"][count].as_i64().unwrap());
    let errors = api.read(&format!("/dev/crm/jobs/{}/errors", id(&job))).await;
    let fault = |error: &Value| {
        assert_eq!(error["code"], "taken", "{error}");
        (error["line"].as_i64().unwrap(), error["field"].as_str().unwrap().to_owned())
    };
    let faults = errors.as_array().unwrap().iter().map(fault).collect();
    (job, counts, faults)
}

#[tokio::test]
async fn an_import_takes_external_ids_and_rejects_taken_ones() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for path in [LEADS, CUSTOMERS] {
        let first = "name,email,external_id\nAda,ada@example.com,1\nBob,bob@example.com,\nCid,cid@example.com,3\n";
        assert_eq!(import(&api, path, "", first).await.1, [3, 0, 0, 0]);

        let file = "name,email,external_id\nDan,dan@example.com,1\nEve,eve@example.com,5\nFay,fay@example.com,5\n\
                    Ada,ada@example.com,9\n";
        let taken = vec![(2, "external_id".to_owned()), (4, "external_id".to_owned())];
        for query in ["dry_run=true", ""] {
            let (_, counts, faults) = import(&api, path, query, file).await;
            assert_eq!((counts, &faults), ([1, 0, 1, 2], &taken), "{path} {query}");
        }
        // An update sets and changes it, but only to a free one.
        let file = "name,email,external_id\nBob,bob@example.com,2\nCid,cid@example.com,1\nEve,eve@example.com,6\n\
                    Ada,ada@example.com,\n";
        let taken = vec![(3, "external_id".to_owned())];
        for query in ["on_conflict=update&dry_run=true", "on_conflict=update"] {
            let (_, counts, faults) = import(&api, path, query, file).await;
            assert_eq!((counts, &faults), ([0, 3, 0, 1], &taken), "{path} {query}");
        }
        let records = api.read(&format!("{path}?sort=email")).await;
        assert_eq!(each(&records, "external_id"), ["1", "2", "3", "6"], "{path}");
    }
}

#[tokio::test]
async fn an_export_imports_again_with_its_external_ids() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for path in [LEADS, CUSTOMERS] {
        let record = api.create(path, body(json!({ "name": "Ada", "email": "" }), "=7")).await;
        let file = api.get(&format!("{path}/export")).send().await.unwrap().text().await.unwrap();
        api.delete(&format!("{path}/{}", id(&record)), 204).await;
        assert_eq!(import(&api, path, "", &file).await.1, [1, 0, 0, 0], "{file}");
        let mut expected = record.clone();
        if path == LEADS {
            // An import enrols nobody.
            expected["nurture_enrolled_at"] = Value::Null;
        }
        assert_eq!(api.read(&format!("{path}/{}", id(&record))).await, expected);
    }
}

#[tokio::test]
async fn an_undo_leaves_a_record_whose_external_id_is_taken_by_now() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let first = "name,email,external_id\nAda,ada@example.com,1\nBob,bob@example.com,2\n";
    import(&api, LEADS, "", first).await;
    let second = "name,email,external_id\nAda,ada@example.com,11\nBob,bob@example.com,12\n";
    let (job, counts, _) = import(&api, LEADS, "on_conflict=update", second).await;
    assert_eq!(counts, [0, 2, 0, 0]);
    api.create(LEADS, body(json!({ "name": "Eve", "email": "" }), "1")).await;

    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 202).await;
    let undo = api.ended(&undo).await;
    assert_eq!((&undo["result"]["restored"], &undo["result"]["left"]), (&json!(1), &json!(1)), "{undo}");
    let left = api.read(&format!("/dev/crm/jobs/{}/errors", id(&undo))).await;
    assert_eq!((&left[0]["code"], &left[0]["row"]["email"]), (&json!("taken"), &json!("ada@example.com")));
    let of = async |email: &str| api.read(&format!("{LEADS}?email={email}")).await[0]["external_id"].clone();
    assert_eq!((of("ada@example.com").await, of("bob@example.com").await), (json!("11"), json!("2")));
}
