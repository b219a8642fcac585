//! People sign in with an API key or a link.

use reqwest::header::SET_COOKIE;
use shared::accounts::sessions;

use super::support::{Shown, Visitor, session_of};
use crate::support::Api;

#[tokio::test]
async fn a_page_asks_for_a_key_and_comes_back_to_itself() {
    let api = Api::start().await;
    let visitor = Visitor::new(&api);
    let asked = visitor.visit("/console/leads?q=ada&sort=-score").await;
    assert_eq!(asked.status, 303);
    assert_eq!(asked.leads_to(), "/console/sign-in?next=%2Fconsole%2Fleads%3Fq%3Dada%26sort%3D-score");
    let form = visitor.page(asked.leads_to()).await;
    assert!(form.contains(r#"name="next" value="/console/leads?q=ada&amp;sort=-score""#), "{form}");
    let answer =
        visitor.post("/console/sign-in", &[("key", &api.key), ("next", "/console/leads?q=ada&sort=-score")]).send();
    let signed_in = Shown::of(answer.await.unwrap()).await;
    assert_eq!((signed_in.status, signed_in.leads_to()), (303, "/console/leads?q=ada&sort=-score"));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_many_of_them_are_slowed_down() {
    let api = Api::start_with(|settings| settings.api.rejected_keys_per_minute = 3).await;
    let visitor = Visitor::new(&api);
    let unknown = "crm_7tGmWq0Zr5XnB2vKdY8hLs4cJf1uEa3pQ9oT";
    let mut statuses = Vec::new();
    for key in ["", "nonsense", unknown, unknown] {
        let answer = visitor.post("/console/sign-in", &[("key", key)]).send().await.unwrap();
        assert_eq!(session_of(&answer), None);
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
}

#[tokio::test]
async fn each_sign_in_begins_another_session_and_ends_that_of_the_same_browser() {
    let api = Api::start().await;
    let first = Visitor::signed_in(&api, "*").await;
    let planted = first.cookie.clone();
    let answer = first.post("/console/sign-in", &[("key", &api.key)]).send().await.unwrap();
    let fresh = session_of(&answer).unwrap();
    assert_ne!(fresh, planted);
    assert_eq!(first.visit("/console").await.status, 303, "the planted session has ended");
    let second = Visitor::new(&api).with_cookie(fresh);
    assert_eq!(second.visit("/console").await.status, 200);
}

#[tokio::test]
async fn cookies_go_back_to_this_site_only() {
    for (url, name, secure) in
        [("http://crm.example", "crm_session=", false), ("https://crm.example", "__Host-crm_session=", true)]
    {
        let api = Api::start_with(|settings| settings.public_url = url.to_owned()).await;
        let answer = Visitor::new(&api).post("/console/sign-in", &[("key", &api.key)]).send().await.unwrap();
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        assert!(cookie.starts_with(name), "{cookie}");
        assert!(
            cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("Path=/;"),
            "{cookie}"
        );
        assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
    }
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let api = Api::start().await;
    let (_, key) = api.new_key(None).await;
    let mut connection = api.connection().await;
    let link = sessions::link(&mut connection, api.workspace_id, key.id).await.unwrap().reveal();
    let visitor = Visitor::new(&api);
    let page = visitor.page(&format!("/console/sign-in?link={link}")).await;
    assert!(page.contains("signs you in once"), "{page}");
    // Programs that look at links do not use them up: only the button does.
    let first = visitor.post("/console/sign-in", &[("link", &link)]).send().await.unwrap();
    assert_eq!(first.status(), 303);
    let again = visitor.post("/console/sign-in", &[("link", &link)]).send().await.unwrap();
    assert_eq!((again.status().as_u16(), session_of(&again)), (401, None));

    // Two browsers that send it at once get one session.
    let shared = sessions::link(&mut connection, api.workspace_id, key.id).await.unwrap().reveal();
    let sent = || visitor.post("/console/sign-in", &[("link", &shared)]).send();
    let (one, other) = tokio::join!(sent(), sent());
    let mut statuses = [one.unwrap().status().as_u16(), other.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 401]);

    let late = sessions::link(&mut connection, api.workspace_id, key.id).await.unwrap().reveal();
    sqlx::query("UPDATE sign_in_links SET expires_at = now()").execute(&mut connection).await.unwrap();
    assert_eq!(visitor.post("/console/sign-in", &[("link", &late)]).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_session_ends_with_its_key_its_hours_and_when_it_is_told_to() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let ends = [
        "UPDATE sessions SET expires_at = now()",
        "UPDATE sessions SET used_at = now() - interval '61 minutes'",
        "UPDATE api_keys SET expires_at = now() WHERE name = 'scoped'",
        "UPDATE api_keys SET revoked_at = now() WHERE name = 'scoped'",
        "UPDATE api_keys SET scopes = '{keys}' WHERE name = 'scoped'",
    ];
    for end in ends {
        let visitor = Visitor::signed_in(&api, "*").await;
        assert_eq!(visitor.visit("/console").await.status, 200);
        sqlx::query(end).execute(&mut connection).await.unwrap();
        assert_eq!(visitor.visit("/console").await.status, 303, "{end}");
    }
    let visitor = Visitor::signed_in(&api, "*").await;
    let elsewhere = Visitor::new(&api).with_cookie(visitor.cookie.clone());
    assert_eq!(visitor.submit("/console/sign-out", &[]).await, "/console/sign-in");
    assert_eq!(elsewhere.visit("/console").await.status, 303);
}

#[tokio::test]
async fn a_setting_turns_the_console_off() {
    let api = Api::start_with(|settings| settings.console.enabled = false).await;
    for path in ["/console", "/console/sign-in", "/console/leads"] {
        assert_eq!(Visitor::new(&api).visit(path).await.status, 404, "{path}");
    }
}
