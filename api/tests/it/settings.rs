//! What a workspace sets.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use shared::mail::senders;
use shared::mail::templates::hostile;

use crate::support::{self, Api, faults, id};

const SETTINGS: &str = "/dev/crm/settings";

async fn put(api: &Api, body: Value) -> Value {
    api.send(Method::PUT, SETTINGS, body, 200).await
}

async fn refused(api: &Api, body: Value) -> Vec<(String, String)> {
    let answer = api.send(Method::PUT, SETTINGS, body, 400).await;
    let mut told: Vec<_> =
        faults(&answer).into_iter().map(|(field, code)| (field.to_owned(), code.to_owned())).collect();
    told.sort_unstable();
    told
}

#[tokio::test]
async fn what_is_not_set_is_as_the_defaults_are() {
    let api = Api::start_with(|settings| settings.mail.sender_domains = vec!["acme.example".into()]).await;
    let default = api.read(SETTINGS).await;
    assert_eq!((&default["nightly_at"], &default["time_zone"]), (&json!("02:00"), &json!("UTC")));
    assert_eq!((&default["sender_email"], &default["feedback_reminder_after_days"]), (&json!(null), &json!(3)));
    let delays: Vec<_> =
        default["nurture_sequence"].as_array().unwrap().iter().map(|step| &step["delay_days"]).collect();
    assert_eq!(delays, [&json!(0), &json!(3), &json!(7)]);

    let body = json!({ "sender_name": "Acme", "sender_email": "hello@acme.example", "nightly_at": "23:15", "time_zone": "Europe/Berlin", "feedback_reminder_after_days": 7 });
    let set = put(&api, body.clone()).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(set[field], *value);
    }
    assert_eq!(api.read(SETTINGS).await, set);
    assert_eq!(put(&api, json!({})).await, set);
    assert_eq!(put(&api, set.clone()).await, set, "all of it sent back changes nothing");
    let cleared = json!({ "sender_name": null, "sender_email": "", "nightly_at": null, "time_zone": null, "feedback_reminder_after_days": null, "nurture_sequence": null, "templates": null });
    assert_eq!(put(&api, cleared).await, default);
    let mut connection = api.connection().await;
    let kept: Value = sqlx::query_scalar("SELECT fields FROM settings").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, json!({}), "what is as the defaults are follows them");
    assert_eq!(api.on("another").await.read(SETTINGS).await, default);
}

#[tokio::test]
async fn every_fault_of_settings_is_told_at_once_with_its_place() {
    let api = Api::start().await;
    let step = |more: Value| {
        let mut step = json!({ "delay_days": 1, "subject": "s", "body": "b" });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let told = refused(&api, json!({
        "nightly_at": "25:00", "time_zone": "Mars/Olympus", "feedback_reminder_after_days": 0, "sender_email": "no", "colour": 1,
        "reply_to": "a@example.com\r\nBcc: b@example.com",
        "nurture_sequence": [
            step(json!({ "delay_days": -1 })), step(json!({ "delay_days": 1.5, "subject": "a\nb" })), 7,
            step(json!({ "body": "{{ lead.nme }}", "note": "x" })), { "id": "x" },
            { "delay_days": "soon", "subject": "{{ lead.nme }}", "body": "" },
        ],
        "templates": { "followups": { "subject": "{% if", "body": "" }, "nurture": {}, "feedback_request": 7 },
    })).await;
    let told: Vec<(&str, &str)> = told.iter().map(|(field, code)| (field.as_str(), code.as_str())).collect();
    assert_eq!(
        told,
        [
            ("colour", "unknown"),
            ("feedback_reminder_after_days", "out_of_range"),
            ("nightly_at", "invalid"),
            ("nurture_sequence.0.delay_days", "out_of_range"),
            ("nurture_sequence.1.delay_days", "invalid"),
            ("nurture_sequence.1.subject", "invalid"),
            ("nurture_sequence.2", "invalid"),
            ("nurture_sequence.3.body", "template"),
            ("nurture_sequence.3.note", "unknown"),
            ("nurture_sequence.4.body", "required"),
            ("nurture_sequence.4.delay_days", "required"),
            ("nurture_sequence.4.id", "invalid"),
            ("nurture_sequence.4.subject", "required"),
            ("nurture_sequence.5.body", "required"),
            ("nurture_sequence.5.delay_days", "invalid"),
            ("nurture_sequence.5.subject", "template"),
            ("reply_to", "invalid"),
            ("sender_email", "invalid"),
            ("templates.feedback_request", "invalid"),
            ("templates.followups.subject", "template"),
            ("templates.nurture", "unknown"),
            ("time_zone", "invalid"),
        ]
    );
    for (days, code) in [(json!("3"), "invalid"), (json!(366), "out_of_range"), (json!(2.5), "invalid")] {
        let told = refused(&api, json!({ "feedback_reminder_after_days": days })).await;
        assert_eq!(told, [("feedback_reminder_after_days".to_owned(), code.to_owned())]);
    }
    let thousand: Vec<Value> = (0..1_000).map(|_| step(json!({}))).collect();
    assert_eq!(
        refused(&api, json!({ "nurture_sequence": thousand })).await,
        [("nurture_sequence".to_owned(), "out_of_range".to_owned())]
    );
    let fifty: Vec<Value> = (0..50).map(|_| step(json!({}))).collect();
    assert_eq!(put(&api, json!({ "nurture_sequence": fifty })).await["nurture_sequence"].as_array().unwrap().len(), 50);
    assert_eq!(put(&api, json!({ "nurture_sequence": [] })).await["nurture_sequence"], json!([]));
}

#[tokio::test]
async fn a_broken_template_is_refused_with_its_line() {
    let api = Api::start().await;
    let body = "Hello,\n\n{{ customer.nmae }}";
    let answer =
        api.send(Method::PUT, SETTINGS, json!({ "templates": { "feedback_reminder": { "body": body } } }), 400).await;
    assert_eq!(answer["errors"][0]["field"], "templates.feedback_reminder.body");
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("line 3: unknown variable customer.nmae; available: customer.name"), "{message}");
}

#[tokio::test]
async fn nobody_is_asked_without_a_link_to_the_page_for_the_answer() {
    let api = Api::start().await;
    for name in ["feedback_request", "feedback_reminder"] {
        let set = |body: &str| json!({ "templates": { name: { "body": body } } });
        for body in [
            "How are we doing?",
            "The url: https://crm.example.com/feedback/token",
            "{# {{ url }} #}Well?",
            "{% if not url %}{{ url }}{% endif %}Well?",
            "{% if customer.company %}{{ url }}{% else %}Well?{% endif %}",
            "Do you want no more of this? {{ unsubscribe_url }}",
        ] {
            let told = refused(&api, set(body)).await;
            assert_eq!(told, [(format!("templates.{name}.body"), "template".to_owned())], "{body}");
        }
        for body in ["{{ url }}", "[Answer]({{ url }})", "{% set page = url %}Well? {{ page }}", "{{ 'At ' ~ url }}"] {
            assert_eq!(put(&api, set(body)).await["templates"][name]["body"], body);
        }
    }
}

#[tokio::test]
async fn steps_last() {
    let api = Api::start().await;
    let default = api.read(SETTINGS).await["nurture_sequence"].clone();
    let mut steps = default.as_array().unwrap().clone();
    steps.swap(0, 2);
    steps[1]["subject"] = json!("Another subject");
    steps.push(json!({ "delay_days": 30, "subject": "Once more", "body": "Hello" }));
    let set = put(&api, json!({ "nurture_sequence": steps })).await["nurture_sequence"].clone();
    let ids = |steps: &Value| steps.as_array().unwrap().iter().map(|step| id(step).to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&set)[..3], [id(&default[2]), id(&default[1]), id(&default[0])]);
    assert_eq!(put(&api, json!({ "nurture_sequence": set })).await["nurture_sequence"], set);
    let twice = json!([set[0], set[0]]);
    assert_eq!(
        refused(&api, json!({ "nurture_sequence": twice })).await,
        [("nurture_sequence.1.id".to_owned(), "taken".to_owned())]
    );
    let api = api.on("another").await;
    assert_eq!(api.read(SETTINGS).await["nurture_sequence"], default, "the shipped steps are the same everywhere");
}

#[tokio::test]
async fn a_template_is_changed_part_by_part() {
    let api = Api::start().await;
    let default = api.read(SETTINGS).await["templates"].clone();
    let set = put(&api, json!({ "templates": { "feedback_request": { "subject": "Well?" } } })).await;
    assert_eq!(
        set["templates"]["feedback_request"],
        json!({ "subject": "Well?", "body": default["feedback_request"]["body"] })
    );
    put(&api, json!({ "templates": { "feedback_request": { "body": "[Tell us]({{ url }})" }, "followups": { "subject": "Due" } } })).await;
    let set = put(&api, json!({ "templates": { "followups": null, "feedback_request": { "subject": null } } })).await;
    assert_eq!(set["templates"]["followups"], default["followups"]);
    assert_eq!(
        set["templates"]["feedback_request"],
        json!({ "subject": default["feedback_request"]["subject"], "body": "[Tell us]({{ url }})" })
    );
}

#[tokio::test]
async fn changes_of_different_settings_at_once_are_all_kept() {
    let api = Api::start().await;
    let bodies = [
        json!({ "sender_name": "Acme" }),
        json!({ "time_zone": "Asia/Tokyo" }),
        json!({ "nightly_at": "04:30" }),
        json!({ "feedback_reminder_after_days": 9 }),
        json!({ "templates": { "followups": { "subject": "Due" } } }),
        json!({ "templates": { "feedback_reminder": { "subject": "Again" } } }),
    ];
    futures_util::future::join_all(bodies.into_iter().map(|body| put(&api, body))).await;
    let set = api.read(SETTINGS).await;
    let found = [
        &set["sender_name"],
        &set["time_zone"],
        &set["nightly_at"],
        &set["templates"]["followups"]["subject"],
        &set["templates"]["feedback_reminder"]["subject"],
    ];
    assert_eq!(found, ["Acme", "Asia/Tokyo", "04:30", "Due", "Again"]);
    assert_eq!(set["feedback_reminder_after_days"], 9);
}

#[tokio::test]
async fn settings_are_changed_as_they_were_seen() {
    let api = Api::start().await;
    let tag = async || api.get(SETTINGS).send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    let change = async |tag: &str, name: &str| {
        let request = api.request(Method::PUT, SETTINGS).header("if-match", tag).json(&json!({ "sender_name": name }));
        request.send().await.unwrap().status().as_u16()
    };
    let seen = tag().await;
    assert_eq!((change(&seen, "A").await, change(&seen, "B").await), (200, 412));
    assert_eq!((change(&tag().await, "B").await, change("*", "C").await), (200, 200));
}

#[tokio::test]
async fn a_workspace_sends_from_domains_that_the_operator_allows_and_no_others() {
    let api = Api::start_with(|settings| settings.mail.sender_domains = vec!["Bücher.example".into()]).await;
    let bank = json!({ "sender_email": "boss@bank.example" });
    let not_allowed = [("sender_email".to_owned(), "not_allowed".to_owned())];
    for email in ["boss@bank.example", "a@mail.crm.example.com", "a@mail.xn--bcher-kva.example", "a@example.org"] {
        assert_eq!(refused(&api, json!({ "sender_email": email })).await, not_allowed, "{email}");
    }
    for email in ["a@EXAMPLE.com", "a@xn--bcher-kva.example", "a@BÜCHER.example"] {
        assert_eq!(put(&api, json!({ "sender_email": email })).await["sender_email"], email);
    }

    let mut connection = api.connection().await;
    senders::allow(&mut connection, api.workspace_id, "Bank.example").await.unwrap();
    put(&api, bank.clone()).await;
    // What was set before may be sent back, and is changed to nothing else.
    senders::remove(&mut connection, api.workspace_id, "bank.example").await.unwrap();
    put(&api, bank).await;
    assert_eq!(refused(&api, json!({ "sender_email": "other@bank.example" })).await, not_allowed);
    let other = api.on("another").await;
    assert_eq!(refused(&other, json!({ "sender_email": "a@bank.example" })).await, not_allowed);
    let any = Api::start_with(|settings| settings.mail.sender_domains = vec!["*".into()]).await;
    put(&any, json!({ "sender_email": "a@bank.example" })).await;
}

#[tokio::test]
async fn a_sender_set_before_gets_the_answers_and_the_operators_address_sends() {
    let api = Api::start_with(|settings| settings.mail.sender_domains = vec!["*".into()]).await;
    put(&api, json!({ "sender_name": "Boss", "sender_email": "boss@bank.example" })).await;
    let settings = support::settings(api.database.url());
    let mut connection = api.connection().await;
    let set = shared::accounts::settings::get(&mut connection, api.workspace_id).await.unwrap();
    let sender =
        shared::accounts::settings::sender(&mut connection, api.workspace_id, &set, &settings.mail).await.unwrap();
    assert_eq!((sender.email.as_str(), sender.reply_to.as_deref()), ("crm@example.com", Some("boss@bank.example")));
    put(&api, json!({ "reply_to": "team@bank.example" })).await;
    let set = shared::accounts::settings::get(&mut connection, api.workspace_id).await.unwrap();
    let sender =
        shared::accounts::settings::sender(&mut connection, api.workspace_id, &set, &settings.mail).await.unwrap();
    assert_eq!(sender.reply_to.as_deref(), Some("team@bank.example"));
}

#[tokio::test]
async fn templates_that_were_written_to_hurt_are_rejected_and_hold_up_nobody() {
    let api = Api::start().await;
    let health = tokio::spawn({
        let url = api.url("/healthz");
        async move {
            let mut slowest = Duration::ZERO;
            for _ in 0..100 {
                let began = Instant::now();
                assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
                slowest = slowest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            slowest
        }
    });
    for name in ["minus signs", "is upper", "doubled", "open parentheses", "compared texts", "recursive loop"] {
        let hostile = hostile::corpus().into_iter().find(|hostile| hostile.name == name).unwrap();
        let template = json!({ "subject": "Hello", "body": hostile.body() });
        let told = refused(
            &api,
            json!({ "nurture_sequence": [{ "delay_days": 1, "subject": "Hello", "body": hostile.body() }] }),
        )
        .await;
        assert_eq!(told, [("nurture_sequence.0.body".to_owned(), "template".to_owned())], "{name}");
        let body = json!({ "template": template });
        api.send(Method::POST, "/dev/crm/emails/preview", body, 400).await;
    }
    // What a lead is called costs little, whatever it is.
    let sample = json!({ "lead": { "name": "http".repeat(70_000) } });
    let template = json!({ "subject": "Hello", "body": "{{ lead.name }}" });
    api.send(Method::POST, "/dev/crm/emails/preview", json!({ "template": template, "sample": sample }), 200).await;
    let slowest = health.await.unwrap();
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
