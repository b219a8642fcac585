//! Files of other formats than CSV are imported like CSV, and files that are none are named.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, each, faults, id};
use crate::workflows::put_settings;

const LEADS: &str = "/dev/crm/leads";
const IMPORT: &str = "/dev/crm/leads/import";

pub async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = Process::worker(&api.database, &[]);
    (api, worker)
}

/// Imports a file of leads, and returns the job when it has succeeded.
pub async fn import(api: &Api, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let job = api.imported(&format!("{IMPORT}?{query}"), file).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

/// Uploads a file that is refused, and returns its faults.
pub async fn refused(api: &Api, query: &str, file: impl Into<Vec<u8>>) -> Vec<Value> {
    let form = Form::new().part("file", Part::bytes(file.into()).file_name("leads"));
    let answer = support::json(api.post(&format!("{IMPORT}?{query}")).multipart(form), 400).await;
    answer["errors"].as_array().unwrap().clone()
}

pub fn counts(job: &Value) -> [i64; 5] {
    ["rows", "created", "updated", "failed", "warnings"].map(|name| job["result"][name].as_i64().unwrap())
}

/// The imported leads by email, without what is new in each import.
pub async fn leads(api: &Api) -> Vec<Value> {
    let mut leads = api.read(&format!("{LEADS}?sort=email")).await.as_array().unwrap().clone();
    for lead in &mut leads {
        for field in ["id", "created_at", "updated_at", "won_at"] {
            lead.as_object_mut().unwrap().remove(field);
        }
    }
    leads
}

/// The lines and codes of the rows that were not simply written.
pub async fn remarks(api: &Api, job: &Value) -> Vec<(i64, String, String)> {
    let rows = api.read(&format!("/dev/crm/jobs/{}/errors?outcome=failed,skipped,warned", id(job))).await;
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["line"].as_i64().unwrap(), text(row, "field"), text(row, "code"))).collect()
}

pub fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn json_lines_are_imported_like_the_same_table_in_csv() {
    let (api, _worker) = start().await;
    let csv = "First Name,Last Name,E-mail,Lead Status,Score,Notes\n\
        Ada,Lovelace,ada@example.com,Closed Won,75,\"Line 1\nLine \"\"2\"\"\"\n\
        Grace,,grace@example.com,,,\n";
    let lines = concat!(
        r#"{"First Name":"Ada","Last Name":"Lovelace","E-mail":"ada@example.com","Lead Status":"Closed Won","Score":75,"#,
        r#""Notes":"Line 1\nLine \"2\""}"#,
        "\r\n\n",
        r#"{ "E-mail": "grace@example.com", "First Name": "Grace", "Notes": null }"#,
    );
    let other = Api::start().await;
    let _worker_of_other = Process::worker(&other.database, &[]);
    import(&other, "", csv).await;

    let job = import(&api, "", lines).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 0]);
    let result = &job["result"];
    assert_eq!(
        (&result["format"], &result["delimiter"], &result["header_row"]),
        (&json!("jsonl"), &Value::Null, &Value::Null)
    );
    assert_eq!((&result["mapping"]["E-mail"], &result["mapping"]["Lead Status"]), (&json!("email"), &json!("status")));
    assert_eq!(leads(&api).await, leads(&other).await);
}

#[tokio::test]
async fn json_values_keep_their_types_in_custom_fields() {
    let (api, _worker) = start().await;
    let lines = concat!(
        r#"{"name":"Ann","email":"ann@example.com","custom_fields":{"plan":{"seats":5}},"Rating":4.5,"VIP":true,"#,
        r#""Tags":["a","b"],"Empty":[],"Nothing":null,"Zip":"01067","score":"1.234"}"#,
        "\n",
        r#"{"company":{"id":1},"email":["bob@example.com","bob@example.org"],"score":1.5e1,"phone":4930123}"#,
    );
    let job = import(&api, "", lines).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 2]);
    let [ann, bob]: [Value; 2] = leads(&api).await.try_into().unwrap();
    let kept = json!({ "plan": { "seats": 5 }, "Rating": 4.5, "VIP": true, "Tags": ["a", "b"], "Zip": "01067",
        "score": "1.234" });
    assert_eq!(ann["custom_fields"], kept);
    assert_eq!((&bob["name"], &bob["score"], &bob["phone"]), (&json!("bob"), &json!(15), &json!("4930123")));
    assert_eq!(bob["custom_fields"], json!({ "company": { "id": 1 }, "other_emails": ["bob@example.org"] }));
    // A text with two readings stays ambiguous, although the numbers have a point.
    let expected = [(1, "score".to_owned(), "ambiguous".to_owned()), (2, "company".to_owned(), "invalid".to_owned())];
    assert_eq!(remarks(&api, &job).await, expected);
}

#[tokio::test]
async fn a_key_that_appears_late_is_mapped_like_a_header() {
    let (api, _worker) = start().await;
    let mut lines = String::new();
    for n in 0..5_000 {
        lines += &format!("{{\"name\":\"Somebody\",\"email\":\"somebody{n:04}@example.com\"}}\n");
    }
    lines += "{\"Company Name\":\"Initech\",\"E-mail 2\":\"late2@example.com\",\"email\":\"late@example.com\",\"Shoe Size\":42}\n";
    let job = import(&api, "mapping={\"Shoe Size\":\"custom_fields.shoe\"}", lines.clone()).await;
    assert_eq!(counts(&job), [5_001, 5_001, 0, 0, 0]);
    assert_eq!(job["result"]["mapping"]["Company Name"], "company");
    let late = &api.read(&format!("{LEADS}?email=late@example.com")).await[0];
    assert_eq!(late["company"], "Initech");
    assert_eq!(late["custom_fields"], json!({ "shoe": 42, "other_emails": ["late2@example.com"] }));
    // A header that no line has is named, once the file has ended.
    let faults = refused(&api, "mapping={\"Hat Size\":\"score\"}", lines).await;
    assert_eq!(faults[0]["field"], "mapping.Hat Size");
}

#[tokio::test]
async fn a_line_that_is_no_object_is_a_failed_row() {
    let (api, _worker) = start().await;
    let mut file =
        b"{\"name\":\"Ann\",\"email\":\"ann@example.com\"}\n[1,2]\n{\"name\":\"Bob\n\n{\"a\":1,\"a\":2}\n".to_vec();
    file.extend(b"{\"name\":\"\xff\",\"email\":\"x@example.com\"}\n");
    file.extend(format!("{{\"notes\":\"{}\"}}\n", "x".repeat(2 << 20)).bytes());
    file.extend(b"{\"name\":\"Dora\",\"email\":\"dora@example.com\"}");
    let job = import(&api, "encoding=utf-8", file).await;
    assert_eq!(counts(&job), [7, 2, 0, 5, 0]);
    let code = |line, code: &str| (line, "file".to_owned(), code.to_owned());
    let expected = [
        code(2, "malformed"),
        code(3, "malformed"),
        code(5, "duplicate"),
        code(6, "encoding"),
        code(7, "record_too_long"),
    ];
    assert_eq!(remarks(&api, &job).await, expected);
    let request = api.get(&format!("/dev/crm/jobs/{}/errors", id(&job))).header("accept", "text/csv");
    let csv = request.send().await.unwrap().text().await.unwrap();
    assert!(csv.starts_with("name,email,_line,_outcome,_faults"), "{csv:.100}");
    assert!(csv.contains("\"[1,2]\",,2,failed"), "{csv:.300}");
}

#[tokio::test]
async fn an_export_in_json_lines_is_imported_to_the_same_records() {
    let (api, _worker) = start().await;
    // A file does not say who is enrolled.
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    let lead = json!({ "name": "Ann", "email": "ann@example.com", "score": 75, "notes": "'=1\n\"2\"", "status": "won",
        "custom_fields": { "a": [1, { "b": null }], "c": "'=1" } });
    api.create(LEADS, lead).await;
    api.create(LEADS, json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let export = api.get(&format!("{LEADS}/export?format=jsonl")).send().await.unwrap().text().await.unwrap();
    let other = Api::start().await;
    let _worker_of_other = Process::worker(&other.database, &[]);
    let job = import(&other, "", export).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 0], "{job}");
    assert_eq!(other.read(&format!("{LEADS}?sort=email")).await, api.read(&format!("{LEADS}?sort=email")).await);
}

#[tokio::test]
async fn files_compressed_with_gzip_are_unpacked() {
    let (api, _worker) = start().await;
    let job = import(&api, "", zipped("name,email\nJosé,jose@example.com\n".as_bytes())).await;
    assert_eq!((&job["result"]["format"], &job["result"]["encoding"]), (&json!("csv"), &json!("utf-8")));
    let job = import(&api, "", zipped(b"{\"name\":\"Ann\",\"email\":\"ann@example.com\"}\n")).await;
    assert_eq!(job["result"]["format"], "jsonl");
    assert_eq!(each(&api.read(&format!("{LEADS}?sort=email")).await, "name"), ["Ann", "José"]);

    let whole = zipped(&b"name,email\n".repeat(1_000));
    let cut = refused(&api, "", &whole[..whole.len() - 4]).await;
    assert_eq!((&cut[0]["field"], &cut[0]["code"]), (&json!("file"), &json!("malformed")));
}

#[tokio::test]
async fn the_size_limit_holds_for_what_a_file_contains() {
    let api = Api::start_with(|settings| settings.imports.max_bytes = 4 << 20).await;
    let row = b"Somebody,somebody@example.com\n";
    let bomb = zipped(&[b"name,email\n".to_vec(), row.repeat(400_000)].concat());
    assert!(bomb.len() < 100_000);
    // Sparse lines have many delimiters as a table.
    let keys: Vec<String> = (0..900).map(|n| format!("\"k{n}\":1")).collect();
    let sparse = format!("{{\"email\":\"a@example.com\",{}}}\n", keys.join(",")) + &"{\"k899\":1}\n".repeat(10_000);
    for file in [bomb, sparse.into_bytes()] {
        let form = Form::new().part("file", Part::bytes(file));
        support::json(api.post(IMPORT).multipart(form), 413).await;
    }
    assert_eq!(api.read("/dev/crm/jobs").await, json!([]));
}

#[tokio::test]
async fn a_file_of_another_kind_is_named() {
    let api = Api::start().await;
    let archive = |names: &[&str]| {
        let files: Vec<_> = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec())).collect();
        testing::workbook::archive(&files)
    };
    for (file, word) in [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0\0\0\0\0\0\0".to_vec(), ".xls"),
        (b"%PDF-1.7\n%abcdefgh\n".to_vec(), "PDF"),
        (b"<!DOCTYPE html>\n<html></html>\n".to_vec(), "HTML"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "image"),
        (b"[{\"email\":\"ann@example.com\"}]".to_vec(), "JSON array"),
        (zipped(&zipped(b"name,email\n")), "gzip twice"),
        (archive(&["leads.csv"]), "ZIP"),
        (archive(&["mimetype", "content.xml"]), ".ods"),
        (archive(&["Index/Document.iwa"]), ".numbers"),
        (archive(&["[Content_Types].xml", "word/document.xml"]), "document"),
        (archive(&["[Content_Types].xml", "xl/workbook.bin"]), ".xlsb"),
    ] {
        let faults = refused(&api, "", file).await;
        assert_eq!((&faults[0]["field"], &faults[0]["code"]), (&json!("file"), &json!("unsupported")), "{faults:?}");
        assert!(faults[0]["message"].as_str().unwrap().contains(word), "{word}: {faults:?}");
    }
    let empty = refused(&api, "", zipped(b"")).await;
    assert_eq!(empty[0]["code"], "empty");
}

#[tokio::test]
async fn options_that_a_format_does_not_have_are_refused() {
    let api = Api::start().await;
    let lines = r#"{"email":"ann@example.com"}"#;
    let workbook = testing::workbook::Workbook::of_texts(&[&["email"]]).file();
    for (query, file, field) in [
        ("sheet=Leads", b"name,email\n".to_vec(), "sheet"),
        ("sheet=Leads", lines.into(), "sheet"),
        ("delimiter=;", lines.into(), "delimiter"),
        ("header_row=2", lines.into(), "header_row"),
        ("header=false&columns=email", lines.into(), "columns"),
        ("delimiter=;", workbook.clone(), "delimiter"),
        ("encoding=utf-8", workbook, "encoding"),
    ] {
        let form = Form::new().part("file", Part::bytes(file));
        let answer = support::json(api.post(&format!("{IMPORT}?{query}")).multipart(form), 400).await;
        assert_eq!(faults(&answer), [(field, "invalid")], "{query}");
    }
}
