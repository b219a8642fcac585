//! Exports for people, their spreadsheets, and other programs.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";

async fn file(api: &Api, query: &str) -> String {
    let answer = api.get(&format!("{LEADS}/export?{query}")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{query}");
    answer.text().await.unwrap()
}

/// Two leads, of which only one has custom fields.
async fn with_leads() -> Api {
    let api = Api::start().await;
    let custom = json!({ "VIP": true, "city": "Köln; Süd", "status": "gold", "tags": ["a", "b"], "gone": null });
    let lead = json!({ "name": "Ada", "email": "ada@example.com", "notes": "x,=1", "custom_fields": custom });
    api.create(LEADS, lead).await;
    api.create(LEADS, json!({ "name": "Bob", "email": "bob@example.com" })).await;
    api
}

#[tokio::test]
async fn each_custom_field_can_be_a_column() {
    let api = with_leads().await;
    assert_eq!(
        file(&api, "fields=email,custom_fields&custom=columns&sort=created_at").await,
        "email,VIP,city,gone,custom_fields.status,tags,custom_fields\r\n\
         ada@example.com,true,Köln; Süd,,gold,\"[\"\"a\"\",\"\"b\"\"]\",\r\n\
         bob@example.com,,,,,,\r\n"
    );
    // Only the fields of records that match.
    let bob = file(&api, "email=bob@example.com&fields=email,custom_fields&custom=columns").await;
    assert_eq!(bob, "email,custom_fields\r\nbob@example.com,\r\n");
    // The field can be left out, and then has no columns.
    assert_eq!(file(&api, "email=ada@example.com&fields=name&custom=columns").await, "name\r\nAda\r\n");
}

#[tokio::test]
async fn the_most_frequent_of_very_many_custom_fields_are_columns() {
    let api = Api::start().await;
    let create = async |name: &str, keys: std::ops::Range<u32>| {
        let custom: Value = keys.map(|n| (format!("k{n:03}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
        api.create(LEADS, json!({ "name": name, "email": format!("{name}@example.com"), "custom_fields": custom }))
            .await;
    };
    for (name, keys) in [
        ("a", 0..100),
        ("b", 100..200),
        ("c", 200..300),
        ("d", 300..400),
        ("e", 400..500),
        ("f", 0..50),
        ("g", 500..510),
    ] {
        create(name, keys).await;
    }
    let text = file(&api, "fields=name,custom_fields&custom=columns&sort=created_at").await;
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows[0].split(',').count(), 1 + 500 + 1);
    assert!(rows[0].starts_with("name,k000,k001,") && rows[0].ends_with(",k499,custom_fields"));
    assert!(rows[7].starts_with("g,") && rows[7].contains("\"\"k500\"\":500"), "{}", rows[7]);
}

#[tokio::test]
async fn a_file_has_the_delimiter_and_the_mark_that_a_spreadsheet_expects() {
    let api = with_leads().await;
    let text = file(&api, "fields=email,notes&delimiter=semicolon&bom=true&email=ada@example.com").await;
    // In a file with semicolons, a comma may separate cells for another program.
    assert_eq!(text, "\u{feff}email;notes\r\nada@example.com;x,'=1\r\n");
    assert_eq!(
        file(&api, "fields=email,notes&delimiter=%09&email=ada@example.com").await,
        "email\tnotes\r\nada@example.com\tx,'=1\r\n"
    );
    assert_eq!(
        file(&api, "fields=email,notes&email=ada@example.com").await,
        "email,notes\r\nada@example.com,\"x,=1\"\r\n"
    );
}

#[tokio::test]
async fn a_file_with_another_delimiter_imports_again() {
    let api = with_leads().await;
    let exported = file(&api, "delimiter=semicolon&bom=true&sort=created_at").await;
    let empty = Api::start().await;
    let _worker = Process::worker(&empty.database, &[]);
    let job = empty.imported(&format!("{LEADS}/import"), exported.clone()).await;
    assert_eq!(job["result"]["created"], 2, "{job}");
    assert_eq!(file(&empty, "delimiter=semicolon&bom=true&sort=created_at").await, exported);
}

#[tokio::test]
async fn json_lines_have_a_record_on_each_line() {
    let api = with_leads().await;
    let answer = api.get(&format!("{LEADS}/export?format=jsonl&sort=created_at")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/jsonl");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"leads.jsonl\"");
    let text = answer.text().await.unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // An import does not read when a lead was enrolled, so a file has it only if it is named.
    let mut expected = api.read(&format!("{LEADS}?sort=created_at")).await;
    for lead in expected.as_array_mut().unwrap() {
        lead.as_object_mut().unwrap().retain(|field, _| !field.starts_with("nurture_"));
    }
    assert_eq!(Value::from(records), expected);
    let some = file(&api, "format=jsonl&fields=name,score&sort=created_at").await;
    assert_eq!(some, "{\"name\":\"Ada\",\"score\":0}\n{\"name\":\"Bob\",\"score\":0}\n");
}

#[tokio::test]
async fn computed_fields_are_exported_if_they_are_named() {
    let api = Api::start().await;
    let customer = api.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let read = async |query: &str| {
        let path = format!("/dev/crm/customers/export?format=jsonl{query}");
        let text = api.get(&path).send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let plain = read("").await;
    assert_eq!((&plain["id"], plain.get("segment")), (&customer["id"], None));
    assert_eq!(read("&fields=id,segment").await, json!({ "id": id(&customer), "segment": "prospects" }));
}

#[tokio::test]
async fn invalid_options_of_a_file_are_named() {
    let api = Api::start().await;
    for (query, expected) in [
        ("format=xlsx", vec![("format", "invalid")]),
        ("delimiter=:", vec![("delimiter", "invalid")]),
        ("bom=yes", vec![("bom", "invalid")]),
        ("custom=keys", vec![("custom", "invalid")]),
        ("format=csv&format=csv", vec![("format", "duplicate")]),
        ("format=jsonl&bom=true&custom=json", vec![("bom", "unknown"), ("custom", "unknown")]),
        ("format=jsonl&delimiter=comma", vec![("delimiter", "unknown")]),
    ] {
        let answer = support::json(api.request(Method::GET, &format!("{LEADS}/export?{query}")), 400).await;
        assert_eq!(faults(&answer), expected, "{query}");
    }
}
