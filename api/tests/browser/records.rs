//! Somebody works with leads, customers and orders in the console.

use serde_json::json;
use testing::browser::Look;

use crate::support::{Crm, id};

#[tokio::test]
async fn somebody_converts_a_lead_on_any_device_and_without_scripts() {
    let Some(crm) = Crm::start().await else { return };
    let looks = [
        ("wide", Look::default()),
        ("phone", Look::default().phone().dark()),
        ("keyboard", Look::default().by_keyboard()),
        ("scriptless", Look::default().narrow().without_scripts()),
    ];
    for (name, look) in looks {
        let page = crm.signed_in("*", look).await;
        page.open("/console/leads").await;
        page.accessible().await;
        page.fits().await;
        page.click("New lead").await;
        page.fill("Name", "Ada Lovelace").await;
        page.fill("Email", &format!("{name}@example.com")).await;
        page.fill("Score", "101").await;
        page.click("Create").await;
        page.see("Score must be between 0 and 100").await;
        page.accessible().await;
        page.fits().await;
        page.fill("Score", "75").await;
        page.click("Create").await;
        page.see("Created Ada Lovelace.").await;
        page.accessible().await;
        page.fits().await;

        page.click("Add interaction").await;
        page.within(".inset").choose("Type (required)", "Call").await;
        page.within(".inset").fill("Notes", "Asked for prices").await;
        page.within(".inset").fill("Next action", "Send an offer").await;
        page.within(".inset").fill("Next action due", "2026-03-02T10:00").await;
        page.within(".inset").click("Add interaction").await;
        page.see("Added the interaction.").await;
        page.see("Send an offer, due 2 Mar 2026, 10:00 Overdue").await;
        page.accessible().await;
        page.fits().await;

        page.click("Convert to a customer").await;
        page.choose("Type", "Business").await;
        page.accessible().await;
        page.fits().await;
        page.click("Convert").await;
        page.see("Converted Ada Lovelace to a customer.").await;
        page.accessible().await;
        page.fits().await;
        assert!(page.weight() < 100_000, "{} bytes", page.weight());

        page.click(".head .confirm:last-child summary").await;
        page.accessible().await;
        page.click(".head .confirm:last-child button").await;
        page.see("Deleted Ada Lovelace.").await;
        page.click("Undo").await;
        page.see("Restored Ada Lovelace.").await;
        page.is_clean().await;
    }
}

#[tokio::test]
async fn two_people_change_a_lead_at_once() {
    let Some(crm) = Crm::start().await else { return };
    let ada = json!({ "name": "Ada", "email": "ada@example.com", "phone": "1" });
    let path = format!("/leads/{}", id(&crm.create("/dev/crm/leads", ada).await));
    let page = crm.signed_in("*", Look::default().by_keyboard()).await;
    page.open(&format!("/console{path}/edit")).await;
    let other = page.another_tab().await;
    other.open(&format!("/console{path}/edit")).await;
    other.fill("Company", "Theirs").await;
    other.fill("Phone", "2").await;
    other.click("Save").await;
    other.see("Saved.").await;

    page.fill("Company", "Mine").await;
    page.click("Save").await;
    page.see("Somebody changed this while you edited it").await;
    page.accessible().await;
    page.fits().await;
    page.row("Company").click("Mine").await;
    page.click("Save").await;
    page.see("Saved.").await;
    let ada = crm.read(&format!("/dev/crm{path}")).await;
    assert_eq!((&ada["company"], &ada["phone"]), (&json!("Mine"), &json!("2")));
}

#[tokio::test]
async fn somebody_finds_leads_and_takes_them_along() {
    let Some(crm) = Crm::start().await else { return };
    for (name, score, status) in [("Ada", 10, "contacted"), ("Bob", 60, "qualified")] {
        let email = format!("{name}@example.com");
        let body = json!({ "name": name, "email": email, "score": score, "status": status });
        crm.create("/dev/crm/leads", body).await;
    }
    for look in [Look::default(), Look::default().narrow().without_scripts()] {
        let page = crm.signed_in("records:read,exports", look).await;
        page.open("/console/leads").await;
        page.click("More filters").await;
        page.accessible().await;
        page.choose("Field", "Score").await;
        page.choose("Comparison", "is at least, or from").await;
        page.fill("Value", "50").await;
        page.click("Add filter").await;
        page.see("1 match").await;
        page.see("Bob").await;
        page.not_see("ada@example.com").await;
        page.fits().await;
        let (_, file) = page.download("Export CSV").await;
        assert_eq!(String::from_utf8(file).unwrap().lines().count(), 2);
        page.is_clean().await;
    }

    let page = crm.signed_in("records:read", Look::default()).await;
    page.open("/console/leads").await;
    page.choose("Status", "Qualified").await;
    page.at("/console/leads?").await;
    page.see("1 match").await;
    page.is_clean().await;

    // By keyboard, the statuses that the arrows pass are no choice yet.
    let page = crm.signed_in("records:read", Look::default().by_keyboard()).await;
    for chosen_by in ["Enter", "Tab"] {
        page.open("/console/leads").await;
        page.choose("Status", "Qualified").await;
        assert_eq!(page.path().await, "/console/leads");
        page.press(chosen_by).await;
        page.see("1 match").await;
        page.see("Bob").await;
        page.not_see("ada@example.com").await;
    }
    page.is_clean().await;
}
