//! Somebody who is on call pauses a queue, drains a worker, and cancels jobs by a filter.

use serde_json::json;
use testing::browser::Look;

use crate::support::Crm;

#[tokio::test]
async fn an_operator_pauses_a_queue_and_drains_a_worker() {
    let Some(crm) = Crm::working().await else { return };
    let page = crm.operator(Look::default()).await;
    page.see("Workspaces by load").await;
    page.see("acme").await;
    page.accessible().await;
    page.fits().await;
    page.click("details.confirm:has([action='/console/steer/queues/imports/pause']) > summary").await;
    page.see("Nothing of imports is claimed any more").await;
    page.accessible().await;
    page.click("[action='/console/steer/queues/imports/pause'] button").await;
    page.see("The queue is paused.").await;
    page.see("queues.pause").await;

    // Another tab learns by itself that the worker drains.
    let other = page.another_tab().await;
    other.open("/console").await;
    page.click("details.confirm:has([action$='/drain']) > summary").await;
    page.click("[action$='/drain'] button").await;
    page.see("The worker is draining.").await;
    other.see("Drained").await;
    page.click("Undrain").await;
    page.see("The worker claims again.").await;
    page.click("[action='/console/steer/queues/imports/resume'] button").await;
    page.see("The queue is resumed.").await;
    page.accessible().await;
    page.is_clean().await;
    other.is_clean().await;
}

#[tokio::test]
async fn an_operator_cancels_jobs_by_a_filter_on_a_phone() {
    let Some(crm) = Crm::start().await else { return };
    for _ in 0..2 {
        crm.send(reqwest::Method::POST, "/dev/crm/leads/nurture/start", json!({}), 202).await;
    }
    let page = crm.operator(Look::default().phone()).await;
    page.see("No worker").await;
    page.accessible().await;
    page.fits().await;
    page.click("Find jobs").await;
    page.choose("Status", "due").await;
    page.click("Show").await;
    page.see("1 job matches.").await;
    page.accessible().await;
    page.fits().await;
    page.click("details.confirm:has([action='/console/jobs/cancel']) > summary").await;
    page.see("They end at once.").await;
    page.click("[action='/console/jobs/cancel'] button").await;
    page.see("1 of 1 jobs were changed.").await;
    page.see("0 jobs match.").await;
    page.is_clean().await;
}

#[tokio::test]
async fn without_scripts_and_on_a_narrow_screen_everything_works() {
    let Some(crm) = Crm::working().await else { return };
    let page = crm.operator(Look::default().narrow().without_scripts()).await;
    page.fits().await;
    page.click("details.confirm:has([action='/console/steer/kinds/import_leads/pause']) > summary").await;
    page.click("[action='/console/steer/kinds/import_leads/pause'] button").await;
    page.see("The kind of job is paused.").await;
    page.click("[action='/console/steer/kinds/import_leads/resume'] button").await;
    page.see("The kind of job is resumed.").await;
    page.click("Sign out").await;
    page.see("Operator key").await;
    page.is_clean().await;
}
