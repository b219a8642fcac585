//! Leads are enrolled for nurture and unenrolled in bulk.

use reqwest::Method;
use serde_json::{Value, json};
use shared::records::RecordType;

use super::{CUSTOMERS, LEADS, bulk, counts, done, entries, lead, rejected, start};
use crate::emails::queued;
use crate::support::{self, Api, faults, id};
use crate::workflows::{put_settings, suppress};

fn request(action: &str, filter: Value) -> Value {
    json!({ "filter": filter, "action": action })
}

async fn left(api: &Api, lead: &Value) -> (bool, Value) {
    let lead = api.read(&format!("{LEADS}/{}", id(lead))).await;
    (!lead["nurture_enrolled_at"].is_null(), lead["nurture_left"].clone())
}

fn failed(lead: &Value, code: &str) -> (String, String) {
    (id(lead).to_owned(), code.to_owned())
}

#[tokio::test]
async fn only_again_brings_back_leads_that_left() {
    let (api, _worker) = start().await;
    let enrolled = lead(&api, "enrolled", json!({})).await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    let new = lead(&api, "new", json!({})).await;
    let out = lead(&api, "out", json!({})).await;
    let won = lead(&api, "won", json!({ "status": "won" })).await;
    let quiet = lead(&api, "quiet", json!({})).await;
    suppress(&api, "quiet@example.com").await;
    support::json(api.post(&format!("{LEADS}/{}/nurture/unenroll", id(&out))), 200).await;

    let mut dry = request("enroll", json!("all"));
    dry["dry_run"] = true.into();
    let job = bulk(&api, LEADS, dry).await;
    assert_eq!(counts(&job), [5, 1, 1, 3]);
    assert_eq!(left(&api, &new).await, (false, Value::Null));

    let job = bulk(&api, LEADS, request("enroll", json!("all"))).await;
    assert_eq!((counts(&job), entries(&api, &job).await), ([5, 1, 1, 3], (1, 1)));
    let mut reasons = rejected(&api, &job).await;
    reasons.sort();
    let mut expected = vec![failed(&out, "left_nurture"), failed(&won, "not_nurtured"), failed(&quiet, "suppressed")];
    expected.sort();
    assert_eq!(reasons, expected);
    assert_eq!(done(&api, &job).await, [("updated".to_owned(), id(&new).to_owned())]);
    for lead in [&enrolled, &new] {
        assert_eq!(left(&api, lead).await, (true, Value::Null));
    }

    let mut again = request("enroll", json!({ "status[ne]": "won" }));
    again["again"] = true.into();
    assert_eq!(counts(&bulk(&api, LEADS, again).await), [4, 1, 2, 1]);
    assert_eq!(left(&api, &out).await, (true, Value::Null));
}

#[tokio::test]
async fn unenrolling_cancels_emails_and_is_undone_without_them() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "ada", json!({})).await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    let bob = lead(&api, "bob", json!({})).await;
    let email = queued(&api, "ada@example.com", Some((RecordType::Lead, id(&ada).parse().unwrap()))).await;
    let job = bulk(&api, LEADS, request("unenroll", json!("all"))).await;
    assert_eq!(counts(&job), [2, 2, 0, 0]);
    assert_eq!(left(&api, &ada).await, (true, json!("unenrolled")));
    assert_eq!(left(&api, &bob).await, (false, json!("unenrolled")));
    assert_eq!(api.read(&format!("/dev/crm/emails/{email}")).await["state"], "cancelled");
    assert_eq!(counts(&bulk(&api, LEADS, request("unenroll", json!("all"))).await), [2, 0, 2, 0]);

    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 202).await;
    assert_eq!(api.ended(&undo).await["result"]["restored"], 2);
    assert_eq!(left(&api, &ada).await, (true, Value::Null));
    assert_eq!(left(&api, &bob).await, (false, Value::Null));
    assert_eq!(api.read(&format!("/dev/crm/emails/{email}")).await["state"], "cancelled");

    let job = bulk(&api, LEADS, request("enroll", json!({ "email": "bob@example.com" }))).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 202).await;
    assert_eq!(api.ended(&undo).await["result"]["restored"], 1);
    assert_eq!(left(&api, &bob).await, (false, Value::Null));
}

#[tokio::test]
async fn requests_are_checked() {
    let api = Api::start().await;
    for (list, body, fault) in [
        (CUSTOMERS, request("enroll", json!("all")), ("action", "invalid")),
        (LEADS, json!({ "filter": "all", "action": "enroll", "set": { "score": 1 } }), ("set", "invalid")),
        (LEADS, json!({ "filter": "all", "action": "enroll", "again": "yes" }), ("again", "invalid")),
        (LEADS, json!({ "filter": "all", "action": "unenroll", "again": true }), ("again", "invalid")),
    ] {
        let rejected = api.send(Method::POST, &format!("{list}/bulk"), body, 400).await;
        assert_eq!(faults(&rejected), [fault], "{rejected}");
    }
}
