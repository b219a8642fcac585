//! A file is uploaded in parts, looked at, tried and imported, and deleted after a day.

use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::earlier;
use testing::workbook::{Workbook, texts};

use crate::formats::{counts, leads, start, zipped};
use crate::support::{self, Api, each, faults, id};

const UPLOADS: &str = "/dev/crm/uploads";
const IMPORT: &str = "/dev/crm/leads/import";
const BYTES: (&str, &str) = ("content-type", "application/octet-stream");

/// Stores a file.
pub async fn store(api: &Api, file: impl Into<Vec<u8>>) -> Value {
    support::json(api.post(UPLOADS).header(BYTES.0, BYTES.1).body(file.into()), 201).await
}

/// Creates an upload whose bytes follow, and returns its path.
async fn create(api: &Api, length: usize) -> String {
    let response = api.post(UPLOADS).header("upload-length", length).send().await.unwrap();
    assert_eq!((response.status().as_u16(), offset(&response)), (201, 0));
    response.headers()["location"].to_str().unwrap().to_owned()
}

fn patch(api: &Api, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    let request = api.request(Method::PATCH, path).header("content-type", "application/offset+octet-stream");
    request.header("upload-offset", offset).body(bytes.to_vec())
}

fn offset(response: &Response) -> usize {
    response.headers()["upload-offset"].to_str().unwrap().parse().unwrap()
}

/// The offset at which the upload continues.
async fn head(api: &Api, path: &str) -> usize {
    let response = api.request(Method::HEAD, path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    offset(&response)
}

/// The fields and codes of a conflict, or of a reference to nothing.
fn reasons(answer: &Value) -> Vec<(&str, &str)> {
    let errors = answer["errors"].as_array().unwrap().iter();
    errors.map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
}

/// Imports an upload, and returns the job when it has ended.
async fn import(api: &Api, upload: &Value, query: &str) -> Value {
    let job = support::json(api.post(&format!("{IMPORT}?upload={}&{query}", id(upload))), 202).await;
    api.ended(&job).await
}

#[tokio::test]
async fn an_upload_is_looked_at_tried_and_imported_as_often_as_wanted() {
    let (api, _worker) = start().await;
    let file = "Leads of May;;\nName;E-mail;Shoe Size\nAnn;ann@example.com;38\nBob;bob;\n";
    let upload = store(&api, file).await;
    assert_eq!((&upload["size"], &upload["length"]), (&json!(file.len()), &Value::Null));

    let path = format!("{UPLOADS}/{}", id(&upload));
    let shown = api.read(&path).await;
    assert_eq!((&shown["id"], &shown["errors"]), (&upload["id"], &json!([])));
    let preview = json!({
        "format": "csv", "encoding": "utf-8", "delimiter": ";", "header_row": 2, "sheets": [],
        "mapping": { "Name": "name", "E-mail": "email", "Shoe Size": "custom_fields.Shoe Size" },
        "mapping_source": "detected",
        "rows": [
            { "Name": "Ann", "E-mail": "ann@example.com", "Shoe Size": "38" },
            { "Name": "Bob", "E-mail": "bob", "Shoe Size": "" },
        ],
    });
    assert_eq!(shown["preview"], preview);
    let shown = api.read(&format!("{path}?kind=customers&mapping={{\"Shoe Size\":\"notes\"}}")).await;
    assert_eq!(shown["preview"]["mapping"]["Shoe Size"], "notes");
    let shown = api.read(&format!("{path}?header_row=3")).await;
    assert_eq!((&shown["preview"], &shown["errors"][0]["code"]), (&Value::Null, &json!("missing_column")));
    let answer = support::json(api.get(&format!("{path}?kind=users&delimiter=x")), 400).await;
    assert_eq!(faults(&answer), [("kind", "invalid"), ("delimiter", "invalid")]);

    assert_eq!(counts(&import(&api, &upload, "dry_run=true").await), [2, 1, 0, 1, 0]);
    assert_eq!(leads(&api).await, Vec::<Value>::new());
    assert_eq!(counts(&import(&api, &upload, "").await), [2, 1, 0, 1, 0]);
    assert_eq!(counts(&import(&api, &upload, "on_conflict=update").await), [2, 0, 1, 1, 0]);

    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    let gone = support::json(api.post(&format!("{IMPORT}?upload={}", id(&upload))), 404).await;
    assert_eq!(reasons(&gone), [("upload", "not_found")]);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_resumed_at_any_offset() {
    let (api, _worker) = start().await;
    let random = &mut StdRng::seed_from_u64(7);
    let mut file = "name,email,notes\n".to_owned();
    for n in 0..40_000 {
        let notes = random.random_range(0..1_000_000_000_u64);
        file += &format!("Somebody,somebody{n}@example.com,{notes}\n");
    }
    let file = file.as_bytes();
    let path = create(&api, file.len()).await;
    let mut breaks = sample(random, file.len(), 20).into_vec();
    breaks.sort_unstable();
    for end in breaks {
        let begin = head(&api, &path).await;
        let sent = vec![Ok(file[begin..end].to_vec()), Err(std::io::Error::other("the client is switched off"))];
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(sent));
        // The server may see all of the bytes, or some.
        _ = patch(&api, &path, begin, &[]).body(body).send().await;
        while head(&api, &path).await < begin {}
    }
    // The last broken request may still store what it has; then this one conflicts.
    loop {
        let begin = head(&api, &path).await;
        let response = patch(&api, &path, begin, &file[begin..]).send().await.unwrap();
        match response.status().as_u16() {
            204 => break assert_eq!(offset(&response), file.len()),
            status => assert_eq!(status, 409),
        }
    }
    let mut connection = api.connection().await;
    let stored: Vec<u8> = sqlx::query_scalar("SELECT string_agg(data, '' ORDER BY start) FROM upload_chunks")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(stored == file);
    let upload = api.read(&path).await;
    assert_eq!(counts(&import(&api, &upload, "").await), [40_000, 40_000, 0, 0, 0]);
}

#[tokio::test]
async fn of_two_requests_that_append_at_once_one_wins() {
    let api = Api::start().await;
    let path = create(&api, 6 << 20).await;
    let bytes: Vec<u8> = vec![b'a'; 6 << 20];
    let (first, second) = tokio::join!(patch(&api, &path, 0, &bytes).send(), patch(&api, &path, 0, &bytes).send());
    let mut statuses = [first.unwrap().status().as_u16(), second.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
    assert_eq!(head(&api, &path).await, 6 << 20);

    let late = patch(&api, &path, 5, b"x").send().await.unwrap();
    assert_eq!((late.status().as_u16(), offset(&late)), (409, 6 << 20));
    let body = support::body(late, 409).await;
    assert_eq!(reasons(&body), [("Upload-Offset", "offset_mismatch")]);
    let long = support::json(patch(&api, &path, 6 << 20, b"x"), 400).await;
    assert_eq!(faults(&long), [("Upload-Length", "out_of_range")]);
}

#[tokio::test]
async fn an_upload_is_imported_only_when_it_is_complete() {
    let (api, _worker) = start().await;
    let file = b"name,email\nAnn,ann@example.com\n";
    let path = create(&api, file.len()).await;
    patch(&api, &path, 0, &file[..9]).send().await.unwrap();
    let upload = api.read(&path).await;
    assert_eq!((&upload["size"], &upload["preview"]), (&json!(9), &Value::Null));
    assert_eq!(upload["errors"][0]["code"], "upload_incomplete");
    let early = support::json(api.post(&format!("{IMPORT}?upload={}", id(&upload))), 409).await;
    assert_eq!(reasons(&early), [("upload", "upload_incomplete")]);
    patch(&api, &path, 9, &file[9..]).send().await.unwrap();
    assert_eq!(counts(&import(&api, &upload, "").await), [1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn uploads_have_every_format() {
    let (api, _worker) = start().await;
    let book = Workbook::new()
        .sheet("Summary", &texts(&[&["Total"]]))
        .sheet("People", &texts(&[&["name", "email"], &["Ann", "ann@example.com"]]));
    let upload = store(&api, book.file()).await;
    let path = format!("{UPLOADS}/{}", id(&upload));
    let shown = api.read(&format!("{path}?sheet=People")).await;
    assert_eq!(shown["preview"]["sheets"], json!(["Summary", "People"]));
    assert_eq!(shown["preview"]["rows"], json!([{ "name": "Ann", "email": "ann@example.com" }]));
    assert_eq!(api.read(&path).await["errors"][0]["code"], "missing_column");
    assert_eq!(counts(&import(&api, &upload, "sheet=People").await), [1, 1, 0, 0, 0]);

    let lines: String = (0..5_000)
        .map(|n| format!("{{\"name\":\"P\",\"email\":\"p{n}@example.com\",\"score\":{}}}\n", n % 100))
        .collect();
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(zipped(lines.as_bytes())));
    let upload = support::json(api.post(UPLOADS).multipart(form), 201).await;
    let shown = api.read(&format!("{UPLOADS}/{}", id(&upload))).await;
    assert_eq!(
        (&shown["preview"]["format"], &shown["preview"]["rows"][19]),
        (&json!("jsonl"), &json!({ "name": "P", "email": "p19@example.com", "score": "19" }))
    );
    assert_eq!(counts(&import(&api, &upload, "").await), [5_000, 5_000, 0, 0, 0]);

    let pdf = support::json(api.post(UPLOADS).header(BYTES.0, BYTES.1).body("%PDF-1.7 and so on"), 400).await;
    assert_eq!(faults(&pdf), [("file", "unsupported")]);
    support::json(api.post(UPLOADS).json(&json!({})), 415).await;
    assert_eq!(api.read(UPLOADS).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_fourth_upload_replaces_the_oldest_that_no_import_reads() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let file = "name,email\nAnn,ann@example.com\n";
    let mut uploads = Vec::new();
    for _ in 0..3 {
        uploads.push(store(&api, file).await);
    }
    let listed = api.read(UPLOADS).await;
    assert_eq!(each(&listed, "id"), uploads.iter().rev().map(id).collect::<Vec<_>>());
    // Its job has not ended.
    support::json(api.post(&format!("{IMPORT}?upload={}", id(&uploads[0]))), 202).await;
    let fourth = store(&api, file).await;
    assert_eq!(each(&api.read(UPLOADS).await, "id"), [id(&fourth), id(&uploads[2]), id(&uploads[0])]);
    for upload in [&uploads[2], &fourth] {
        support::json(api.post(&format!("{IMPORT}?upload={}", id(upload))), 202).await;
    }
    let full = support::json(api.post(UPLOADS).header(BYTES.0, BYTES.1).body(file), 409).await;
    assert_eq!(reasons(&full), [("upload", "uploads_in_use")]);
}

#[tokio::test]
async fn a_repeated_request_stores_one_upload() {
    let api = Api::start().await;
    let request = || api.post(UPLOADS).header("idempotency-key", "a").header(BYTES.0, BYTES.1);
    let upload = support::json(request().body("name,email\n"), 201).await;
    let again = request().body("name,email\n").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(support::body(again, 201).await, upload);
    support::json(request().body("name,email\nAnn,ann@example.com\n"), 422).await;
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM uploads").fetch_one(&mut api.connection().await).await.unwrap();
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn all_workspaces_together_store_no_more_than_the_limit() {
    let api = Api::start_with(|settings| settings.imports.max_stored_bytes = 3 << 20).await;
    store(&api, vec![b'a'; 2 << 20]).await;
    let api = api.on("other").await;
    assert_eq!(api.read(UPLOADS).await, json!([]));
    let full = api.post(UPLOADS).header(BYTES.0, BYTES.1).body(vec![b'a'; 2 << 20]).send().await.unwrap();
    assert_eq!(full.status(), 503);
    store(&api, vec![b'a'; 1 << 20]).await;
}

#[tokio::test]
async fn uploads_are_deleted_after_a_day_unless_an_import_reads_them() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let [old, read] = [store(&api, "name,email\n").await, store(&api, "name,email\n").await];
    support::json(api.post(&format!("{IMPORT}?upload={}", id(&read))), 202).await;
    let new = store(&api, "name,email\n").await;
    let mut connection = api.connection().await;
    let [created, touched] = ["created_at", "touched_at"].map(|column| earlier(column, "25 hours"));
    sqlx::query(AssertSqlSafe(format!("UPDATE uploads SET {created}, {touched} WHERE id <> $1")))
        .bind(uuid::Uuid::try_parse(id(&new)).unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
    support::json(api.get(&format!("{UPLOADS}/{}", id(&old))), 404).await;
    assert_eq!(each(&api.read(UPLOADS).await, "id"), [id(&new)]);
    shared::imports::sweep(&mut connection).await.unwrap();
    let left: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM uploads ORDER BY created_at").fetch_all(&mut connection).await.unwrap();
    assert_eq!(left.iter().map(ToString::to_string).collect::<Vec<_>>(), [id(&read), id(&new)]);
}
