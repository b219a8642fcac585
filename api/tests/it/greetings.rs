//! Emails greet people by their first name.

use serde_json::{Value, json};

use crate::support::{Api, id};
use crate::workflows::{outbox, put_settings, run, worker};

const LEADS: &str = "/dev/crm/leads";

#[tokio::test]
async fn emails_greet_by_first_name_without_titles_in_usual_capitals() {
    let api = Api::start().await;
    let _worker = worker(&api);
    let step = json!({ "delay_days": 0, "subject": "Hi", "body": "Hello {{ lead.first_name }}!" });
    put_settings(&api, json!({ "nurture_sequence": [step] })).await;
    let people = [
        (json!({ "name": "MR. JON YANG" }), "Jon"),
        (json!({ "name": "Yang, Jon" }), "Jon"),
        (json!({ "name": "Frau Dr. Weber" }), "Frau Dr. Weber"),
        (json!({ "name": "jean-luc picard" }), "Jean-Luc"),
        (json!({ "first_name": "DR. EVE", "last_name": "O'BRIEN" }), "Eve"),
        (json!({ "first_name": "Mme", "last_name": "Petit" }), "Mme Petit"),
    ];
    for (n, (person, _)) in people.iter().enumerate() {
        let mut lead = person.clone();
        lead["email"] = format!("a{n}@example.com").into();
        let lead = api.create(LEADS, lead).await;
        // The record itself keeps the name as it was written.
        assert!(person.as_object().unwrap().iter().all(|(field, value)| lead[field] == *value), "{lead}");
        let body = json!({ "template": { "subject": "s", "body": "{{ lead.first_name }}" }, "lead_id": id(&lead) });
        let preview: Value = api.send(reqwest::Method::POST, "/dev/crm/emails/preview", body, 200).await;
        assert!(preview["text"].as_str().unwrap().starts_with(people[n].1), "{preview}");
    }
    run(&api, "/dev/crm/leads/nurture/start").await;
    let mut emails = outbox(&api).await;
    emails.sort_by(|one, other| one.to_email.cmp(&other.to_email));
    for (email, (person, greeting)) in emails.iter().zip(&people) {
        assert!(email.text_body.contains(&format!("Hello {greeting}!")), "{person}: {}", email.text_body);
    }
    assert_eq!(emails.len(), people.len());
}
