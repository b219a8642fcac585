//! The console of operators, on the admin port.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use shared::accounts::workspaces;
use shared::operations::pauses::{self, Target};
use testing::Process;

use super::Operations;
use crate::console::support::{Shown, Visitor};
use crate::holds::until;
use crate::support;

const SIGN_IN: &str = "/console/sign-in";

fn visitor(operations: &Operations) -> Visitor {
    Visitor::at(format!("http://{}", operations.api.admin))
}

async fn signed_in(operations: &Operations) -> Visitor {
    visitor(operations).with_key(&operations.key).await
}

/// The rows of a page's table that have this text, without their tags.
fn rows(html: &str, text: &str) -> Vec<String> {
    let tag = regex::Regex::new("<[^>]*>").unwrap();
    let rows = html.split("<tr>").skip(1).map(|row| row.split("</tr>").next().unwrap());
    rows.map(|row| tag.replace_all(row, " ").into_owned()).filter(|row| row.contains(text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_button_does_what_it_says_and_is_audited() {
    let operations = Operations::start().await;
    let workspace = operations.api.workspace_id.to_string();
    let worker = Process::worker(&operations.api.database, &[]);
    until("the worker has registered", async || operations.read("/workers").await[0].is_object()).await;
    let worker_id = operations.read("/workers").await[0]["id"].as_str().unwrap().to_owned();
    let visitor = signed_in(&operations).await;
    for (group, name, verb, action) in [
        ("queues", "mail", "pause", "queues.pause"),
        ("queues", "mail", "resume", "queues.resume"),
        ("kinds", "import_leads", "pause", "kinds.pause"),
        ("kinds", "import_leads", "resume", "kinds.resume"),
        ("workspaces", workspace.as_str(), "pause", "workspaces.pause"),
        ("workspaces", workspace.as_str(), "resume", "workspaces.resume"),
        ("workspaces", workspace.as_str(), "suspend", "workspaces.suspend"),
        ("workspaces", workspace.as_str(), "unsuspend", "workspaces.unsuspend"),
        ("workers", worker_id.as_str(), "drain", "workers.drain"),
        ("workers", worker_id.as_str(), "undrain", "workers.undrain"),
    ] {
        let page = visitor.visit("/console").await;
        let path = format!("/console/steer/{group}/{name}/{verb}");
        let answer = visitor.fill_in(&page, &path, &[]).await;
        assert_eq!((answer.status, answer.leads_to()), (303, "/console"), "{path}: {}", answer.html);
        let done = operations.last_action().await;
        assert_eq!(
            (&done["action"], &done["actor"], &done["source"]),
            (&json!(action), &json!("ada"), &json!("console"))
        );
        assert!(done["finished_at"].is_string() && done["error"].is_null(), "{done}");
    }
    // Everything is as before, and the page lists what was done.
    assert_eq!(operations.read("/pauses").await, json!([]));
    let page = visitor.page("/console").await;
    assert_eq!(rows(&page, "workers.undrain").len(), 1, "{page}");
    assert!(rows(&page, &worker_id.replace('-', "")[..8])[0].contains("Running"), "{page}");
    assert!(page.contains("connections are open"), "{page}");
    drop(worker);
}

#[tokio::test]
async fn the_page_shows_what_waits_and_what_is_paused() {
    let operations = Operations::start().await;
    let api = &operations.api;
    api.leaves_jobs("import_leads");
    let job = support::json(api.post("/dev/crm/leads/nurture/start?dry_run=true"), 202).await;
    api.leaves_jobs(job["kind"].as_str().unwrap());
    let queue = Target::Queue("workflows".to_owned());
    pauses::pause(&mut api.connection().await, &queue, Some("a <b>slow</b> disk")).await.unwrap();
    let visitor = signed_in(&operations).await;
    let page = visitor.page("/console").await;
    let row = rows(&page, "workflows").remove(0);
    assert!(
        row.contains("Paused") && row.contains("a &lt;b&gt;slow&lt;/b&gt; disk") && row.contains("Resume"),
        "{row}"
    );
    assert!(row.split_whitespace().nth(1) == Some("1"), "one is due: {row}");
    assert!(page.contains("No worker has registered"), "{page}");
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

#[tokio::test]
async fn jobs_that_match_a_filter_are_retried_if_their_number_is_the_expected_one() {
    let operations = Operations::start().await;
    let workspace = operations.api.workspace_id;
    operations.jobs(workspace, 2, "failed", Some("disk full")).await;
    operations.jobs(workspace, 1, "failed", Some("no such thing")).await;
    let visitor = signed_in(&operations).await;
    let page = visitor.visit("/console/jobs?status=failed&error=disk").await;
    assert!(page.html.contains("<strong>2</strong> jobs match."), "{}", page.html);
    assert_eq!(rows(&page.html, "disk full").len(), 2);

    // Another one fails meanwhile.
    let other = "UPDATE jobs SET error = 'disk full, too' WHERE error = 'no such thing'";
    sqlx::query(other).execute(&mut operations.api.connection().await).await.unwrap();
    let refused = visitor.fill_in(&page, "/console/jobs/retry", &[]).await;
    assert_eq!((refused.status, refused.leads_to()), (303, "/console/jobs?status=failed&error=disk"));
    assert!(visitor.page("/console/jobs?status=failed&error=disk").await.contains("<strong>3</strong> jobs match."));

    let page = visitor.visit("/console/jobs?status=failed&error=disk").await;
    let retried = visitor.fill_in(&page, "/console/jobs/retry", &[]).await;
    assert_eq!(retried.status, 303, "{}", retried.html);
    let action = operations.last_action().await;
    assert_eq!((&action["action"], &action["matched"]), (&json!("jobs.retry"), &json!(3)));

    // A filter that is wrong is named at its input.
    let wrong = visitor.visit("/console/jobs?older_than=soon").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.html.contains("older_than"), "{}", wrong.html);
}

#[tokio::test]
async fn only_a_valid_operator_signs_in_and_only_while_the_key_is_valid() {
    let operations = Operations::start().await;
    let visitor = visitor(&operations);
    for path in ["/console", "/console/jobs", "/console/live"] {
        assert_eq!(visitor.visit(path).await.leads_to(), SIGN_IN, "{path}");
    }
    for key in ["", "crm_op_nothing", operations.api.key.as_str()] {
        let answer = Shown::of(visitor.post(SIGN_IN, &[("key", key)]).send().await.unwrap()).await;
        assert_eq!(answer.status, 401, "{key}");
    }
    // The key of an operator opens nothing on the public port.
    let public = Visitor::new(&operations.api);
    assert_eq!(Shown::of(public.post(SIGN_IN, &[("key", &operations.key)]).send().await.unwrap()).await.status, 401);

    let visitor = visitor.with_key(&operations.key).await;
    let page = visitor.page("/console").await;
    let id = operations.json(&["operators", "list"]).await[0]["id"].as_str().unwrap().to_owned();
    operations.print(&["operators", "revoke", &id]).await;
    assert_eq!(visitor.visit("/console").await.leads_to(), SIGN_IN);
    let form = Shown { status: 200, headers: Default::default(), html: page };
    let refused = visitor.fill_in(&form, "/console/steer/queues/mail/pause", &[]).await;
    assert_eq!(refused.leads_to(), SIGN_IN);
    assert_eq!(pauses::list(&mut operations.api.connection().await).await.unwrap(), []);
}

#[tokio::test]
async fn a_form_needs_the_token_of_its_session_and_must_come_from_this_site() {
    let operations = Operations::start().await;
    let visitor = signed_in(&operations).await;
    let other = signed_in(&operations).await;
    let path = "/console/steer/queues/mail/pause";
    let foreign = other.token().await;
    for fields in [vec![], vec![("token", "x")], vec![("token", foreign.as_str())]] {
        let answer = Shown::of(visitor.post(path, &fields).send().await.unwrap()).await;
        assert_eq!(answer.status, 403, "{fields:?}");
        assert!(answer.html.contains("This form belongs to another session"), "{}", answer.html);
    }
    let own = visitor.token().await;
    let request = visitor.post(path, &[("token", &own)]).header("sec-fetch-site", "cross-site");
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert_eq!(operations.read("/pauses").await, json!([]));

    // A path that no button has is nothing.
    for path in ["/console/steer/queues/mail/drain", "/console/steer/records/mail/pause", "/console/jobs/resend"] {
        assert_eq!(visitor.send(path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(visitor.send("/console/steer/queues/..%2Fworkers/pause", &[]).await.status, 400);

    assert_eq!(visitor.submit("/console/sign-out", &[]).await, SIGN_IN);
    assert_eq!(visitor.visit("/console").await.leads_to(), SIGN_IN);
    other.page("/console").await;
}

#[tokio::test]
async fn names_are_text_and_pages_have_the_headers_of_the_console() {
    let operations = Operations::start().await;
    let name = "<script>alert(1)</script>\"'";
    workspaces::create(&mut operations.api.connection().await, name).await.unwrap();
    let visitor = signed_in(&operations).await;
    for path in ["/console", "/console/jobs?workspace=%3Cscript%3E", "/console/jobs?error=%22%3E%3Cscript%3E"] {
        let shown = visitor.visit(path).await;
        assert!(!shown.html.contains("<script>"), "{path}: {}", shown.html);
        let policy = shown.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(shown.headers["cache-control"], "no-store");
    }
    assert!(visitor.page("/console").await.contains("&lt;script&gt;alert(1)"));
}

#[tokio::test]
async fn the_page_lives() {
    let operations = Operations::start().await;
    let visitor = signed_in(&operations).await;
    let mut stream = visitor.get("/console/live").send().await.unwrap().bytes_stream();
    let queue = Target::Queue("imports".to_owned());
    pauses::pause(&mut operations.api.connection().await, &queue, None).await.unwrap();
    let mut seen = String::new();
    let news = async {
        while !seen.contains("Resume") {
            seen.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), news).await.expect("the pause is shown");
}
