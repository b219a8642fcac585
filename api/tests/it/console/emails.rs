//! Emails are shown as they look, and decided about.

use serde_json::json;
use uuid::Uuid;

use super::support::Visitor;
use crate::emails::{queued, set_state};
use crate::support::{Api, each};

#[tokio::test]
async fn an_email_is_shown_in_a_frame_that_can_do_nothing() {
    let api = Api::start().await;
    let id = queued(&api, "ada@example.com", None).await;
    let attack = "<p>Hi</p><script>alert(1)</script>";
    sqlx::query("UPDATE emails SET html_body = $2, subject = '<b>Hello</b>' WHERE id = $1")
        .bind(id)
        .bind(attack)
        .execute(&mut api.connection().await)
        .await
        .unwrap();
    let visitor = Visitor::signed_in(&api, "emails:read").await;
    let page = format!("/console/emails/{id}");
    let list = visitor.visit("/console/emails?state=queued").await;
    assert!(list.html.contains(&page) && list.html.contains("&lt;b&gt;Hello"), "{}", list.html);
    assert!(!list.headers["content-security-policy"].to_str().unwrap().contains("frame-src"));

    let shown = visitor.visit(&page).await;
    assert!(shown.headers["content-security-policy"].to_str().unwrap().contains("frame-src 'self'"));
    assert!(shown.html.contains(&format!("<iframe class=\"email\" src=\"{page}/html\" sandbox")), "{}", shown.html);
    assert!(shown.html.contains("Hi Ada") && !shown.html.contains("<script>alert"), "{}", shown.html);
    let framed = visitor.visit(&format!("{page}/html")).await;
    assert_eq!(framed.html, attack);
    let policy = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'";
    assert_eq!(framed.headers["content-security-policy"], policy);
    assert!(framed.headers.get("x-frame-options").is_none());

    // What the key may not do is neither offered nor done.
    set_state(&api, id, "unknown").await;
    assert!(!visitor.page(&page).await.contains("mark-sent"));
    assert_eq!(visitor.send(&format!("{page}/resend"), &[]).await.status, 403);
    assert_eq!(visitor.visit(&format!("/console/emails/{}", Uuid::now_v7())).await.status, 404);
    let other = Visitor::signed_in(&api, "records:read").await;
    assert_eq!(other.visit(&format!("{page}/html")).await.status, 403);
}

#[tokio::test]
async fn an_unknown_email_is_decided_about() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "emails:read,workflows,records:read,keys").await;
    for (what, state) in [("mark-sent", "Sent"), ("resend", "Queued")] {
        let id = queued(&api, "ada@example.com", None).await;
        set_state(&api, id, "unknown").await;
        let page = format!("/console/emails/{id}");
        let html = visitor.page(&page).await;
        assert!(html.contains("Was it delivered?") && html.contains("gets it twice"), "{html}");
        assert_eq!(visitor.submit(&format!("{page}/{what}"), &[]).await, page);
        let html = visitor.page(&page).await;
        assert!(html.contains(&format!(">{state}<")) && !html.contains("Was it delivered?"), "{html}");
        // Both decisions are in what happened to it.
        assert!(html.contains("What happened") && html.contains("Session"), "{html}");
        assert_eq!(visitor.send(&format!("{page}/{what}"), &[]).await.status, 409);
    }
}

#[tokio::test]
async fn an_email_that_waits_is_cancelled() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "emails:read,workflows").await;
    let page = format!("/console/emails/{}", queued(&api, "ada@example.com", None).await);
    assert!(visitor.page(&page).await.contains("The email is not sent."));
    visitor.submit(&format!("{page}/cancel"), &[]).await;
    assert!(visitor.page(&page).await.contains(">Cancelled<"));
}

#[tokio::test]
async fn an_address_is_suppressed_and_released() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "emails:read,workflows,exports").await;
    let path = "/console/emails/suppressions";
    assert!(visitor.page(path).await.contains("No address is suppressed"));
    let shown = visitor.send(path, &[("email", "nobody"), ("reason", "manual"), ("scope", "")]).await;
    assert!(shown.status == 400 && shown.html.contains("id=\"w-email\""), "{}", shown.html);
    let fields = [("email", "ada@example.com"), ("reason", "complained"), ("scope", "")];
    assert_eq!(visitor.submit(path, &fields).await, path);
    assert_eq!(visitor.send(path, &fields).await.status, 409);
    let html = visitor.page(&format!("{path}?reason=complained")).await;
    assert!(html.contains("ada@example.com") && html.contains("Every email"), "{html}");
    assert!(visitor.page("/console/emails/suppressions.csv").await.contains("ada@example.com"));
    let listed = api.read("/dev/crm/suppressions").await;
    visitor.submit(&format!("{path}/{}/remove", each(&listed, "id")[0]), &[]).await;
    assert_eq!(api.read("/dev/crm/suppressions").await, json!([]));
}
