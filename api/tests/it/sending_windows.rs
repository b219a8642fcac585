//! Bulk emails leave in the hours and on the days that the workspace has set.

use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;
use testing::smtp::{Act, MailServer, Stage};

use crate::feedback::{ask, customer};
use crate::followups::{lead, many_due};
use crate::support::{Api, each, faults, id};
use crate::workflows::{add_user, put_settings, rows, run};

const LEADS: &str = "/dev/crm/leads";
const EMAILS: &str = "/dev/crm/emails";
const NURTURE: &str = "/dev/crm/leads/nurture/start";
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker that runs workflows and sends their emails to the server.
fn worker(api: &Api, server: &MailServer) -> Process {
    let port = server.address.port().to_string();
    let mail = [("CRM_MAIL__HOST", "localhost"), ("CRM_MAIL__PORT", &port), ("CRM_MAIL__TLS", "none")];
    Process::worker_with(&api.database, &["--queues", "mail,workflows"], &mail)
}

/// The present minute.
fn minute() -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::minutes(1)).unwrap()
}

/// The hours of the day between two instants, in UTC.
fn hours(from: DateTime<Utc>, to: DateTime<Utc>) -> Value {
    json!(format!("{}-{}", from.format("%H:%M"), to.format("%H:%M")))
}

/// Hours that begin in three hours, and when that is.
fn closed() -> (Value, DateTime<Utc>) {
    let opens_at = minute() + TimeDelta::hours(3);
    (hours(opens_at, opens_at + TimeDelta::hours(1)), opens_at)
}

async fn email(api: &Api, to: &str) -> Value {
    let [listed]: [Value; 1] =
        serde_json::from_value(api.read(&format!("{EMAILS}?to_email={to}")).await).expect("one email to the address");
    api.read(&format!("{EMAILS}/{}", id(&listed))).await
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Waits until the email to an address is as it should be.
async fn until(api: &Api, to: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let email = email(api, to).await;
        if holds(&email) {
            return email;
        }
        assert!(started.elapsed() < PATIENCE, "the email is not {what}: {email}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_state(api: &Api, to: &str, state: &str) -> Value {
    until(api, to, state, |email| email["state"] == state).await
}

async fn nurtured(api: &Api, name: &str, custom_fields: Value) -> String {
    let email = format!("{}@example.com", name.to_lowercase());
    api.create(LEADS, json!({ "name": name, "email": email, "custom_fields": custom_fields })).await;
    email
}

#[tokio::test]
async fn an_email_outside_of_the_hours_waits_until_they_begin_and_a_digest_does_not() {
    let (api, server) = (Api::start().await, MailServer::start().await);
    let _worker = worker(&api, &server);
    let (closed, opens_at) = closed();
    put_settings(&api, json!({ "send_between": closed })).await;
    let owner = add_user(&api, "Uma", "uma@example.com").await;
    many_due(&api, &lead(&api, "Ada", Some(owner)).await, 1).await;
    let job = run(&api, NURTURE).await;
    assert_eq!(job["result"]["sent"], 1, "{job}");
    let waiting = email(&api, "ada@example.com").await;
    assert_eq!((&waiting["state"], time(&waiting["next_try_at"])), (&json!("queued"), opens_at));
    let date = waiting["headers"].as_array().unwrap().iter().find(|header| header["name"] == "Date").unwrap();
    assert_eq!(date["value"], opens_at.to_rfc2822(), "it is written when the window opens");

    run(&api, "/dev/crm/followups/process").await;
    until_state(&api, "uma@example.com", "sent").await;
    assert_eq!(server.count(), 1);

    // As if workers were down when the window opened, and began when it was closed again.
    rows(&api, "UPDATE emails SET run_at = now() - interval '1 hour' WHERE state = 'queued'").await;
    let late = |email: &Value| time(&email["next_try_at"]) == opens_at;
    let email = until(&api, "ada@example.com", "waiting again", late).await;
    assert_eq!((&email["state"], &email["failures"], server.count()), (&json!("queued"), &json!(0), 1));

    put_settings(&api, json!({ "send_between": null })).await;
    let sent = until_state(&api, "ada@example.com", "sent").await;
    assert!(time(&sent["sent_at"]) < opens_at, "without a window it leaves at once");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn the_hours_are_those_of_the_recipients_time_zone() {
    let (api, server) = (Api::start().await, MailServer::start().await);
    let _worker = worker(&api, &server);
    // Six hours ahead of UTC, it is now within the hours.
    let there = minute() + TimeDelta::hours(6);
    put_settings(&api, json!({ "send_between": hours(there - TimeDelta::hours(1), there + TimeDelta::hours(1)) }))
        .await;
    let near = nurtured(&api, "Near", json!({ "time_zone": "Etc/GMT-6" })).await;
    let unknown = nurtured(&api, "Unknown", json!({ "time_zone": "Mars/Olympus" })).await;
    let none = nurtured(&api, "None", json!({})).await;
    let opens_at = there - TimeDelta::hours(1);
    run(&api, NURTURE).await;
    until_state(&api, &near, "sent").await;
    for waiting in [unknown, none] {
        assert_eq!(time(&email(&api, &waiting).await["next_try_at"]), opens_at, "{waiting}");
    }
    assert_eq!(server.count(), 1);

    // The same holds for customers, and the workspace's zone counts for those without one.
    let customer = customer(&api, "eve@example.com").await;
    let zone = json!({ "custom_fields": { "time_zone": "Etc/GMT-6" } });
    api.send(Method::PUT, &format!("/dev/crm/customers/{customer}"), zone, 200).await;
    api.ended(&ask(&api, &customer).await).await;
    until_state(&api, "eve@example.com", "sent").await;
    put_settings(&api, json!({ "time_zone": "Etc/GMT-6" })).await;
    until_state(&api, "none@example.com", "sent").await;
}

#[tokio::test]
async fn emails_wait_for_the_days_of_the_week() {
    let (api, server) = (Api::start().await, MailServer::start().await);
    let _worker = worker(&api, &server);
    let day = (Utc::now() + TimeDelta::days(3)).date_naive();
    put_settings(&api, json!({ "send_on": [day.format("%A").to_string().to_lowercase()] })).await;
    let to = nurtured(&api, "Ada", json!({})).await;
    run(&api, NURTURE).await;
    let waiting = email(&api, &to).await;
    assert_eq!(time(&waiting["next_try_at"]), day.and_hms_opt(0, 0, 0).unwrap().and_utc());
    assert_eq!(server.count(), 0);
    let every = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    put_settings(&api, json!({ "send_on": every })).await;
    until_state(&api, &to, "sent").await;
}

#[tokio::test]
async fn retries_and_resent_emails_wait_for_the_window_too() {
    let (api, server) = (Api::start().await, MailServer::start().await);
    server.act(|moment| match moment.stage {
        Stage::Rcpt => Act::Say("451 4.7.1 Later"),
        _ => Act::Accept,
    });
    let now = minute();
    put_settings(&api, json!({ "send_between": hours(now - TimeDelta::hours(1), now + TimeDelta::minutes(30)) })).await;
    let to = nurtured(&api, "Ada", json!({})).await;
    {
        let _workflows = crate::workflows::worker(&api);
        run(&api, NURTURE).await;
    }
    // After so many failures, the next attempt is at least 48 minutes later.
    rows(&api, "UPDATE emails SET failures = 7").await;
    let _worker = worker(&api, &server);
    let deferred = until_state(&api, &to, "deferred").await;
    let opens_at = now - TimeDelta::hours(1) + TimeDelta::days(1);
    let difference = time(&deferred["next_try_at"]) - opens_at;
    assert!(difference.abs() < TimeDelta::seconds(10), "the retry is {difference} after the opening");

    let (closed, opens_at) = closed();
    put_settings(&api, json!({ "send_between": closed })).await;
    rows(&api, "UPDATE emails SET state = 'unknown'").await;
    let resent = api.send(Method::POST, &format!("{EMAILS}/{}/resend", id(&deferred)), json!({}), 200).await;
    assert_eq!((&resent["state"], time(&resent["next_try_at"])), (&json!("queued"), opens_at));
}

#[tokio::test]
async fn a_window_is_hours_and_days_or_null() {
    let api = Api::start().await;
    let settings = "/dev/crm/settings";
    let default = api.read(settings).await;
    assert_eq!([&default["send_between"], &default["send_on"]], [&json!(null); 2]);
    let window = json!({ "send_between": "22:00-06:00", "send_on": ["sunday", "monday", "sunday"] });
    let set = api.send(Method::PUT, settings, window, 200).await;
    assert_eq!((&set["send_between"], each_word(&set["send_on"])), (&json!("22:00-06:00"), vec!["monday", "sunday"]));
    assert_eq!(api.send(Method::PUT, settings, set.clone(), 200).await, set, "all of it sent back changes nothing");
    for (body, fault) in [
        (json!({ "send_between": "9-17" }), ("send_between", "invalid")),
        (json!({ "send_between": "09:00-09:00" }), ("send_between", "invalid")),
        (json!({ "send_between": ["09:00", "17:00"] }), ("send_between", "invalid")),
        (json!({ "send_on": [] }), ("send_on", "required")),
        (json!({ "send_on": ["someday"] }), ("send_on", "invalid")),
        (json!({ "send_on": "monday" }), ("send_on", "invalid")),
        (json!({ "max_emails_per_run": -1 }), ("max_emails_per_run", "out_of_range")),
        (json!({ "max_emails_per_run": 1.5 }), ("max_emails_per_run", "invalid")),
    ] {
        assert_eq!(faults(&api.send(Method::PUT, settings, body.clone(), 400).await), [fault], "{body}");
    }
    let cleared = json!({ "send_between": null, "send_on": null });
    assert_eq!(api.send(Method::PUT, settings, cleared, 200).await, default);
    assert_eq!(each(&api.read(EMAILS).await, "id").len(), 0);
}

fn each_word(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}
