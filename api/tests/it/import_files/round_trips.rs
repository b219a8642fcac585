//! What an export writes, an import reads back: the same records, however odd their texts are.

use serde_json::{Map, Value, json};

use super::*;

/// Texts that files, spreadsheets and other imports stumble over.
const TEXTS: [&str; 24] = [
    "=1+1",
    "+A1",
    "-2+3",
    "@cmd",
    "'=1",
    "''@x",
    "＝1",
    "a;=b",
    "a\"b",
    "\"quoted\"",
    "a,b",
    "a|b;c",
    "tab\tin",
    "O'Neil",
    "'t Hooft",
    "Zoë Müller",
    "山田 太郎",
    "x;'=y",
    "1.234",
    "3/4/2024",
    "  inner  space  ",
    "null",
    "true",
    "-",
];
const PHONES: [&str; 6] = [
    "+1 415 555 0103 ext. 9",
    "+49 (0)30/1234-0 #12",
    "(415) 555-0103",
    "-12",
    "+14155550103;ext=9",
    "020 7946 0102 x12",
];

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn text(&mut self) -> String {
        let (one, other) = (TEXTS[self.below(TEXTS.len())], TEXTS[self.below(TEXTS.len())]);
        if self.below(3) == 0 { format!("{one} {other}") } else { one.to_owned() }.trim().to_owned()
    }

    fn custom_fields(&mut self) -> Value {
        let mut fields = Map::new();
        for _ in 0..self.below(4) {
            let value = match self.below(5) {
                0 => json!(self.below(1000)),
                1 => json!([self.text(), { "deep": self.text() }]),
                2 => Value::Null,
                _ => json!(self.text()),
            };
            fields.insert(self.text(), value);
        }
        Value::Object(fields)
    }

    /// The fields that leads and customers have in common.
    fn person(&mut self, n: usize) -> Map<String, Value> {
        let mut person = Map::new();
        let mut set = |field: &str, value: Value| _ = person.insert(field.to_owned(), value);
        set("email", json!(format!("person{n}@example.com")));
        let name = self.text().replace('\t', " ");
        match self.below(3) {
            0 => set("name", json!(name)),
            1 => set("first_name", json!(name)),
            _ => {
                set("first_name", json!(name));
                set("last_name", json!(self.text().replace('\t', " ")));
            }
        }
        if self.below(2) == 0 {
            set("phone", json!(PHONES[self.below(PHONES.len())]));
            set("external_id", json!(format!("{}{n}", TEXTS[self.below(4)])));
        }
        if self.below(2) == 0 {
            set("company", json!(self.text().replace('\t', " ")));
            set("notes", json!(format!("{}\n{}\r\n{}", self.text(), self.text(), self.text())));
        }
        set("custom_fields", self.custom_fields());
        person
    }
}

async fn export(api: &Api, list: &str, query: &str) -> String {
    let response = api.get(&format!("{list}/export?{query}")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

async fn fill(api: &Api) {
    let mut random = Random(7);
    for (list, count) in [(LEADS, 600), (CUSTOMERS, 400)] {
        let items: Vec<Value> = (0..count)
            .map(|n| {
                let mut person = random.person(n);
                if list == LEADS {
                    person.insert(
                        "score".into(),
                        json!(f64::from(u32::try_from(random.below(100_000)).unwrap()) / 1000.0),
                    );
                    person.insert("status".into(), json!(["new", "won", "lost"][random.below(3)]));
                    person.insert("last_contact".into(), json!("2024-03-04T05:06:07.123456Z"));
                } else {
                    let cents = u32::try_from(random.below(100_000_000)).unwrap();
                    person.insert("credit_limit".into(), json!(f64::from(cents) / 1000.0));
                    person.insert("type".into(), json!(["individual", "business"][random.below(2)]));
                    person.insert("billing_address".into(), json!(format!("{}\nStreet 1", random.text())));
                }
                Value::Object(person)
            })
            .collect();
        for items in items.chunks(200) {
            let answer = support::json(api.post(&format!("{list}/batch")).json(&json!({ "items": items })), 200).await;
            assert!(answer["results"].as_array().unwrap().iter().all(|result| result["error"].is_null()), "{answer}");
        }
    }
    // Some leads are linked to the customers that they became.
    let open = api.read(&format!("{LEADS}?status=won,new&limit=40")).await;
    for lead in open.as_array().unwrap() {
        let path = format!("{LEADS}/{}/convert", id(lead));
        let email = json!({ "email": format!("converted.{}", lead["email"].as_str().unwrap()) });
        api.send(reqwest::Method::POST, &path, email, 201).await;
    }
}

#[tokio::test]
async fn a_thousand_records_are_the_same_after_an_export_and_an_import() {
    let (api, _worker) = start().await;
    fill(&api).await;
    let [leads, customers] = [export(&api, LEADS, "").await, export(&api, CUSTOMERS, "").await];
    let file = export(&api, CUSTOMERS, "delimiter=semicolon&bom=true").await;
    let api = api.on("globex").await;
    let job = import(&api, LEADS, "", leads.clone()).await;
    assert_eq!((count(&job, "created"), count(&job, "failed")), (600, 0), "{job}");
    // The customers do not exist yet, so the links to them come with these.
    assert_eq!(count(&job, "warnings"), 40);
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 440 }));
    assert_eq!(export(&api, CUSTOMERS, "").await, customers);
    assert_eq!(export(&api, LEADS, "").await, leads);
    // Once more, nothing changes.
    let job = import(&api, LEADS, "on_conflict=update", leads.clone()).await;
    assert_eq!((count(&job, "updated"), count(&job, "failed")), (600, 0), "{job}");
    assert_eq!(export(&api, LEADS, "").await, leads);
}

#[tokio::test]
async fn exports_for_people_have_columns_lines_and_marks() {
    let (api, _worker) = start().await;
    let custom = json!({ "plan": "gold", "phone": "old", "seats": 7, "=f": "=1" });
    api.create(LEADS, json!({ "name": "Ann", "email": "ann@example.com", "custom_fields": custom })).await;
    api.create(LEADS, json!({ "name": "Bob", "email": "bob@example.com", "custom_fields": { "plan": "x;y" } })).await;

    let query = "custom=columns&fields=name,email,custom_fields&sort=email&delimiter=semicolon&bom=true";
    let expected = "\u{feff}name;email;'=f;custom_fields.phone;plan;seats;custom_fields\r\n\
                    Ann;ann@example.com;'=1;old;gold;7;\r\nBob;bob@example.com;;;\"x;y\";;\r\n";
    let file = export(&api, LEADS, query).await;
    assert_eq!(file, expected);
    let lines = export(&api, LEADS, "format=jsonl&fields=name,score&sort=email").await;
    assert_eq!(lines, "{\"name\":\"Ann\",\"score\":0}\n{\"name\":\"Bob\",\"score\":0}\n");

    // A file with columns of custom fields can be imported as well, as texts.
    let api = api.on("globex").await;
    assert_counts(&import(&api, LEADS, "", file).await, json!({ "created": 2 }));
    let custom = json!({ "plan": "gold", "phone": "old", "seats": "7", "=f": "=1" });
    assert_eq!(person(&api, LEADS, "ann@example.com").await["custom_fields"], custom);
    for query in ["format=xml", "custom=all", "delimiter=colon", "bom=1", "format=jsonl&bom=true"] {
        let response = api.get(&format!("{LEADS}/export?{query}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{query}");
    }
}
