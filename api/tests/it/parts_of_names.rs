//! Leads and customers have a first and a last name beside their name.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";
const KINDS: [&str; 2] = [LEADS, "/dev/crm/customers"];

/// The name, and its parts.
fn names(record: &Value) -> [Value; 3] {
    ["name", "first_name", "last_name"].map(|field| record[field].clone())
}

fn with_email(mut body: Value, email: &str) -> Value {
    body["email"] = email.into();
    body
}

#[tokio::test]
async fn a_name_is_made_of_its_parts_unless_it_is_given() {
    let api = Api::start().await;
    for path in KINDS {
        for (n, (given, expected)) in [
            (json!({ "first_name": " Ada ", "last_name": "Byron" }), json!(["Ada Byron", "Ada", "Byron"])),
            (json!({ "name": null, "first_name": "Ada", "last_name": "" }), json!(["Ada", "Ada", null])),
            (json!({ "name": "", "last_name": "Byron" }), json!(["Byron", null, "Byron"])),
            (json!({ "name": "Lady L.", "first_name": "Ada" }), json!(["Lady L.", "Ada", null])),
            (json!({ "name": "Ada Byron" }), json!(["Ada Byron", null, null])),
        ]
        .into_iter()
        .enumerate()
        {
            let record = api.create(path, with_email(given, &format!("{n}@example.com"))).await;
            assert_eq!(json!(names(&record)), expected, "{path}");
        }
        let long = "x".repeat(120);
        for (given, fault) in [
            (json!({}), ("name", "required")),
            (json!({ "name": null, "first_name": null, "last_name": " " }), ("name", "required")),
            (json!({ "first_name": "Ada\u{202e}" }), ("first_name", "invalid")),
            (json!({ "name": 7, "first_name": "Ada" }), ("name", "invalid")),
            (json!({ "name": "Ada", "last_name": "x".repeat(201) }), ("last_name", "too_long")),
            (json!({ "first_name": long, "last_name": long }), ("name", "too_long")),
        ] {
            let rejected = api.send(Method::POST, path, with_email(given.clone(), "x@example.com"), 400).await;
            assert!(faults(&rejected).contains(&fault), "{path}: {given} {rejected}");
        }
    }
}

#[tokio::test]
async fn a_changed_part_makes_the_name_anew_and_a_changed_name_clears_the_parts() {
    let api = Api::start().await;
    for path in KINDS {
        let record =
            api.create(path, json!({ "first_name": "Ada", "last_name": "Byron", "email": "a@example.com" })).await;
        let place = format!("{path}/{}", id(&record));
        let change = async |body: Value| names(&api.send(Method::PUT, &place, body, 200).await);
        assert_eq!(json!(change(json!({ "last_name": "King" })).await), json!(["Ada King", "Ada", "King"]));
        let found = api.read(&format!("{path}?q=king")).await;
        assert_eq!(found[0]["id"], record["id"], "{path}");
        assert_eq!(json!(change(json!({ "name": "Ada King" })).await), json!(["Ada King", "Ada", "King"]));
        assert_eq!(json!(change(json!({ "name": "Countess" })).await), json!(["Countess", null, null]));
        assert_eq!(json!(change(json!({ "first_name": "Ada" })).await), json!(["Countess", "Ada", null]));
        let all = json!({ "name": "Ada King", "first_name": "Ada", "last_name": "King" });
        assert_eq!(json!(change(all).await), json!(["Ada King", "Ada", "King"]));

        // The whole record with another name, or with another part.
        let mut whole = api.read(&place).await;
        whole["first_name"] = "Augusta".into();
        assert_eq!(json!(change(whole).await), json!(["Augusta King", "Augusta", "King"]));
        let mut whole = api.read(&place).await;
        whole["name"] = "Countess".into();
        assert_eq!(json!(change(whole).await), json!(["Countess", null, null]));

        assert_eq!(json!(change(json!({ "name": null, "last_name": "King" })).await), json!(["King", null, "King"]));
        let rejected = api.send(Method::PUT, &place, json!({ "name": null }), 400).await;
        assert_eq!(faults(&rejected), [("name", "required")]);
        let history = api.read(&format!("{place}/history?limit=1")).await;
        let changes =
            json!({ "name": { "from": "Countess", "to": "King" }, "last_name": { "from": null, "to": "King" } });
        assert_eq!(history[0]["changes"], changes);
    }
}

#[tokio::test]
async fn batches_and_conversions_make_names_too() {
    let api = Api::start().await;
    let items = json!([{ "last_name": "Byron", "email": "a@example.com" }, { "email": "b@example.com" }]);
    let results = api.send(Method::POST, &format!("{LEADS}/batch"), json!({ "items": items }), 200).await;
    assert_eq!(json!(names(&results["results"][0]["record"])), json!(["Byron", null, "Byron"]));
    assert_eq!(faults(&results["results"][1]["error"]), [("name", "required")]);
    let change = json!({ "items": [{ "id": results["results"][0]["record"]["id"], "first_name": "Ada" }] });
    let results = api.send(Method::POST, &format!("{LEADS}/batch"), change, 200).await;
    let ada = &results["results"][0]["record"];
    assert_eq!(json!(names(ada)), json!(["Ada Byron", "Ada", "Byron"]));

    let path = format!("{LEADS}/{}/convert", id(ada));
    let converted = api.send(Method::POST, &path, json!({ "last_name": "King" }), 201).await;
    assert_eq!(json!(names(&converted["customer"])), json!(["Ada King", "Ada", "King"]));
    assert_eq!(json!(names(&converted["lead"])), json!(["Ada Byron", "Ada", "Byron"]));
}

async fn import(api: &Api, path: &str, query: &str, file: &str, counts: [i64; 3]) -> Value {
    let job = api.imported(&format!("{path}/import?{query}"), file.to_owned()).await;
    let found = ["created", "updated", "failed"].map(|count| job["result"][count].as_i64().unwrap());
    assert_eq!(found, counts, "{job}");
    job
}

#[tokio::test]
async fn imports_read_the_parts_of_names() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let long = "x".repeat(150);
    for path in KINDS {
        let file = format!(
            "First Name,Last Name,Email,Full Name\nAda,Byron,a@example.com,\nBob,,b@example.com,Bob B.\n\
             {long},{long},d@example.com,\n"
        );
        let job = import(&api, path, "", &file, [2, 0, 1]).await;
        assert_eq!(job["result"]["mapping"]["Last Name"], "last_name");
        let errors = api.read(&format!("/dev/crm/jobs/{}/errors", id(&job))).await;
        assert_eq!([&errors[0]["field"], &errors[0]["code"]], ["name", "too_long"], "{errors}");
        let all = async || {
            let records = api.read(&format!("{path}?sort=email")).await;
            json!([names(&records[0]), names(&records[1])])
        };
        assert_eq!(all().await, json!([["Ada Byron", "Ada", "Byron"], ["Bob B.", "Bob", null]]));
        // An update of one part, as by a PUT.
        let file = "Last Name,Email\nKing,a@example.com\nKing,b@example.com\n";
        import(&api, path, "on_conflict=update", file, [0, 2, 0]).await;
        assert_eq!(all().await, json!([["Ada King", "Ada", "King"], ["Bob B.", "Bob", "King"]]));
        let file = "Name,Email\nAda King,a@example.com\nRobert,b@example.com\n";
        import(&api, path, "on_conflict=update", file, [0, 2, 0]).await;
        assert_eq!(all().await, json!([["Ada King", "Ada", "King"], ["Robert", null, null]]));

        let before = api.read(&format!("{path}?sort=email")).await;
        let export = api.get(&format!("{path}/export")).send().await.unwrap().text().await.unwrap();
        for record in before.as_array().unwrap() {
            api.delete(&format!("{path}/{}", id(record)), 204).await;
        }
        import(&api, path, "", &export, [2, 0, 0]).await;
        assert_eq!(api.read(&format!("{path}?sort=email")).await, before);
    }
}

#[tokio::test]
async fn a_greeting_uses_the_first_name() {
    let api = Api::start().await;
    let lead = json!({ "name": "Dr. Ada Byron", "first_name": "Ada Augusta", "email": "a@example.com" });
    let lead = api.create(LEADS, lead).await;
    let template = json!({ "subject": "Hi {{ lead.first_name }}", "body": "x" });
    let preview = json!({ "template": template, "lead_id": id(&lead) });
    let email = support::json(api.post("/dev/crm/emails/preview").json(&preview), 200).await;
    assert_eq!(email["subject"], "Hi Ada Augusta");
}
