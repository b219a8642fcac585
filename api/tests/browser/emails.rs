//! Somebody decides about an email of which nobody knows whether it was delivered.

use serde_json::json;
use testing::browser::Look;

use crate::support::{Crm, id};

#[tokio::test]
async fn an_unknown_email_is_seen_as_it_looks_and_decided_about() {
    let Some(crm) = Crm::working().await else { return };
    crm.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    crm.run("/dev/crm/leads/nurture/start").await;
    let email = crm.read("/dev/crm/emails").await[0].clone();
    for look in [Look::default(), Look::default().phone().dark().by_keyboard(), Look::default().without_scripts()] {
        sqlx::query("UPDATE emails SET state = 'unknown', answer = 'the connection broke'")
            .execute(crm.database.pool())
            .await
            .unwrap();
        let page = crm.signed_in("emails:read,workflows,records:read", look).await;
        page.click("Emails").await;
        page.accessible().await;
        page.fits().await;
        page.choose("State", "Unknown").await;
        page.within("form.filters").click("Apply").await;
        page.click("ada@example.com").await;
        page.see("Was it delivered?").await;
        page.see("the connection broke").await;
        page.accessible().await;
        page.fits().await;
        let frame = format!("/console/emails/{}/html", id(&email));
        assert_eq!(page.evaluate("document.querySelector('iframe').getAttribute('src')").await, frame);

        page.click("It was sent").await;
        page.see("This is final.").await;
        page.click(".popover button").await;
        page.see("The email is marked as sent.").await;
        page.is_clean().await;
        assert_eq!(crm.read("/dev/crm/emails").await[0]["state"], "sent");
    }
}

#[tokio::test]
async fn an_address_is_suppressed_and_released() {
    let Some(crm) = Crm::start().await else { return };
    let page = crm.signed_in("emails:read,workflows", Look::default().phone()).await;
    page.open("/console/emails/suppressions").await;
    page.accessible().await;
    page.fits().await;
    page.click("Suppress an address").await;
    let form = page.within("details.fold");
    form.fill("Email", "ada@example.com").await;
    form.choose("Reason", "Complained").await;
    form.click("Suppress").await;
    page.see("ada@example.com gets no email any more.").await;
    page.accessible().await;
    page.fits().await;
    page.row("ada@example.com").click("details.confirm > summary").await;
    page.row("ada@example.com").click(".popover button").await;
    page.see("No address is suppressed").await;
    page.is_clean().await;
}
