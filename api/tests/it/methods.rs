//! `HEAD` and `OPTIONS` on every path.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::support::{self, Api, id};

fn methods(answer: &Response) -> BTreeSet<String> {
    answer.headers()["allow"].to_str().unwrap().split(',').map(|method| method.trim().to_owned()).collect()
}

/// The methods of each path of the document.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document: Value = serde_json::to_value(api::openapi::document(None)).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = |item: &Value| {
        let mut methods: BTreeSet<String> = item.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        methods.insert("OPTIONS".to_owned());
        methods
    };
    paths.map(|(path, item)| (path.replace(['{', '}'], ""), methods(item))).collect()
}

#[tokio::test]
async fn options_lists_the_methods_of_every_path() {
    let api = Api::start().await;
    for (path, expected) in documented() {
        let answer = api.request(Method::OPTIONS, &path).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(methods(&answer), expected, "{path}");
        assert!(answer.bytes().await.unwrap().is_empty(), "{path}");
        // So does a 405.
        let answer = api.request(Method::TRACE, &path).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), methods(&answer)), (405, expected), "{path}");
    }
    support::json(Client::new().request(Method::OPTIONS, api.url("/dev/crm/leads")), 401).await;
    support::json(api.request(Method::OPTIONS, "/dev/crm/nothing"), 404).await;
}

#[tokio::test]
async fn head_returns_the_headers_of_get_without_a_body() {
    let api = Api::start().await;
    let lead = json!({ "name": "Ada", "email": "ada@example.com", "notes": "long ".repeat(1_000) });
    let lead = api.create("/dev/crm/leads", lead).await;
    api.create("/dev/crm/leads", json!({ "name": "Eve", "email": "eve@example.com" })).await;
    let one = format!("/dev/crm/leads/{}", id(&lead));
    for path in [&one, "/dev/crm/leads", "/dev/crm/leads?limit=1&count=true", "/dev/crm/leads/export", "/healthz"] {
        for accept in ["identity", "gzip"] {
            let read = async |method| {
                let request =
                    api.request(method, path).header("accept-encoding", accept).header("x-request-id", "same");
                request.send().await.unwrap()
            };
            let (get, head) = (read(Method::GET).await, read(Method::HEAD).await);
            let headers = |answer: &Response| {
                let mut headers = answer.headers().clone();
                headers.remove("date");
                headers.remove("transfer-encoding");
                headers
            };
            assert_eq!((head.status(), headers(&head)), (get.status(), headers(&get)), "{path} {accept}");
            assert!(head.bytes().await.unwrap().is_empty(), "{path} {accept}");
        }
    }
    let known = api.request(Method::HEAD, &one).send().await.unwrap().headers()["etag"].clone();
    let answer = api.request(Method::HEAD, &one).header("if-none-match", known).send().await.unwrap();
    assert_eq!(answer.status(), 304);
    assert_eq!(api.request(Method::HEAD, "/dev/crm/leads/import").send().await.unwrap().status(), 405);
}
