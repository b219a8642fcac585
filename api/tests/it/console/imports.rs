//! A file is uploaded, mapped, tried, imported and undone on pages.

use reqwest::Client;
use reqwest::header::COOKIE;
use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use serde_json::Value;
use uuid::Uuid;

use super::support::{Shown, Visitor};
use crate::formats::{leads, start};
use crate::support::Api;

/// Uploads a file as a browser does; returns what it gets.
async fn upload(api: &Api, visitor: &Visitor, query: &str, file: &str) -> Shown {
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let part = Part::bytes(file.to_owned().into_bytes()).file_name("leads.csv");
    let request = client.post(api.url(&format!("/console/imports/uploads?{query}"))).header(COOKIE, &visitor.cookie);
    Shown::of(request.multipart(Form::new().part("file", part)).send().await.unwrap()).await
}

/// Uploads a file of leads; returns its page.
async fn uploaded(api: &Api, visitor: &Visitor, file: &str) -> String {
    let shown = upload(api, visitor, &format!("kind=leads&token={}", visitor.token().await), file).await;
    assert_eq!(shown.status, 303, "{}", shown.html);
    shown.leads_to().to_owned()
}

/// Waits for the job that a page leads to.
async fn ended(api: &Api, path: &str) -> Value {
    let id = path.split_once("job=").map_or_else(|| path.rsplit('/').next().unwrap(), |(_, job)| job);
    let id = id.split(['#', '&']).next().unwrap();
    let job = api.read(&format!("/dev/crm/jobs/{id}?wait=25")).await;
    api.ended(&job).await
}

fn options(page: &str) -> Vec<(String, String)> {
    let query = page.split('#').next().unwrap().split_once('?').unwrap().1;
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

#[tokio::test]
async fn a_file_is_mapped_tried_imported_and_undone() {
    let (api, _worker) = start().await;
    let visitor = Visitor::signed_in(&api, "imports,records:read").await;
    let page = uploaded(&api, &visitor, "Name;E-mail;Points\nAnn;ann@example.com;38\nBob;bob;7\n").await;
    let html = visitor.page(&page).await;
    for text in ["ann@example.com · bob", "semicolon (detected)", "utf-8 (detected)", "value=\"email\" selected"] {
        assert!(html.contains(text), "{text}: {html}");
    }

    let path = page.split('?').next().unwrap();
    let fields = [("kind", "leads"), ("column-0", "name"), ("column-1", "email"), ("column-2", "score")];
    let checked = [fields.as_slice(), &[("dry_run", "true"), ("save_mapping", "true")]].concat();
    let tried = visitor.submit(path, &checked).await;
    assert_eq!(ended(&api, &tried).await["status"], "succeeded");
    assert_eq!(leads(&api).await.len(), 0);
    let html = visitor.page(tried.split('#').next().unwrap()).await;
    assert!(html.contains("Import 1 leads") && html.contains("must be an email address"), "{html}");

    let given = options(&tried);
    assert!(given.contains(&("mapping".to_owned(), r#"{"Points":"score"}"#.to_owned())), "{given:?}");
    let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let job = visitor.submit(path, &given).await;
    assert_eq!(ended(&api, &job).await["result"]["created"], 1);
    let created = leads(&api).await;
    assert_eq!((created.len(), &created[0]["score"]), (1, &38.into()));
    let html = visitor.page(&job).await;
    assert!(html.contains("Deletes the 1 records that it created") && html.contains("Rejected rows as CSV"), "{html}");
    let file = visitor.page(&format!("{job}/rejected.csv")).await;
    assert!(file.starts_with("Name,E-mail,Points,_line") && file.contains("Bob,bob,7,3"), "{file}");
    assert!(visitor.page(&format!("{job}/records")).await.contains("ann@example.com"));
    assert!(visitor.page("/console/imports").await.contains(&job));

    let undo = visitor.submit(&format!("{job}/undo"), &[]).await;
    assert_eq!(ended(&api, &undo).await["result"]["removed"], 1);
    assert_eq!(leads(&api).await.len(), 0);

    // The mapping is remembered.
    let page = uploaded(&api, &visitor, "Name;E-mail;Points\nEve;eve@example.com;1\n").await;
    assert!(visitor.page(&page).await.contains("Remembered from an earlier file"));
}

#[tokio::test]
async fn a_file_without_the_column_of_its_key_is_mapped_by_hand() {
    let (api, _worker) = start().await;
    let visitor = Visitor::signed_in(&api, "imports").await;
    let page = uploaded(&api, &visitor, "Who,Where to write\nAnn,ann@example.com\n").await;
    let html = visitor.page(&page).await;
    assert!(html.contains("Choose below what its columns become") && html.contains("ann@example.com"), "{html}");
    let path = page.split('?').next().unwrap();
    let fields = [("kind", "leads"), ("column-0", "name"), ("column-1", "email")];
    let job = visitor.submit(path, &fields).await;
    assert_eq!(ended(&api, &job).await["result"]["created"], 1);
    // This key may not see what the rows contain.
    assert!(!visitor.page(&job).await.contains("ann@example.com"));
}

#[tokio::test]
async fn what_a_file_says_is_text_and_what_is_wrong_is_said() {
    let (api, _worker) = start().await;
    let visitor = Visitor::signed_in(&api, "imports,records:read").await;
    let attack = "<img src=x onerror=alert(1)>";
    let page = uploaded(&api, &visitor, &format!("Name,Email,\"{attack}\"\nAnn,ann@example.com,{attack}\n")).await;
    let html = visitor.page(&page).await;
    assert!(html.contains("&lt;img src=x") && !html.contains(attack), "{html}");

    let path = page.split('?').next().unwrap();
    let fields = [("kind", "leads"), ("column-0", "nonsense"), ("column-1", "email"), ("dry_run", "true")];
    let shown = visitor.send(path, &fields).await;
    assert_eq!(shown.status, 400);
    assert!(
        shown.html.contains("is not a field that can be imported")
            && shown.html.contains("value=\"nonsense\" selected")
    );
    let shown = visitor.visit(&format!("{page}&tz=Nowhere")).await;
    assert!(shown.status == 400 && shown.html.contains("id=\"f-tz\""), "{}", shown.html);

    let shown = upload(&api, &visitor, "kind=leads", "Name,Email\n").await;
    assert_eq!(shown.status, 403);
    for path in [path.to_owned(), format!("/console/imports/uploads/{}", Uuid::now_v7())] {
        let other = Visitor::with_key(Visitor::new(&api), &api.scoped_key("records:read").await).await;
        assert!(matches!(other.visit(&path).await.status, 403 | 404), "{path}");
    }
}
