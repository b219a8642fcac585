//! A visitor of the console: a browser without scripts.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};

use super::crawl::tags;
use crate::support::Api;

const FORM: &str = "application/x-www-form-urlencoded";

/// A browser that does not follow redirects, and keeps the session's cookie.
pub struct Visitor {
    client: Client,
    url: String,
    /// The session, as `Cookie` sends it.
    pub cookie: String,
}

/// What a browser gets.
pub struct Shown {
    pub status: u16,
    pub headers: HeaderMap,
    pub html: String,
}

impl Visitor {
    /// Someone who is not signed in.
    pub fn new(api: &Api) -> Self {
        Self::at(api.url(""))
    }

    /// Someone who is not signed in, at this address.
    pub fn at(url: String) -> Self {
        Self { client: Client::builder().redirect(Policy::none()).build().unwrap(), url, cookie: String::new() }
    }

    /// Someone who has signed in with a key that may do this, such as `records:read,exports` or `*`.
    pub async fn signed_in(api: &Api, scopes: &str) -> Self {
        let key = api.scoped_key(scopes).await;
        Self::new(api).with_key(&key).await
    }

    /// A browser with this session.
    pub fn with_cookie(self, cookie: String) -> Self {
        Self { cookie, ..self }
    }

    /// Signs in with a key.
    pub async fn with_key(mut self, key: &str) -> Self {
        let answer = self.post("/console/sign-in", &[("key", key)]).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
        self.cookie = session_of(&answer).expect("a session");
        self
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url)).header(COOKIE, &self.cookie)
    }

    /// A form as it is given, without a token.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let body: Vec<String> =
            fields.iter().map(|(name, text)| format!("{}={}", encoded(name), encoded(text))).collect();
        let request = self.client.post(format!("{}{path}", self.url)).header(COOKIE, &self.cookie);
        request.header("content-type", FORM).body(body.join("&"))
    }

    /// Visits a page that must be shown.
    pub async fn page(&self, path: &str) -> String {
        let shown = self.visit(path).await;
        assert_eq!(shown.status, 200, "{path}: {}", shown.html);
        shown.html
    }

    /// Visits a page.
    pub async fn visit(&self, path: &str) -> Shown {
        Shown::of(self.get(path).send().await.unwrap()).await
    }

    /// Sends a form with the token of the session.
    pub async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let token = self.token().await;
        let mut all = vec![("token", token.as_str())];
        all.extend_from_slice(fields);
        Shown::of(self.post(path, &all).send().await.unwrap()).await
    }

    /// Sends a form that must be accepted; returns the page that it leads to.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let shown = self.send(path, fields).await;
        assert_eq!(shown.status, 303, "{path}: {}", shown.html);
        shown.headers[LOCATION].to_str().unwrap().to_owned()
    }

    /// Sends a form of a page as it is there, with these values instead.
    pub async fn fill_in(&self, page: &Shown, action: &str, values: &[(&str, &str)]) -> Shown {
        let fields = page.form(action, values);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Shown::of(self.post(action, &fields).send().await.unwrap()).await
    }

    /// What every form of the session carries.
    pub async fn token(&self) -> String {
        let html = self.visit("/console").await.html;
        let token = Regex::new(r#"name="token" value="([^"]+)""#).unwrap();
        token.captures(&html).expect("a form with a token")[1].to_owned()
    }
}

impl Shown {
    pub async fn of(answer: Response) -> Self {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, html: answer.text().await.unwrap() }
    }

    /// The fields of the form that is sent to this path, as the page shows them, with these values instead.
    pub fn form(&self, action: &str, values: &[(&str, &str)]) -> Vec<(String, String)> {
        let form = format!(r#"(?s)<form [^>]*action="{}"[^>]*>(.*?)</form>"#, regex::escape(action));
        let form = Regex::new(&form).unwrap().captures(&self.html).unwrap_or_else(|| panic!("no form {action}"));
        let area = Regex::new("(?s)<textarea ([^>]*)>\n?(.*?)</textarea>").unwrap();
        let form = area.replace_all(form.get(1).unwrap().as_str(), |found: &regex::Captures<'_>| {
            format!(r#"<input {} value="{}">"#, &found[1], &found[2])
        });
        let (mut fields, mut select) = (Vec::new(), None);
        for tag in tags(&form) {
            let of = |name: &str| tag.attribute(name).map(str::to_owned);
            let is_box = matches!(of("type").as_deref(), Some("checkbox" | "radio"));
            match tag.name.as_str() {
                "input" if !is_box || of("checked").is_some() => {
                    fields.extend(of("name").map(|name| (name, of("value").unwrap_or_default())));
                }
                "select" => select = of("name"),
                "option" => match select.take() {
                    Some(name) => fields.push((name, of("value").unwrap_or_default())),
                    None if of("selected").is_some() => fields.last_mut().unwrap().1 = of("value").unwrap_or_default(),
                    None => {}
                },
                _ => {}
            }
        }
        fields.retain(|(name, _)| values.iter().all(|(given, _)| given != name));
        fields.extend(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    }

    pub fn leads_to(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |path| path.to_str().unwrap())
    }
}

/// The session's cookie that a response sets.
pub fn session_of(answer: &Response) -> Option<String> {
    let cookies = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let mut sessions = cookies.filter(|cookie| cookie.contains("session="));
    sessions.next().map(|cookie| cookie.split(';').next().unwrap().to_owned())
}
