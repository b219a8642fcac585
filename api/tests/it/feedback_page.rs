//! Customers give feedback on a page, without a key and without scripts.

use chrono::Utc;
use insta::assert_snapshot;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use shared::platform::signed_links::Signer;
use uuid::Uuid;

use crate::feedback::{ANSWERED, ask, changes, customer, path_of};
use crate::support::{self, Api};
use crate::workflows::{outbox, rows, worker};

const FORM: &str = "application/x-www-form-urlencoded";

/// A browser that does not follow redirects.
fn browser() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// Requests feedback from a customer, and returns the feedback's path and its page's URL.
pub(crate) async fn asked(api: &Api) -> (String, String) {
    let ada = customer(api, "ada@example.com").await;
    let path = path_of(&ask(api, &ada).await);
    let id = Uuid::try_parse(path.rsplit('/').next().unwrap()).unwrap();
    let signer = Signer::load(&mut api.connection().await).await.unwrap();
    (path, api.url(&format!("/feedback/{}", signer.sign("feedback", api.workspace_id, id))))
}

/// Checks that a response is a page, and returns its HTML.
async fn page(answer: Response, status: u16) -> String {
    let given = answer.status();
    let headers = answer.headers().clone();
    let text = answer.text().await.unwrap();
    assert_eq!(given, status, "{text}");
    assert_eq!(headers["content-type"], "text/html; charset=utf-8", "{text}");
    assert_eq!(
        (&headers["cache-control"], &headers["referrer-policy"]),
        (&"no-store".parse().unwrap(), &"no-referrer".parse().unwrap())
    );
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert!(text.starts_with("<!doctype html>") && !text.contains("<script"), "{text}");
    text
}

pub(crate) async fn submit(url: &str, form: &[(&str, &str)]) -> Response {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let form: Vec<String> = form.iter().map(|(name, text)| format!("{name}={}", encoded(text))).collect();
    browser().post(url).header("content-type", FORM).body(form.join("&")).send().await.unwrap()
}

#[tokio::test]
async fn the_link_in_the_email_leads_to_a_page_that_accepts_one_answer() {
    let api = Api::start().await;
    api.leaves_jobs("find_themes");
    let _worker = worker(&api);
    let ada = customer(&api, "ada@example.com").await;
    let job = api.ended(&ask(&api, &ada).await).await;
    let path = path_of(&job);
    let [email] = &outbox(&api).await[..] else { panic!("one email") };
    let link = email.text_body.split_whitespace().find(|word| word.contains("/feedback/")).unwrap();
    let token =
        link.rsplit('/').next().unwrap().trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let url = api.url(&format!("/feedback/{token}"));

    let before = api.read(&path).await;
    let form = page(browser().get(&url).send().await.unwrap(), 200).await;
    for part in
        ["Hello Ada", "<form method=\"post\">", "name=\"rating\" value=\"5\"", "name=\"comment\"", "name=\"category\""]
    {
        assert!(form.contains(part), "{part} in {form}");
    }
    assert_snapshot!("feedback_form", form);
    assert_eq!(browser().head(&url).send().await.unwrap().status(), 200);
    assert_eq!(browser().get(format!("{url}?rating=5")).send().await.unwrap().status(), 200);
    assert_eq!(api.read(&path).await, before, "reading changes nothing");

    let answer =
        submit(&url, &[("rating", "4"), ("comment", "Quick,\r\nand kind ü\u{1f600}\r\n"), ("category", "delivery")])
            .await;
    assert_eq!(answer.headers()["location"], token);
    page(answer, 303).await;
    let answered = api.read(&path).await;
    let fields = ["status", "rating", "comment", "category"].map(|name| &answered[name]);
    assert_eq!(fields, [&json!("answered"), &json!(4), &json!("Quick,\nand kind ü\u{1f600}"), &json!("delivery")]);
    assert_eq!(changes(&api, &path, "customer").await, [ANSWERED]);

    let thanks = page(browser().get(&url).send().await.unwrap(), 200).await;
    let day = Utc::now().format("%-d %B %Y").to_string();
    assert!(thanks.contains("Thank you, Ada") && thanks.contains(&day) && !thanks.contains("<form"), "{thanks}");
    assert_snapshot!("feedback_thanks", thanks.replace(&day, "[day]"));
    let again = page(submit(&url, &[("rating", "1")]).await, 409).await;
    assert!(again.contains("already answered"), "{again}");
    assert_snapshot!("feedback_already_answered", again.replace(&day, "[day]"));
    assert_eq!(api.read(&path).await, answered);
}

#[tokio::test]
async fn the_page_marks_invalid_fields_and_preserves_the_input() {
    let api = Api::start().await;
    api.leaves_jobs("find_themes");
    api.leaves_jobs("request_feedback");
    let (path, url) = asked(&api).await;
    let before = api.read(&path).await;
    let input = "</textarea><b>5 > 4 & \"so\"";
    let again = page(submit(&url, &[("comment", input), ("category", "price")]).await, 400).await;
    assert!(again.contains("Please choose a rating."), "{again}");
    assert!(again.contains("&lt;&#x2f;textarea&gt;&lt;b&gt;5 &gt; 4 &amp; &quot;so&quot;"), "{again}");
    assert!(again.contains("value=\"price\" checked"), "{again}");
    assert_snapshot!("feedback_invalid", again);
    for rating in ["0", "6", "4.5", "five", "5;"] {
        let again = page(submit(&url, &[("rating", rating), ("comment", "kept")]).await, 400).await;
        assert!(again.contains("Please choose a rating.") && again.contains("\nkept</textarea>"), "{rating}: {again}");
    }
    let long = "ü".repeat(10_001);
    let again = page(submit(&url, &[("rating", "2"), ("comment", &long)]).await, 400).await;
    assert!(again.contains("at most 10000 characters") && again.contains(&long), "a long comment");
    assert!(again.contains("value=\"2\" required checked"), "the rating is kept");
    let again = page(submit(&url, &[("rating", "2"), ("category", &"c".repeat(101))]).await, 400).await;
    assert!(again.contains("at most 100 characters"), "{again}");
    let huge = "x".repeat(1024 * 1024);
    let refused = page(submit(&url, &[("rating", "2"), ("comment", &huge)]).await, 413).await;
    assert!(refused.contains("shorter"), "{refused}");
    page(browser().post(&url).json(&json!({ "rating": 5 })).send().await.unwrap(), 415).await;
    for broken in ["rating=%zz", "rating=%ff", "rating=5&comment=%00"] {
        let sent = browser().post(&url).header("content-type", FORM).body(broken).send().await.unwrap();
        page(sent, 400).await;
    }
    assert_eq!(browser().request(Method::PUT, &url).send().await.unwrap().status(), 405);
    assert_eq!(api.read(&path).await, before);
    // The longest comment, a category of the customer's own, and a field that the form does not
    // have.
    let longest = "\u{1f600}".repeat(10_000);
    let accepted = submit(&url, &[("rating", "2"), ("comment", &longest), ("category", "my own"), ("utm", "1")]).await;
    assert_eq!(accepted.status(), 303);
    let answered = api.read(&path).await;
    assert_eq!((&answered["category"], answered["comment"].as_str()), (&json!("my own"), Some(longest.as_str())));
}

#[tokio::test]
async fn all_invalid_links_lead_to_the_same_page() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let (path, url) = asked(&api).await;
    let feedback_id = Uuid::try_parse(path.rsplit('/').next().unwrap()).unwrap();
    let signer = Signer::load(&mut api.connection().await).await.unwrap();
    let (site, token) = url.rsplit_once('/').unwrap();
    let mut altered = token.to_owned();
    altered.replace_range(50..51, if &token[50..51] == "A" { "B" } else { "A" });
    let other = [
        altered,
        token[1..].to_owned(),
        format!("{token}A"),
        "%00".to_owned(),
        "a".repeat(4_000),
        signer.sign("unsubscribe", api.workspace_id, feedback_id),
        signer.sign("feedback", Uuid::now_v7(), feedback_id),
        signer.sign("feedback", api.workspace_id, Uuid::now_v7()),
    ];
    let mut pages = Vec::new();
    for token in other {
        let url = format!("{site}/{token}");
        pages.push(page(browser().get(&url).send().await.unwrap(), 404).await);
        pages.push(page(submit(&url, &[("rating", "5")]).await, 404).await);
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "the pages differ");
    assert_snapshot!("unknown_link", pages[0]);

    // The link of a deleted customer is invalid until the customer is restored.
    let customer = api.read(&path).await["customer_id"].as_str().unwrap().to_owned();
    api.delete(&format!("/dev/crm/customers/{customer}"), 204).await;
    page(browser().get(&url).send().await.unwrap(), 404).await;
    page(submit(&url, &[("rating", "5")]).await, 404).await;
    support::json(api.post(&format!("/dev/crm/customers/{customer}/restore")), 200).await;
    page(browser().get(&url).send().await.unwrap(), 200).await;
    assert_eq!(submit(&url, &[("rating", "5")]).await.status(), 303);
}

#[tokio::test]
async fn of_concurrent_answers_to_an_expired_request_one_is_saved() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let (path, url) = asked(&api).await;
    rows(&api, "UPDATE feedback SET status = 'expired', expired_at = now()").await;
    page(browser().get(&url).send().await.unwrap(), 200).await;
    let (first, second) = (submit(&url, &[("rating", "1")]), submit(&url, &[("rating", "5")]));
    let (first, second) = tokio::join!(first, second);
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    let rating = if statuses[0] == 303 { 1 } else { 5 };
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 409]);
    let answered: Value = api.read(&path).await;
    assert_eq!((&answered["status"], &answered["rating"]), (&json!("answered"), &json!(rating)));
}
