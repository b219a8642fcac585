//! Somebody sets up the workspace: the sender, the sequence, a key, a webhook.

use serde_json::json;
use testing::Process;
use testing::browser::{Look, Page};
use testing::receiver::Receiver;

use crate::support::Crm;

const WEBHOOK_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Checks what every page must be.
async fn check(page: &Page) {
    page.accessible().await;
    page.fits().await;
    page.is_clean().await;
    assert!(page.weight() < 100_000, "{} bytes", page.weight());
}

#[tokio::test]
async fn settings_are_changed_on_any_device_and_without_scripts() {
    let Some(crm) = Crm::start().await else { return };
    for (name, look) in [
        ("wide", Look::default()),
        ("phone", Look::default().phone().dark()),
        ("keyboard", Look::default().by_keyboard()),
        ("scriptless", Look::default().narrow().without_scripts()),
    ] {
        let page = crm.signed_in("settings,emails:read", look).await;
        page.click("Settings").await;
        page.at("/console/settings/general").await;
        page.fill("Sender's name", name).await;
        page.check("Monday").await;
        page.click("Save").await;
        page.see("The settings were saved.").await;
        assert_eq!(page.value("Sender's name").await, name);
        check(&page).await;

        page.click("Sequence and templates").await;
        check(&page).await;
        page.click("Add a step").await;
        page.fill("Days to wait", "2").await;
        page.fill("Subject", &format!("From {name}")).await;
        page.fill("Body", "Hello {{ lead.nme }}").await;
        page.click("Save").await;
        page.see("unknown variable lead.nme").await;
        check(&page).await;
        page.fill("Body", "Hello {{ lead.name }}").await;
        page.click("Save").await;
        page.see("The step was added.").await;
        page.row(&format!("From {name}")).click(&format!("Move up: From {name}")).await;
        page.see("The step was moved.").await;
        page.click(&format!("From {name}")).await;
        page.see("Preview").await;
        check(&page).await;
    }
    let settings = crm.read("/dev/crm/settings").await;
    assert_eq!((&settings["sender_name"], &settings["send_on"]), (&json!("scriptless"), &json!(["monday"])));
    assert_eq!(settings["nurture_sequence"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn a_template_is_previewed_before_it_is_saved() {
    let Some(crm) = Crm::start().await else { return };
    let page = crm.signed_in("settings,emails:read", Look::default()).await;
    page.open("/console/settings/templates/feedback_request").await;
    page.fill("Subject", "How was it, really?").await;
    page.click("Preview").await;
    // The email is in a frame of its own, which this page cannot read, and the form is still there.
    page.wait("see the preview", "window.frames.length == 1").await;
    assert_eq!(page.value("Subject").await, "How was it, really?");
    check(&page).await;
    page.click("Save").await;
    page.see("The template was saved.").await;
    let templates = crm.read("/dev/crm/settings").await["templates"].clone();
    assert_eq!(templates["feedback_request"]["subject"], "How was it, really?");
}

#[tokio::test]
async fn a_key_is_created_rotated_and_revoked() {
    let Some(crm) = Crm::start().await else { return };
    let page = crm.signed_in("*", Look::default().by_keyboard()).await;
    page.open("/console/settings/keys").await;
    check(&page).await;
    page.click("Create a key").await;
    page.fill("Name", "website").await;
    page.check("records:read – read records, reports and events").await;
    check(&page).await;
    page.click("Create the key").await;
    page.see("Copy it now").await;
    let key = page.value("API key").await;
    assert!(key.starts_with("crm_") && !page.path().await.contains(&key));
    check(&page).await;
    page.click("Continue").await;
    page.click("Rotate the key").await;
    assert_ne!(page.value("API key").await, key);
    page.click("Continue").await;
    page.click("summary").await;
    page.see("fail within half a second").await;
    check(&page).await;
    page.within(".popover").click("Revoke").await;
    page.see("The key was revoked.").await;

    for path in ["sessions", "users", "users/new", "schedules", "schedules/new", "audit", "webhooks/new"] {
        page.open(&format!("/console/settings/{path}")).await;
        check(&page).await;
    }
}

#[tokio::test]
async fn a_webhook_is_created_and_its_delivery_is_seen() {
    let receiver = Receiver::start().await;
    let address = receiver.address.to_string();
    let settings = [
        ("CRM_WEBHOOKS__ALLOW_HTTP", "true"),
        ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", address.as_str()),
        ("CRM_WEBHOOKS__ENCRYPTION_KEY", WEBHOOK_KEY),
    ];
    let Some(crm) = Crm::start_with(&settings).await else { return };
    let _worker = Process::worker_with(&crm.database, &[], &settings);
    let page = crm.signed_in("webhooks", Look::default()).await;
    page.click("Settings").await;
    page.click("Create a webhook").await;
    page.fill("URL", &receiver.url("/hooks")).await;
    page.click("Create the webhook").await;
    page.see("Copy it now").await;
    assert!(page.value("Secret").await.starts_with("whsec_"));
    page.click("Continue").await;
    page.click("Send a ping").await;
    page.see("Delivery of ping").await;
    // The page shows the delivery as soon as it has happened.
    page.see("Status of the response 200").await;
    check(&page).await;
    page.click("All deliveries").await;
    page.see("Delivered").await;
    check(&page).await;
}
