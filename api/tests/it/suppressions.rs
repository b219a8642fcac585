//! Suppressed addresses receive no email.

use insta::assert_snapshot;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use shared::mail::templates::Rendered;
use shared::mail::{self, Event, NewEmail, Queued, Sender};
use shared::platform::signed_links::Signer;
use shared::values::Field;
use uuid::Uuid;

use crate::support::{self, Api, Served, each, faults, id};

const SUPPRESSIONS: &str = "/dev/crm/suppressions";

/// Queues a bulk email to an address; returns the outcome, the email's id and the token of its
/// link.
pub(crate) async fn queue_email(api: &Api, email: &str) -> (Queued, Uuid, String) {
    queue_email_of(api, email, Event::Nurture).await
}

async fn queue_email_of(api: &Api, email: &str, event: Event) -> (Queued, Uuid, String) {
    let mut connection = api.connection().await;
    let id = Uuid::now_v7();
    let token = Signer::load(&mut connection).await.unwrap().sign("unsubscribe", api.workspace_id, id);
    let sender = Sender { name: Some("Acme <b>".to_owned()), email: "hello@acme.example".to_owned(), reply_to: None };
    let new = NewEmail {
        id,
        event,
        event_key: format!("nurture:{id}:1"),
        subject: None,
        to_name: None,
        to_email: shared::values::Email::from_text(email).unwrap(),
        content: Rendered { subject: "s".to_owned(), text: "t".to_owned(), html: "h".to_owned() },
        unsubscribe: Some(format!("http://localhost/unsubscribe/{token}")),
        time_zone: None,
    };
    let queued = mail::queue(&mut connection, api.workspace_id, &sender, &[new]).await.unwrap();
    (queued[0], id, token)
}

async fn state(api: &Api, email_id: Uuid) -> String {
    let mut connection = api.connection().await;
    sqlx::query_scalar("SELECT state FROM emails WHERE id = $1")
        .bind(email_id)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_suppression_is_created_and_removed() {
    let api = Api::start().await;
    let (_, waiting, _) = queue_email(&api, "Ada@example.com").await;
    let added = api.create(SUPPRESSIONS, json!({ "email": " ada@EXAMPLE.com " })).await;
    let expected = json!({
        "id": id(&added), "email": "ada@EXAMPLE.com", "email_hash": null, "reason": "manual", "scope": "all",
        "email_id": null, "request_id": added["request_id"], "job_id": null, "line": null, "created_at": added["created_at"], "updated_at": added["created_at"],
    });
    assert_eq!(added, expected);
    assert!(added["request_id"].is_string(), "the request is the proof");
    assert_eq!(state(&api, waiting).await, "suppressed", "queued emails are not sent");
    assert_eq!(queue_email(&api, "ada@example.com").await.0, Queued::Suppressed);
    assert_eq!(queue_email(&api, "bob@example.com").await.0, Queued::New);

    support::json(api.post(SUPPRESSIONS).json(&json!({ "email": "ADA@example.com" })), 409).await;
    api.create(SUPPRESSIONS, json!({ "email": "bob@example.com" })).await;
    assert_eq!(each(&api.read(SUPPRESSIONS).await, "email"), ["bob@example.com", "ada@EXAMPLE.com"]);
    assert_eq!(
        each(&api.read(&format!("{SUPPRESSIONS}?email=Ada@Example.com&reason=manual")).await, "email"),
        ["ada@EXAMPLE.com"]
    );
    assert_eq!(api.read(&format!("{SUPPRESSIONS}?reason=bounced")).await, json!([]));

    let path = format!("{SUPPRESSIONS}/{}", id(&added));
    assert_eq!(api.read(&path).await, added);
    let answer = api.request(Method::DELETE, &path).header("if-match", "\"other\"").send().await.unwrap();
    assert_eq!(answer.status(), 412);
    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    assert_eq!(queue_email(&api, "ada@example.com").await.0, Queued::New);
    assert_eq!(state(&api, waiting).await, "suppressed", "emails that were not sent stay unsent");
}

/// Which of a bulk email and a digest to an address are stopped.
async fn stopped(api: &Api, email: &str) -> [bool; 2] {
    let bulk = queue_email_of(api, email, Event::FeedbackRequest).await.0;
    let digest = queue_email_of(api, email, Event::Followups).await.0;
    [bulk, digest].map(|queued| queued == Queued::Suppressed)
}

#[tokio::test]
async fn the_scope_says_which_emails_are_stopped() {
    let api = Api::start().await;
    for (reason, scope) in [
        ("unsubscribed", "marketing"),
        ("imported", "marketing"),
        ("bounced", "all"),
        ("complained", "all"),
        ("manual", "all"),
    ] {
        let email = format!("{reason}@example.com");
        let (_, bulk, _) = queue_email(&api, &email).await;
        let (_, digest, _) = queue_email_of(&api, &email, Event::Followups).await;
        let added = api.create(SUPPRESSIONS, json!({ "email": email, "reason": reason })).await;
        assert_eq!((&added["reason"], &added["scope"]), (&json!(reason), &json!(scope)));
        assert_eq!(stopped(&api, &email).await, [true, scope == "all"], "{reason}");
        assert_eq!(state(&api, bulk).await, "suppressed", "{reason}");
        assert_eq!(state(&api, digest).await, if scope == "all" { "suppressed" } else { "queued" }, "{reason}");
    }
    assert_eq!(
        each(&api.read(&format!("{SUPPRESSIONS}?scope=marketing")).await, "reason"),
        ["imported", "unsubscribed"]
    );
    let chosen = json!({ "email": "eve@example.com", "reason": "complained", "scope": "marketing" });
    assert_eq!(api.create(SUPPRESSIONS, chosen).await["scope"], "marketing");
}

#[tokio::test]
async fn a_wider_suppression_replaces_a_narrower_one_and_never_the_other_way_round() {
    let api = Api::start().await;
    let ada = |reason: &str| json!({ "email": "ada@example.com", "reason": reason });
    let (_, email_id, token) = queue_email(&api, "ada@example.com").await;
    page(Client::new().post(api.url(&format!("/unsubscribe/{token}"))).send().await.unwrap(), 200).await;
    let unsubscribed = api.read(SUPPRESSIONS).await[0].clone();
    assert_eq!((&unsubscribed["scope"], stopped(&api, "ada@example.com").await), (&json!("marketing"), [true, false]));

    let wider = api.send(Method::POST, SUPPRESSIONS, ada("complained"), 200).await;
    assert_eq!((&wider["id"], &wider["scope"]), (&unsubscribed["id"], &json!("all")));
    assert_eq!(stopped(&api, "ada@example.com").await, [true, true]);
    for reason in ["complained", "manual", "imported"] {
        let refused = api.send(Method::POST, SUPPRESSIONS, ada(reason), 409).await;
        assert_eq!(refused["errors"][0]["id"], wider["id"], "{reason}");
    }
    assert_eq!(each(&api.read(SUPPRESSIONS).await, "reason"), ["complained"], "an address has one suppression");

    // Who lifts the complaint does not lift what the owner of the address asked for.
    api.delete(&format!("{SUPPRESSIONS}/{}", id(&wider)), 204).await;
    let left = &api.read(SUPPRESSIONS).await[0];
    assert_eq!((&left["reason"], &left["email_id"]), (&json!("unsubscribed"), &json!(email_id)));
    assert_eq!(stopped(&api, "ada@example.com").await, [true, false]);
    api.delete(&format!("{SUPPRESSIONS}/{}", id(left)), 204).await;
    assert_eq!(stopped(&api, "ada@example.com").await, [false, false]);
}

#[tokio::test]
async fn an_invalid_suppression_is_rejected_with_every_fault() {
    let api = Api::start().await;
    let id_of_no_job = Uuid::now_v7();
    let rejected = api
        .send(
            Method::POST,
            SUPPRESSIONS,
            json!({ "reason": "whim", "scope": "some", "job_id": id_of_no_job, "until": "2030" }),
            400,
        )
        .await;
    let mut reported = faults(&rejected);
    reported.sort_unstable();
    assert_eq!(
        reported,
        [
            ("email", "required"),
            ("job_id", "read_only"),
            ("reason", "invalid"),
            ("scope", "invalid"),
            ("until", "unknown"),
        ]
    );
    let rejected = api.send(Method::POST, SUPPRESSIONS, json!({ "email": "ada@" }), 400).await;
    assert_eq!(faults(&rejected), [("email", "invalid")]);
}

/// Checks that a response is a page, and returns its HTML.
async fn page(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!((header("cache-control"), header("referrer-policy")), ("no-store".to_owned(), "no-referrer".to_owned()));
    assert!(header("content-security-policy").starts_with("default-src 'none'"));
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_recipient_unsubscribes_with_the_button() {
    let api = Api::start().await;
    let (_, email_id, token) = queue_email(&api, "ada@example.com").await;
    let url = api.url(&format!("/unsubscribe/{token}"));
    for _ in 0..2 {
        let html = page(Client::new().get(&url).send().await.unwrap(), 200).await;
        assert!(html.contains("Acme &lt;b&gt;") && !html.contains("<script"), "{html}");
        assert_snapshot!("unsubscribe", html);
    }
    assert_eq!(api.read(SUPPRESSIONS).await, json!([]), "reading changes nothing");
    assert_eq!(state(&api, email_id).await, "queued");

    for _ in 0..2 {
        let pressed = Client::new().post(&url).header("content-type", "application/x-www-form-urlencoded");
        let html = page(pressed.body("List-Unsubscribe=One-Click").send().await.unwrap(), 200).await;
        assert_snapshot!("unsubscribed", html);
    }
    let suppressed = api.read(SUPPRESSIONS).await;
    assert_eq!(each(&suppressed, "email"), ["ada@example.com"]);
    assert_eq!((&suppressed[0]["reason"], &suppressed[0]["email_id"]), (&json!("unsubscribed"), &json!(email_id)));
    assert_eq!(state(&api, email_id).await, "suppressed");
    let html = page(Client::new().get(&url).send().await.unwrap(), 200).await;
    assert!(html.contains("You are unsubscribed"), "{html}");
    assert_eq!(api.on("another").await.read(SUPPRESSIONS).await, json!([]), "other workspaces are not affected");
}

#[tokio::test]
async fn an_email_program_unsubscribes_in_one_click() {
    let api = Api::start().await;
    let mut urls = Vec::new();
    for name in ["ada", "bob", "eve"] {
        urls.push(api.url(&format!("/unsubscribe/{}", queue_email(&api, &format!("{name}@example.com")).await.2)));
    }
    let form = reqwest::multipart::Form::new().text("List-Unsubscribe", "One-Click");
    page(Client::new().post(&urls[0]).multipart(form).send().await.unwrap(), 200).await;
    page(Client::new().post(format!("{}?utm_source=mail", urls[1])).send().await.unwrap(), 200).await;
    let at_once = (0..8).map(|_| async { Client::new().post(&urls[2]).send().await.unwrap().status().as_u16() });
    assert_eq!(futures_util::future::join_all(at_once).await, [200; 8]);
    assert_eq!(
        each(&api.read(&format!("{SUPPRESSIONS}?sort=created_at")).await, "email"),
        ["ada@example.com", "bob@example.com", "eve@example.com"]
    );
}

#[tokio::test]
async fn an_invalid_link_leads_to_an_error_page() {
    let api = Api::start().await;
    let (_, _, token) = queue_email(&api, "ada@example.com").await;
    let signer = Signer::load(&mut api.connection().await).await.unwrap();
    let altered = format!("{}{}", &token[..63], if token.ends_with('A') { 'B' } else { 'A' });
    let of_no_email = signer.sign("unsubscribe", api.workspace_id, Uuid::now_v7());
    let of_feedback = signer.sign("feedback", api.workspace_id, Uuid::now_v7());
    for token in [altered.as_str(), &of_no_email, &of_feedback, "x", "%00", "%FF", "{{ 1 }}"] {
        for method in [Method::GET, Method::POST] {
            let url = api.url(&format!("/unsubscribe/{token}"));
            let html = page(Client::new().request(method, url).send().await.unwrap(), 404).await;
            assert!(html.contains("This link does not work"), "{html}");
        }
    }
    let wrong = Client::new().delete(api.url(&format!("/unsubscribe/{token}"))).send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET,HEAD,POST,OPTIONS");
    page(wrong, 405).await;
    assert_eq!(api.read(SUPPRESSIONS).await, Value::Array(Vec::new()));
}

#[tokio::test]
async fn errors_of_pages_are_pages_while_the_database_is_unavailable() {
    let Served { address, stop: _stop, .. } = support::serve(support::settings("postgres://crm@127.0.0.1:1/crm")).await;
    let answer = reqwest::get(format!("http://{address}/unsubscribe/x")).await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    let html = page(answer, 503).await;
    assert!(html.contains("Please try again in a few minutes") && !html.contains("127.0.0.1"), "{html}");
}
