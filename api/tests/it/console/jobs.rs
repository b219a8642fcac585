//! Jobs are followed, cancelled and retried on pages, and workflows are started after a dry run.

use reqwest::header::LOCATION;
use serde_json::json;
use uuid::Uuid;

use super::support::Visitor;
use crate::support::{self, Api, id};
use crate::workflows::worker;

#[tokio::test]
async fn a_job_is_cancelled_and_retried() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    let visitor = Visitor::signed_in(&api, "workflows").await;
    let job = support::json(api.post("/dev/crm/followups/process"), 202).await;
    let page = format!("/console/jobs/{}", id(&job));
    let list = visitor.page("/console/jobs?status=queued").await;
    assert!(list.contains(&page) && list.contains("Follow-ups"), "{list}");
    assert_eq!(visitor.submit(&format!("{page}/cancel"), &[]).await, page);
    let html = visitor.page(&page).await;
    assert!(html.contains(">Cancelled<") && html.contains(&format!("{page}/retry")), "{html}");
    visitor.submit(&format!("{page}/retry"), &[]).await;
    assert!(visitor.page(&page).await.contains(">Queued<"));

    // A key that starts no such job neither lists nor follows it.
    let importer = Visitor::signed_in(&api, "imports").await;
    assert!(!importer.page("/console/jobs").await.contains(&page));
    assert_eq!(importer.visit(&page).await.status, 403);
    assert_eq!(importer.send(&format!("{page}/cancel"), &[]).await.status, 403);
    for unknown in [Uuid::now_v7().to_string(), "nonsense".to_owned()] {
        assert_eq!(visitor.visit(&format!("/console/jobs/{unknown}")).await.status, 404);
    }
}

#[tokio::test]
async fn a_workflow_starts_with_a_dry_run_that_says_how_many_emails_it_sends() {
    let api = Api::start().await;
    let _worker = worker(&api);
    for (name, source) in [("Ann <b>", "referral"), ("Bob", "website")] {
        let email = format!("{}@example.com", &name[..3]);
        api.create("/dev/crm/leads", json!({ "name": name, "email": email, "source": source })).await;
    }
    let visitor = Visitor::signed_in(&api, "workflows,records:read").await;
    let path = "/console/jobs/start/nurture";
    assert!(visitor.page("/console/jobs/start").await.contains(path));
    assert!(visitor.page(path).await.contains("Dry run"));

    let shown = visitor.send(path, &[("source", "nonsense"), ("dry_run", "true")]).await;
    assert!(shown.status == 400 && shown.html.contains("aria-invalid"), "{}", shown.html);

    let tried = visitor.submit(path, &[("source", "referral"), ("dry_run", "true")]).await;
    let (page, job) = (tried.split('#').next().unwrap(), tried.split("job=").nth(1).unwrap());
    let job = api.read(&format!("/dev/crm/jobs/{}?wait=25", job.split('#').next().unwrap())).await;
    assert_eq!((&job["status"], &job["result"]["sent"]), (&json!("succeeded"), &json!(1)));
    let html = visitor.page(page).await;
    assert!(html.contains("1 email to leads") && html.contains("Ann@example.com") && !html.contains("Bob@"), "{html}");
    assert_eq!(api.read("/dev/crm/emails").await, json!([]));

    let fields = [("source", "referral"), ("confirm", "1"), ("once", "the-same")];
    let first = visitor.send(path, &fields).await;
    let again = visitor.send(path, &fields).await;
    assert_eq!((first.status, &first.headers[LOCATION]), (303, &again.headers[LOCATION]));
    let job = first.leads_to().rsplit('/').next().unwrap();
    assert_eq!(api.read(&format!("/dev/crm/jobs/{job}?wait=25")).await["result"]["sent"], 1);
    assert!(visitor.page(first.leads_to()).await.contains("Succeeded"));

    // Without the scope, what a dry run found is not shown, and nothing is started.
    let blind = Visitor::signed_in(&api, "workflows").await;
    assert!(!blind.page(page).await.contains("Ann@example.com"));
    let reader = Visitor::signed_in(&api, "records:read").await;
    assert_eq!(reader.send(path, &[("dry_run", "true")]).await.status, 403);
}
