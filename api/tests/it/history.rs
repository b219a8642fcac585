//! The history of records, restored records, and imports that are undone.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::{Process, earlier};

use crate::support::{self, Api, each, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";

async fn lead(api: &Api, email: &str) -> (String, Value) {
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": email })).await;
    (format!("{LEADS}/{}", id(&lead)), lead)
}

#[tokio::test]
async fn each_change_records_what_who_and_when() {
    let api = Api::start().await;
    let (path, lead) = lead(&api, "ada@example.com").await;
    assert_eq!(each(&api.read(&format!("{path}/history")).await, "action"), ["created"]);
    let change =
        api.request(Method::PUT, &path).header("x-request-id", "r-1").json(&json!({ "status": "won", "score": 7 }));
    let changed = support::json(change, 200).await;
    api.send(Method::PUT, &path, json!({ "status": "won" }), 200).await;
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(each(&history, "action"), ["updated", "created"], "an update to the same value is not a change");
    let entry = &history[0];
    let won_at = json!({ "from": null, "to": changed["won_at"] });
    let left = json!({ "from": null, "to": "won" });
    let changes = json!({ "status": { "from": "new", "to": "won" }, "score": { "from": 0, "to": 7 },
        "won_at": won_at, "nurture_left": left, "nurture_left_at": won_at });
    assert_eq!(entry["changes"], changes, "derived fields are recorded as well");
    assert_eq!((&entry["actor"]["type"], &entry["request_id"]), (&json!("key"), &json!("r-1")));
    assert!(entry["created_at"].as_str() >= changed["updated_at"].as_str());

    api.delete(&path, 204).await;
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(each(&history, "action"), ["deleted", "updated", "created"]);
    assert_eq!(history[0]["changes"]["email"], json!({ "from": lead["email"], "to": null }));
    assert!(history[0]["changes"].get("search_vector").is_none());
    let first = api.get(&format!("{path}/history?limit=1")).send().await.unwrap();
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(each(&api.read(next).await, "action"), ["updated"]);
    support::json(api.get(&format!("{LEADS}/0191d2c0-6f5e-4000-8000-00000000000a/history")), 404).await;
}

/// The creation, which is the last entry of a record's history.
async fn creation(api: &Api, path: &str) -> Value {
    let history = api.read(&format!("{path}/history")).await;
    let last = history.as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["action"], &last["changes"]), (&json!("created"), &json!({})));
    last
}

#[tokio::test]
async fn the_history_begins_with_the_creation_and_who_made_it() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let (path, lead) = lead(&api, "ada@example.com").await;
    let created = creation(&api, &path).await;
    assert_eq!((&created["id"], &created["created_at"]), (&lead["id"], &lead["created_at"]));
    let mut connection = api.connection().await;
    let key: uuid::Uuid = sqlx::query_scalar("SELECT id FROM api_keys").fetch_one(&mut connection).await.unwrap();
    let by_key = json!({ "type": "key", "id": key });
    assert_eq!(created["actor"], by_key);

    // In each way to create one.
    let customer = json!({ "name": "Bob", "email": "bob@example.com" });
    let customer = api.create(&format!("{CUSTOMERS}?on_conflict=update"), customer).await;
    let order = json!({ "customer_id": id(&customer), "product_id": id(&customer), "quantity": 1 });
    let order = api.send(Method::POST, "/dev/crm/orders/batch", json!({ "items": [order] }), 200).await;
    let order = order["results"][0]["record"].clone();
    let many: Vec<Value> = (0..150).map(|n| json!({ "name": "x", "email": format!("x{n}@example.com") })).collect();
    let many = api.send(Method::POST, &format!("{LEADS}/batch"), json!({ "items": many }), 200).await;
    let asked = support::json(api.post(&format!("{CUSTOMERS}/{}/feedback/request", id(&customer))), 202).await;
    for path in [
        format!("{CUSTOMERS}/{}", id(&customer)),
        format!("/dev/crm/orders/{}", id(&order)),
        format!("{LEADS}/{}", id(&many["results"][149]["record"])),
        format!("/dev/crm/feedback/{}", asked["subject"]["id"].as_str().unwrap()),
    ] {
        assert_eq!(creation(&api, &path).await["actor"], by_key, "{path}");
    }
    let converted = api.create(&format!("{path}/convert"), json!({})).await;
    let by_conversion = json!({ "type": "conversion", "id": lead["id"] });
    let customer = format!("{CUSTOMERS}/{}", id(&converted["customer"]));
    assert_eq!(creation(&api, &customer).await["actor"], by_conversion);

    // A deleted and a restored record have the same creation.
    api.delete(&customer, 204).await;
    assert_eq!(creation(&api, &customer).await["actor"], by_conversion);
    support::json(api.post(&format!("{customer}/restore")), 200).await;
    assert_eq!(creation(&api, &customer).await["actor"], by_conversion);

    // A record of an older version.
    let forget = "UPDATE leads SET created_by_type = NULL, created_by_id = NULL";
    sqlx::query(forget).execute(&mut connection).await.unwrap();
    assert_eq!(creation(&api, &path).await["actor"], Value::Null);
}

#[tokio::test]
async fn an_imported_record_names_its_import() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for path in [LEADS, CUSTOMERS] {
        let file = "name,email,created_at\nAda,ada@example.com,2020-01-02\n";
        let job = api.imported(&format!("{path}/import"), file).await;
        let record = api.read(path).await[0].clone();
        let created = creation(&api, &format!("{path}/{}", id(&record))).await;
        assert_eq!(created["actor"], json!({ "type": "import", "id": job["id"] }));
        assert_eq!(created["created_at"], "2020-01-02T00:00:00Z");
    }
}

#[tokio::test]
async fn the_creation_has_a_place_on_the_last_page() {
    let api = Api::start().await;
    let (path, _) = lead(&api, "ada@example.com").await;
    api.send(Method::PUT, &path, json!({ "notes": "1" }), 200).await;
    api.send(Method::PUT, &path, json!({ "notes": "2" }), 200).await;
    for (limit, expected) in [(1, vec![1, 1, 1]), (2, vec![2, 1]), (3, vec![3]), (4, vec![3])] {
        let (mut pages, mut actions) = (Vec::new(), Vec::new());
        let mut next = Some(format!("{path}/history?limit={limit}"));
        while let Some(page) = next {
            let answer = api.get(&page).send().await.unwrap();
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
            let page: Value = answer.json().await.unwrap();
            pages.push(page.as_array().unwrap().len());
            actions.extend(each(&page, "action").into_iter().map(str::to_owned));
        }
        assert_eq!((pages, actions), (expected, ["updated", "updated", "created"].map(str::to_owned).to_vec()));
    }
}

#[tokio::test]
async fn orders_and_feedback_are_restored_on_their_own() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let customer = api.create(CUSTOMERS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let customer_path = format!("{CUSTOMERS}/{}", id(&customer));
    let order = json!({ "customer_id": id(&customer), "product_id": id(&customer), "quantity": 3 });
    let order = api.create("/dev/crm/orders", order).await;
    let request = || api.post(&format!("{customer_path}/feedback/request"));
    let asked = support::json(request(), 202).await;
    let feedback = format!("/dev/crm/feedback/{}", asked["subject"]["id"].as_str().unwrap());
    let asked = api.read(&feedback).await;

    for (path, record) in [(format!("/dev/crm/orders/{}", id(&order)), order), (feedback.clone(), asked)] {
        let restore = || api.post(&format!("{path}/restore"));
        assert_eq!(support::json(restore(), 409).await["errors"][0]["code"], "not_deleted");
        api.delete(&path, 204).await;
        support::json(api.get(&path), 404).await;
        api.delete(&path, 404).await;
        assert_eq!(support::json(restore(), 200).await, record);
        assert_eq!(api.read(&path).await, record);
        let history = api.read(&format!("{path}/history?limit=2")).await;
        assert_eq!(each(&history, "action"), ["restored", "deleted"]);

        // Without its customer, it stays deleted.
        api.delete(&path, 204).await;
        api.delete(&customer_path, 204).await;
        let missing = support::json(restore(), 404).await;
        assert_eq!(
            (&missing["errors"][0]["field"], &missing["errors"][0]["code"]),
            (&json!("customer_id"), &json!("not_found"))
        );
        support::json(api.post(&format!("{customer_path}/restore")), 200).await;
        support::json(api.get(&path), 404).await;
        support::json(restore(), 200).await;
    }

    // A customer has one open request.
    api.delete(&feedback, 204).await;
    support::json(request(), 202).await;
    let open = support::json(api.post(&format!("{feedback}/restore")), 409).await;
    assert_eq!(open["errors"][0]["code"], "open_request");
}

#[tokio::test]
async fn pages_of_large_changes_are_limited_in_size() {
    let api = Api::start().await;
    let (path, _) = lead(&api, "ada@example.com").await;
    for change in 0..60 {
        let notes = ["ü", "ö"][change % 2].repeat(10_000);
        api.send(Method::PUT, &path, json!({ "notes": notes }), 200).await;
    }
    let (mut pages, mut ids) = (Vec::new(), Vec::new());
    let mut next = Some(format!("{path}/history?limit=1000"));
    while let Some(page) = next {
        let answer = api.get(&page).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        assert!(text.len() < 1_200_000, "{}", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        pages.push(page.as_array().unwrap().len());
        ids.extend(each(&page, "id").into_iter().map(str::to_owned));
    }
    assert!(pages.len() > 1 && pages.iter().sum::<usize>() == 60 + 1, "{pages:?}");
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
}

#[tokio::test]
async fn a_lead_is_restored_with_its_interactions() {
    let api = Api::start().await;
    let (path, lead) = lead(&api, "ada@example.com").await;
    let interaction = api.create(&format!("{path}/interactions"), json!({ "type": "call", "notes": "n" })).await;
    let restore = format!("{path}/restore");
    support::json(api.post(&restore), 409).await;
    api.delete(&path, 204).await;
    support::json(api.get(&format!("{path}/interactions")), 404).await;
    let restored = support::json(api.post(&restore), 200).await;
    // All is as before, except that it has left the nurture sequence.
    let mut expected = lead;
    expected["nurture_left"] = "deleted".into();
    expected["nurture_left_at"] = restored["nurture_left_at"].clone();
    assert_eq!(restored, expected);
    assert_eq!(api.read(&path).await, expected);
    assert_eq!(api.read(&format!("{path}/interactions")).await, json!([interaction]));
    assert_eq!(each(&api.read(&format!("{LEADS}?q=ada")).await, "name"), ["Ada"]);
    assert_eq!(each(&api.read(&format!("{path}/history")).await, "action"), ["restored", "deleted", "created"]);

    // The lead can be deleted again, but not restored once another lead has its email.
    api.delete(&path, 204).await;
    api.create(LEADS, json!({ "name": "Else", "email": "ADA@example.com" })).await;
    support::json(api.post(&restore), 409).await;
    support::json(api.post(&format!("{LEADS}/0191d2c0-6f5e-4000-8000-00000000000a/restore")), 404).await;
}

#[tokio::test]
async fn a_customer_is_restored_with_its_dependent_records() {
    let api = Api::start().await;
    let (lead_path, lead) = lead(&api, "ada@example.com").await;
    let converted = api.create(&format!("{lead_path}/convert"), json!({})).await;
    let customer = &converted["customer"];
    let path = format!("{CUSTOMERS}/{}", id(customer));
    let body = json!({ "type": "call", "subject": "s", "date": "2024-01-01" });
    let interaction = api.create(&format!("{path}/interactions"), body).await;
    let body = json!({ "customer_id": id(customer), "product_id": id(customer), "quantity": 3 });
    let order = api.create("/dev/crm/orders", body).await;

    api.delete(&path, 204).await;
    assert_eq!(api.read(&lead_path).await["customer_id"], Value::Null);
    support::json(api.get(&format!("/dev/crm/orders/{}", id(&order))), 404).await;
    assert_eq!(&support::json(api.post(&format!("{path}/restore")), 200).await, customer);
    assert_eq!(api.read(&format!("{path}/interactions")).await, json!([interaction]));
    assert_eq!(api.read(&format!("/dev/crm/orders/{}", id(&order))).await, order);
    assert_eq!(api.read(&lead_path).await["customer_id"], customer["id"]);

    // The link to a lead that has another customer is not restored.
    api.delete(&path, 204).await;
    api.create(CUSTOMERS, json!({ "name": "New", "email": "new@example.com", "lead_id": id(&lead) })).await;
    assert_eq!(support::json(api.post(&format!("{path}/restore")), 200).await["lead_id"], Value::Null);
    // Neither is a lead's link to a deleted customer.
    api.delete(&lead_path, 204).await;
    let new = api.read(&format!("{CUSTOMERS}?email=new@example.com")).await;
    assert_eq!(new[0]["lead_id"], Value::Null);
    api.delete(&format!("{CUSTOMERS}/{}", id(&new[0])), 204).await;
    assert_eq!(support::json(api.post(&format!("{lead_path}/restore")), 200).await["customer_id"], Value::Null);
}

#[tokio::test]
async fn a_deleted_record_cannot_be_restored_after_thirty_days() {
    let api = Api::start().await;
    let (path, _) = lead(&api, "ada@example.com").await;
    api.send(Method::PUT, &path, json!({ "notes": "n" }), 200).await;
    api.delete(&path, 204).await;
    let mut connection = api.connection().await;
    let age = format!("UPDATE history SET {}", earlier("created_at", "30 days 1 minute"));
    sqlx::query(AssertSqlSafe(age.clone())).execute(&mut connection).await.unwrap();
    support::json(api.post(&format!("{path}/restore")), 404).await;
    let (restored, _) = lead(&api, "bob@example.com").await;
    api.delete(&restored, 204).await;
    support::json(api.post(&format!("{restored}/restore")), 200).await;
    sqlx::query(AssertSqlSafe(age.clone())).execute(&mut connection).await.unwrap();
    assert_eq!(shared::records::history::prune(&mut connection, 10).await.unwrap(), 2);
    assert_eq!(each(&api.read(&format!("{restored}/history")).await, "action"), ["restored", "deleted", "created"]);
    support::json(api.get(&format!("{path}/history")), 404).await;
}

#[tokio::test]
async fn undoing_an_import_leaves_records_that_were_changed_after_it() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let (changed_path, changed) = lead(&api, "changed@example.com").await;
    let (kept_path, _) = lead(&api, "kept@example.com").await;
    let file = "name,email,company\n\
                New,new1@example.com,A\nNew,new2@example.com,A\nNew,new3@example.com,A\nNew,new4@example.com,A\n\
                Changed,changed@example.com,A\nChanged twice,changed@example.com,B\nKept,kept@example.com,A\n";
    let job = api.imported(&format!("{LEADS}/import?on_conflict=update"), file).await;
    assert_eq!((&job["result"]["created"], &job["result"]["updated"]), (&json!(4), &json!(3)));
    let found = async |email: &str| api.read(&format!("{LEADS}?email={email}")).await[0].clone();

    // Two of the created records and one of the updated ones are changed after the import.
    let touched = found("new2@example.com").await;
    api.send(Method::PUT, &format!("{LEADS}/{}", id(&touched)), json!({ "score": 9 }), 200).await;
    let called = found("new3@example.com").await;
    api.create(&format!("{LEADS}/{}/interactions", id(&called)), json!({ "type": "call" })).await;
    api.send(Method::PUT, &kept_path, json!({ "score": 9 }), 200).await;

    let undo = format!("/dev/crm/jobs/{}/undo", id(&job));
    let undone = support::json(api.post(&undo), 202).await;
    assert_eq!((&undone["kind"], &undone["subject"]["id"]), (&json!("undo_import"), &job["id"]));
    let undone = api.ended(&undone).await;
    assert_eq!(undone["status"], "succeeded", "{undone}");
    assert_eq!(undone["result"], json!({ "removed": 2, "restored": 1, "left": 3, "unsuppressed": 0 }));
    let left = api.read(&format!("/dev/crm/jobs/{}/errors", id(&undone))).await;
    let mut emails: Vec<&str> =
        left.as_array().unwrap().iter().map(|row| row["row"]["email"].as_str().unwrap()).collect();
    emails.sort_unstable();
    assert_eq!(emails, ["kept@example.com", "new2@example.com", "new3@example.com"]);

    let now = api.read(&changed_path).await;
    assert_eq!((&now["name"], &now["company"]), (&changed["name"], &Value::Null));
    assert_eq!(api.read(&kept_path).await["name"], "Kept");
    assert_eq!(
        each(&api.read(&format!("{LEADS}?sort=email")).await, "email"),
        ["changed@example.com", "kept@example.com", "new2@example.com", "new3@example.com"]
    );
    // Undoing again finds nothing more to do.
    let again = api.ended(&support::json(api.post(&undo), 202).await).await;
    assert_eq!((&again["result"]["removed"], &again["result"]["restored"]), (&json!(0), &json!(0)));
    support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&undone))), 409).await;
}
