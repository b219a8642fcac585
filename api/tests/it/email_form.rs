//! Emails are compared by their normal form, wherever they are compared.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, each, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const USERS: &str = "/dev/crm/users";
const SUPPRESSIONS: &str = "/dev/crm/suppressions";

/// Pairs of emails that are the same.
const SAME: [(&str, &str); 6] = [
    ("USER@EXAMPLE.COM.", "user@example.com"),
    ("\u{17f}am@example.com", "SAM@example.com"),
    ("Jose\u{301}@example.com", "JOS\u{c9}@example.com"),
    ("a@m\u{fc}nchen.de", "A@XN--MNCHEN-3YA.de"),
    ("stra\u{df}e@example.com", "STRA\u{1e9e}E@example.com"),
    ("a@fa\u{df}.de", "a@xn--fa-hia.de."),
];

/// Pairs of emails that are different, although some systems confuse them.
const DIFFERENT: [(&str, &str); 4] = [
    ("gro\u{df}@example.com", "gross@example.com"),
    ("\u{130}@example.com", "i\u{307}@example.com"),
    ("\u{fb01}@example.com", "fi@example.com"),
    ("b@fa\u{df}.de", "b@fass.de"),
];

fn person(email: &str) -> Value {
    json!({ "name": "Ann", "email": email })
}

fn body(path: &str, email: &str) -> Value {
    if path == SUPPRESSIONS { json!({ "email": email }) } else { person(email) }
}

async fn found(api: &Api, path: &str, email: &str) -> Value {
    let url = reqwest::Url::parse_with_params(&api.url(path), [("email", email)]).unwrap();
    api.read(&format!("{path}?{}", url.query().unwrap())).await
}

#[tokio::test]
async fn an_email_is_unique_and_found_by_its_normal_form() {
    let api = Api::start().await;
    for path in [LEADS, CUSTOMERS, USERS, SUPPRESSIONS] {
        for (one, other) in SAME {
            let created = api.create(path, body(path, one)).await;
            assert_eq!(created["email"], one, "an email is returned as it was written");
            api.send(Method::POST, path, body(path, other), 409).await;
            for email in [one, other] {
                assert_eq!(each(&found(&api, path, email).await, "id"), [id(&created)], "{path} {email}");
            }
        }
        for (one, other) in DIFFERENT {
            for email in [one, other] {
                let created = api.create(path, body(path, email)).await;
                assert_eq!(each(&found(&api, path, email).await, "id"), [id(&created)], "{path} {email}");
            }
        }
    }
}

#[tokio::test]
async fn a_record_takes_and_gives_up_normal_forms() {
    let api = Api::start().await;
    for path in [LEADS, CUSTOMERS, USERS] {
        let ann = api.create(path, person("a@m\u{fc}nchen.de")).await;
        let bob = api.create(path, person("bob@example.com")).await;
        let (ann, bob) = (format!("{path}/{}", id(&ann)), format!("{path}/{}", id(&bob)));
        api.send(Method::PUT, &bob, json!({ "email": "A@xn--mnchen-3ya.de" }), 409).await;
        let same = api.send(Method::PUT, &ann, json!({ "email": "A@xn--mnchen-3ya.de" }), 200).await;
        assert_eq!(same["email"], "A@xn--mnchen-3ya.de");
        api.send(Method::PUT, &ann, json!({ "email": "ann@example.com" }), 200).await;
        api.send(Method::PUT, &bob, json!({ "email": "A@xn--mnchen-3ya.de" }), 200).await;
    }
}

#[tokio::test]
async fn upserts_batches_conversions_and_restores_match_by_normal_form() {
    let api = Api::start().await;
    for path in [LEADS, CUSTOMERS] {
        let ann = api.create(path, person("Jose\u{301}@example.com")).await;
        let jose = "JOS\u{c9}@example.com.";
        let updated = api.send(Method::POST, &format!("{path}?on_conflict=update"), person(jose), 200).await;
        assert_eq!((id(&updated), &updated["email"]), (id(&ann), &json!(jose)));
        let items = json!({ "items": [person("jos\u{e9}@example.com"), person("\u{17f}@example.com"), person("S@example.com")] });
        let results = api.send(Method::POST, &format!("{path}/batch"), items, 200).await;
        let statuses: Vec<&Value> =
            results["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
        assert_eq!(statuses, [409, 201, 409]);
    }
    let lead =
        api.read(LEADS).await.as_array().unwrap().iter().find(|lead| lead["email"] != "\u{17f}@example.com").cloned();
    let lead = lead.unwrap();
    let converted = support::json(api.post(&format!("{LEADS}/{}/convert", id(&lead))), 200).await;
    assert_eq!(converted["customer"]["lead_id"], lead["id"], "the customer with the same email is linked");

    let path = format!("{LEADS}/{}", id(&lead));
    api.delete(&path, 204).await;
    let deleted = support::json(api.get(&format!("{LEADS}?deleted=true&email=jose%CC%81@EXAMPLE.com")), 200).await;
    assert_eq!(each(&deleted, "id"), [id(&lead)]);
    let other = api.create(LEADS, person("jos\u{e9}@example.com")).await;
    support::json(api.post(&format!("{path}/restore")), 409).await;
    api.delete(&format!("{LEADS}/{}", id(&other)), 204).await;
    support::json(api.post(&format!("{path}/restore")), 200).await;
    api.send(Method::POST, LEADS, person("jos\u{e9}@example.com"), 409).await;
}

#[tokio::test]
async fn imports_match_by_normal_form() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &["--queues", "imports"]);
    let file = "name,email\nAnn,Jose\u{301}@example.com\nBob,a@m\u{fc}nchen.de\n";
    let again = "name,email\nAnne,JOS\u{c9}@EXAMPLE.com.\nBobby,a@XN--mnchen-3ya.de\nCyd,\u{17f}am@example.com\nDan,Sam@example.com\n";
    for path in [LEADS, CUSTOMERS] {
        let counts =
            |job: &Value| ["created", "updated", "skipped"].map(|count| job["result"][count].as_i64().unwrap());
        let import = format!("{path}/import");
        assert_eq!(counts(&api.imported(&import, file).await), [2, 0, 0]);
        let tried = api.imported(&format!("{import}?dry_run=true&on_conflict=update"), again).await;
        assert_eq!(counts(&tried), [1, 3, 0]);
        assert_eq!(counts(&api.imported(&import, again).await), [1, 0, 3]);
        let updated = api.imported(&format!("{import}?on_conflict=update"), again).await;
        assert_eq!(counts(&updated), [0, 4, 0]);
        let mut names = api.read(path).await;
        let names = names.as_array_mut().unwrap();
        names.sort_by_key(|record| record["name"].to_string());
        assert_eq!(
            names.iter().map(|record| record["name"].as_str().unwrap()).collect::<Vec<_>>(),
            ["Anne", "Bobby", "Dan"]
        );
    }
}

#[tokio::test]
async fn a_suppression_holds_for_every_form_of_its_address() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let customer = api.create(CUSTOMERS, person("a@m\u{fc}nchen.de")).await;
    let suppression = api.create(SUPPRESSIONS, json!({ "email": "A@xn--mnchen-3ya.de." })).await;
    let request = format!("{CUSTOMERS}/{}/feedback/request", id(&customer));
    let refused = support::json(api.post(&request), 409).await;
    assert_eq!(refused["errors"][0]["code"], "suppressed");
    api.delete(&format!("{SUPPRESSIONS}/{}", id(&suppression)), 204).await;
    support::json(api.post(&request), 202).await;
}
