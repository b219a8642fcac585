//! The history of records, restored records, and imports that are undone.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

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
    assert_eq!(api.read(&format!("{path}/history")).await, json!([]));
    let change =
        api.request(Method::PUT, &path).header("x-request-id", "r-1").json(&json!({ "status": "won", "score": 7 }));
    let changed = support::json(change, 200).await;
    api.send(Method::PUT, &path, json!({ "status": "won" }), 200).await;
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(each(&history, "action"), ["updated"], "an update to the same value is not a change");
    let entry = &history[0];
    let won_at = json!({ "from": null, "to": changed["won_at"] });
    let changes =
        json!({ "status": { "from": "new", "to": "won" }, "score": { "from": 0, "to": 7 }, "won_at": won_at });
    assert_eq!(entry["changes"], changes, "derived fields are recorded as well");
    assert_eq!((&entry["actor"]["type"], &entry["request_id"]), (&json!("key"), &json!("r-1")));
    assert!(entry["created_at"].as_str() >= changed["updated_at"].as_str());

    api.delete(&path, 204).await;
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(each(&history, "action"), ["deleted", "updated"]);
    assert_eq!(history[0]["changes"]["email"], json!({ "from": lead["email"], "to": null }));
    assert!(history[0]["changes"].get("search_vector").is_none());
    let first = api.get(&format!("{path}/history?limit=1")).send().await.unwrap();
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(each(&api.read(next).await, "action"), ["updated"]);
    support::json(api.get(&format!("{LEADS}/0191d2c0-6f5e-4000-8000-00000000000a/history")), 404).await;
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
    assert!(pages.len() > 1 && pages.iter().sum::<usize>() == 60, "{pages:?}");
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
    assert_eq!(support::json(api.post(&restore), 200).await, lead);
    assert_eq!(api.read(&path).await, lead);
    assert_eq!(api.read(&format!("{path}/interactions")).await, json!([interaction]));
    assert_eq!(each(&api.read(&format!("{LEADS}?q=ada")).await, "name"), ["Ada"]);
    assert_eq!(each(&api.read(&format!("{path}/history")).await, "action"), ["restored", "deleted"]);

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
    let age = "UPDATE history SET created_at = created_at - interval '30 days 1 minute'";
    sqlx::query(age).execute(&mut connection).await.unwrap();
    support::json(api.post(&format!("{path}/restore")), 404).await;
    let (restored, _) = lead(&api, "bob@example.com").await;
    api.delete(&restored, 204).await;
    support::json(api.post(&format!("{restored}/restore")), 200).await;
    sqlx::query(age).execute(&mut connection).await.unwrap();
    assert_eq!(shared::records::history::prune(&mut connection, 10).await.unwrap(), 2);
    assert_eq!(each(&api.read(&format!("{restored}/history")).await, "action"), ["restored", "deleted"]);
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
    assert_eq!(undone["result"], json!({ "removed": 2, "restored": 1, "left": 3 }));
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
