//! Somebody starts a workflow after a dry run, and cancels a job.

use serde_json::json;
use testing::browser::Look;

use crate::support::{Crm, id};

#[tokio::test]
async fn a_workflow_is_tried_and_started() {
    let Some(crm) = Crm::working().await else { return };
    crm.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com", "source": "referral" })).await;
    crm.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com", "source": "website" })).await;
    let page = crm.signed_in("workflows,records:read", Look::default().by_keyboard()).await;
    page.click("Jobs").await;
    page.click("Start a workflow").await;
    page.accessible().await;
    page.fits().await;
    page.click("Set up nurture").await;
    page.accessible().await;
    page.choose("Source", "Referral").await;
    page.click("Dry run").await;
    page.see("Send 1 email to leads").await;
    page.see("ada@example.com").await;
    page.accessible().await;
    page.fits().await;
    assert_eq!(crm.read("/dev/crm/emails").await, json!([]));

    page.click("Send 1 email to leads").await;
    page.see("Succeeded").await;
    page.accessible().await;
    assert_eq!(crm.read("/dev/crm/emails").await.as_array().map(Vec::len), Some(1));
    page.click("Jobs").await;
    page.see("1 sent").await;
    page.accessible().await;
    page.fits().await;
    page.is_clean().await;
}

#[tokio::test]
async fn a_job_is_cancelled_on_a_page_that_lives() {
    let Some(crm) = Crm::start().await else { return };
    let job = crm.send(reqwest::Method::POST, "/dev/crm/followups/process", json!({}), 202).await;
    let page = crm.signed_in("workflows", Look::default().phone()).await;
    page.open(&format!("/console/jobs/{}", id(&job))).await;
    page.see("Queued").await;
    page.accessible().await;
    page.fits().await;
    let other = page.another_tab().await;
    other.open(&format!("/console/jobs/{}", id(&job))).await;
    page.click("details.confirm > summary").await;
    page.see("a retry continues from there").await;
    page.click(".popover button").await;
    page.see("Cancelled").await;
    // The other tab learns it by itself.
    other.see("Cancelled").await;
    page.is_clean().await;
    other.is_clean().await;
}
