//! The overview, reports and feedback.

use reqwest::Method;
use serde_json::json;

use super::crawl::tags;
use super::support::Visitor;
use crate::emails::{queued, set_state};
use crate::feedback::{customer, given};
use crate::support::{self, Api};

/// Leads of two sources, one of which is converted.
async fn leads(api: &Api) {
    for (name, source, status) in
        [("Ada", "website", "converted"), ("Bob", "website", "new"), ("Cy", "referral", "lost")]
    {
        let email = format!("{name}@example.com");
        api.create("/dev/crm/leads", json!({ "name": name, "email": email, "source": source, "status": status })).await;
    }
}

/// The text of a page, without its tags.
fn text(html: &str) -> String {
    let text = regex::Regex::new("<[^>]*>").unwrap().replace_all(html, " ").replace('\u{202f}', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_empty_workspace_says_what_to_do_first() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let page = visitor.page("/console").await;
    for step in ["Import leads or customers", "Create an API key", "Set the sender", "Nothing needs attention."] {
        assert!(page.contains(step), "{step}: {page}");
    }
    for report in ["leads", "customers", "cohorts", "segments"] {
        let page = visitor.page(&format!("/console/reports/{report}")).await;
        assert!(page.contains("Nothing in this period.") && !page.contains("NaN"), "{page}");
    }
    assert!(visitor.page("/console/feedback").await.contains("No feedback in this period"));
    assert!(visitor.page("/console/feedback/answers").await.contains("No answers match"));
}

#[tokio::test]
async fn reports_show_figures_with_formulas_and_offer_every_chart_as_files() {
    let api = Api::start().await;
    leads(&api).await;
    let ada = api.customer("Ada", &[(40, 2), (3, 5)]).await;
    given(&api, &ada, 2, Some((5, "Great"))).await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let page = text(&visitor.page("/console/reports/leads?period=last_7_days").await);
    for shown in [
        "Leads created 3 +3 from 0 leads with created_at in the period",
        "Conversion rate 33.3 % 1 of 3 now converted or won ÷ all",
        "Leads by source",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let mut files = 0;
    for path in ["reports/leads", "reports/customers", "reports/cohorts", "reports/segments", "feedback"] {
        let page = visitor.page(&format!("/console/{path}?tz=Asia/Tokyo")).await;
        assert!(page.len() < 100_000, "{path}: {} bytes", page.len());
        for link in tags(&page).iter().filter(|tag| tag.attribute("download").is_some()) {
            let link = link.attribute("href").unwrap();
            let file = visitor.visit(link).await;
            assert_eq!(file.status, 200, "{link}: {}", file.html);
            let header = |name: &str| file.headers[name].to_str().unwrap().to_owned();
            assert!(header("content-disposition").starts_with("attachment"), "{link}");
            if link.contains(".svg") {
                assert_eq!(header("content-type"), "image/svg+xml");
                assert_eq!(header("content-security-policy"), "default-src 'none'; style-src 'unsafe-inline'");
                assert!(file.html.starts_with("<svg") && file.html.contains("<title>"), "{link}: {}", file.html);
            } else {
                assert!(header("content-type").starts_with("text/csv"), "{link}");
                assert!(!file.html.contains('<'), "{link}: {}", file.html);
            }
            files += 1;
        }
    }
    assert!(files >= 30, "{files} files");
    for unknown in ["leads/nothing.svg", "leads/funnel.png", "leads/funnel", "nothing/funnel.csv"] {
        assert_eq!(visitor.visit(&format!("/console/reports/{unknown}")).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_period_that_the_api_refuses_is_shown_with_its_form() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "*").await;
    for path in ["/console", "/console/reports/leads", "/console/reports/cohorts", "/console/feedback"] {
        for (query, field) in
            [("tz=Mars/Olympus", "tz"), ("from=2026-03-01&to=2026-02-01", "from"), ("period=ever", "period")]
        {
            let shown = visitor.visit(&format!("{path}?{query}")).await;
            assert_eq!(shown.status, 400, "{path}?{query}");
            assert!(
                shown.html.contains(&format!("<code>{field}</code>")) && shown.html.contains("q-tz"),
                "{}",
                shown.html
            );
        }
    }
    // Dates take precedence over a name, which a form may send along.
    visitor.page("/console/reports/leads?period=this_month&from=2026-03-01&to=2026-04-01").await;
}

#[tokio::test]
async fn the_overview_says_what_needs_attention() {
    let api = Api::start().await;
    leads(&api).await;
    let ada = customer(&api, "ada@example.com").await;
    let call = json!({ "type": "call", "subject": "Call", "date": "2026-01-01", "next_action": "Call back", "next_action_date": "2026-01-02" });
    api.create(&format!("/dev/crm/customers/{ada}/interactions"), call).await;
    let email = queued(&api, "ada@example.com", None).await;
    set_state(&api, email, "unknown").await;
    let hook = json!({ "url": "https://example.com/hooks", "events": ["*"] });
    api.create("/dev/crm/webhooks", hook).await;
    for statement in
        ["UPDATE webhooks SET enabled = false, disabled_at = now()", "UPDATE mail_place SET held_since = now()"]
    {
        sqlx::query(statement).execute(&mut api.connection().await).await.unwrap();
    }
    let hold = "email is on hold: an operator holds it";
    assert_eq!(api.read("/dev/crm/me").await["email_hold"], hold);
    let page = text(&Visitor::signed_in(&api, "*").await.page("/console").await);
    for shown in [
        "Email is on hold an operator holds it",
        "1 email with an unknown outcome",
        "1 follow-up is due",
        "1 disabled webhook",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    // Who may not read emails and webhooks learns nothing of them.
    let page = text(&Visitor::signed_in(&api, "records:read").await.page("/console").await);
    assert!(page.contains("1 follow-up is due") && page.contains("Leads created"), "{page}");
    assert!(!page.contains("unknown outcome") && !page.contains("webhook"), "{page}");
    let page = text(&Visitor::signed_in(&api, "emails:read").await.page("/console").await);
    assert!(page.contains("1 email with an unknown outcome") && !page.contains("Leads created"), "{page}");
}

#[tokio::test]
async fn who_may_not_read_records_gets_no_report() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "emails:read").await;
    for path in
        ["reports/leads", "reports/segments", "feedback", "reports/leads/funnel.svg", "reports/leads/funnel.csv"]
    {
        assert_eq!(visitor.visit(&format!("/console/{path}")).await.status, 403, "{path}");
    }
    let reader = Visitor::signed_in(&api, "records:read").await;
    assert!(!reader.page("/console/feedback").await.contains("/console/feedback/request"));
    assert_eq!(reader.send("/console/feedback/process", &[]).await.status, 403);
}

#[tokio::test]
async fn feedback_is_requested_and_processed() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    api.leaves_jobs("remind_feedback");
    let ada = customer(&api, "ada@example.com").await;
    let visitor = Visitor::signed_in(&api, "*").await;
    assert!(visitor.page("/console/feedback").await.contains("Request feedback"));
    let job = visitor.submit("/console/feedback/request", &[("customer", "ada@example.com"), ("once", "a")]).await;
    // Sent twice, it is one request.
    assert_eq!(visitor.submit("/console/feedback/request", &[("customer", &ada), ("once", "a")]).await, job);
    let again = visitor.send("/console/feedback/request", &[("customer", &ada), ("once", "b")]).await;
    assert_eq!(again.status, 409, "{}", again.html);
    assert!(again.html.contains(&format!("value=\"{ada}\"")), "{}", again.html);

    let stranger = Api::start().await;
    let other = customer(&stranger, "eve@example.com").await;
    for given in [other.as_str(), "nobody@example.com", "", "<script>"] {
        let refused = visitor.send("/console/feedback/request", &[("customer", given)]).await;
        assert_eq!(refused.status, 404, "{given}");
        assert!(!refused.html.contains("<script>alert") && refused.html.contains("role=\"alert\""), "{}", refused.html);
    }

    let preview = visitor.submit("/console/feedback/process", &[("dry_run", "true")]).await;
    let job = api.read(&preview.replace("/console", "/dev/crm")).await;
    assert_eq!(job["kind"], "remind_feedback", "{job}");
    support::json(api.request(Method::POST, &format!("{}/cancel", preview.replace("/console", "/dev/crm"))), 200).await;
}

#[tokio::test]
async fn answers_are_filtered() {
    let api = Api::start().await;
    let ada = customer(&api, "ada@example.com").await;
    given(&api, &ada, 2, Some((5, "Great"))).await;
    given(&api, &ada, 3, Some((1, "Slow"))).await;
    let visitor = Visitor::signed_in(&api, "records:read").await;
    let all = text(&visitor.page("/console/feedback/answers").await);
    assert!(all.contains("Ada Lovelace") && all.contains("Great") && all.contains("Slow"), "{all}");
    let bad = text(&visitor.page("/console/feedback/answers?rating=1").await);
    assert!(!bad.contains("Great") && bad.contains("Slow") && bad.contains("1 match"), "{bad}");
}
