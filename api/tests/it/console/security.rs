//! The console under attack: forms of other sites, frames, redirects, other workspaces, keys that may do little.

use std::collections::BTreeSet;

use regex::Regex;
use shared::accounts::scopes::Scope;

use super::crawl::{crawl, tags};
use super::hostile::{fill, leave_jobs};
use super::support::{Shown, Visitor};
use crate::support::Api;

/// The most bytes of a page.
const WEIGHT: usize = 100_000;

#[tokio::test]
async fn every_page_is_light_and_cannot_be_framed_or_cached() {
    let api = Api::start().await;
    fill(&api, "plain").await;
    leave_jobs(&api);
    let visitor = Visitor::signed_in(&api, "*").await;
    let pages = crawl(&visitor).await;
    assert!(pages.len() > 30, "{:?}", pages.keys());
    for (path, Shown { status, headers, html }) in &pages {
        assert_eq!(*status, 200, "{path}: {html}");
        if headers["content-type"] != "text/html; charset=utf-8" {
            continue;
        }
        let policy = headers["content-security-policy"].to_str().unwrap();
        let is_email = policy.starts_with("sandbox; default-src 'none'") && policy.contains("frame-ancestors 'self'");
        let is_page = policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'");
        assert!(is_email || (is_page && !policy.contains("unsafe")), "{path}: {policy}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(html.len() < WEIGHT, "{path}: {} bytes", html.len());
        assert!(is_email || html.matches("<h1").count() == 1, "{path} has one heading of the first level");
    }
}

#[tokio::test]
async fn a_form_without_the_sessions_token_has_no_effect() {
    let api = Api::start().await;
    fill(&api, "plain").await;
    leave_jobs(&api);
    let (visitor, other) = (Visitor::signed_in(&api, "*").await, Visitor::signed_in(&api, "*").await);
    let foreign = other.token().await;
    let mut actions = BTreeSet::new();
    for Shown { html, .. } in crawl(&visitor).await.values() {
        let forms = tags(html).into_iter().filter(|tag| tag.name == "form" && tag.attribute("method") == Some("post"));
        actions.extend(forms.filter_map(|tag| tag.attribute("action").map(str::to_owned)));
    }
    assert!(actions.len() > 20, "{actions:?}");
    let parameter = Regex::new(r"([?&])token=[^&]*").unwrap();
    for action in actions {
        let bare = parameter.replace(&action, "$1").into_owned();
        for token in ["", "wrong", &foreign] {
            let answer = visitor.post(&bare, &[("token", token)]).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{bare} with the token {token:?}");
        }
        let answer = visitor.post(&action, &[("token", &visitor.token().await)]).header("sec-fetch-site", "cross-site");
        assert_eq!(answer.send().await.unwrap().status(), 403, "{action} from another site");
    }
}

#[tokio::test]
async fn nobody_is_led_to_another_site() {
    let api = Api::start().await;
    for next in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/console/../..//evil.example\r\nX: y",
        "javascript:alert(1)",
    ] {
        let visitor = Visitor::new(&api);
        let answer = visitor.post("/console/sign-in", &[("key", &api.key), ("next", next)]).send().await.unwrap();
        assert_eq!(answer.headers()["location"], "/console", "{next}");
    }
}

#[tokio::test]
async fn another_workspaces_pages_do_not_exist() {
    let api = Api::start().await;
    fill(&api, "plain").await;
    leave_jobs(&api);
    let pages = crawl(&Visitor::signed_in(&api, "*").await).await;
    let other = api.on("other").await;
    let stranger = Visitor::signed_in(&other, "*").await;
    let id = Regex::new("/[0-9a-f]{8}-[0-9a-f-]{27}").unwrap();
    let with_ids = pages.keys().filter(|path| id.is_match(path));
    // The steps of the default sequence have the same ids in every workspace.
    let with_ids: Vec<&String> = with_ids.filter(|path| !path.starts_with("/console/settings/templates/")).collect();
    assert!(with_ids.len() > 8, "{with_ids:?}");
    for path in with_ids {
        assert_eq!(stranger.visit(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_key_is_shown_only_what_it_may_see() {
    let api = Api::start().await;
    fill(&api, "plain").await;
    leave_jobs(&api);
    for scope in Scope::ALL {
        let visitor = Visitor::signed_in(&api, scope.as_str()).await;
        for (path, shown) in crawl(&visitor).await {
            assert_eq!(shown.status, 200, "{path} with {}: {}", scope.as_str(), shown.html);
            let reads_records = matches!(scope, Scope::All | Scope::RecordsRead);
            assert!(reads_records || !shown.html.contains("Secret Lovelace"), "{path} with {}", scope.as_str());
        }
    }
}
