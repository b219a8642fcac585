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

/// A file in which every cell is quoted.
fn file(header: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let row = |cells: Vec<String>| {
        let cells = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
        cells.collect::<Vec<_>>().join(",") + "\r\n"
    };
    format!("{header}\r\n{}", rows.map(row).collect::<String>())
}

/// A thousand records of each kind that belongs to people, as a file, by its path.
fn records_of_people(random: &mut Random) -> Vec<(&'static str, String)> {
    let person = |random: &mut Random| format!("p{}@example.com", random.below(50));
    let line = |random: &mut Random| random.text().replace('\t', " ");
    let day =
        |random: &mut Random| format!("2025-{:02}-{:02}T01:02:03.123456Z", 1 + random.below(12), 1 + random.below(28));
    let some = |random: &mut Random, text: String| if random.below(3) == 0 { String::new() } else { text };
    let mut rows = |cells: &dyn Fn(&mut Random, usize) -> Vec<String>| -> Vec<Vec<String>> {
        (0..1_000).map(|n| cells(random, n)).collect()
    };
    let orders = rows(&|random, n| {
        let id = some(random, format!("{}{n}", TEXTS[n % 4]));
        let (quantity, address) = ((1 + random.below(90)).to_string(), format!("{}\nStreet", random.text()));
        let status = ["pending", "shipped", "cancelled"][random.below(3)].to_owned();
        vec![
            person(random),
            format!("Item {}", line(random)),
            quantity,
            status,
            day(random),
            id,
            address,
            random.custom_fields().to_string(),
        ]
    });
    let interactions = rows(&|random, n| {
        let (kind, id) = (["call", "email", "meeting"][random.below(3)].to_owned(), some(random, format!("i{n}")));
        let (action, due) = (line(random), day(random));
        let (action, due) = (some(random, action), some(random, due));
        vec![
            person(random),
            kind,
            line(random),
            random.text(),
            day(random),
            action,
            due,
            id,
            random.custom_fields().to_string(),
        ]
    });
    let feedback = rows(&|random, n| {
        let (rating, id) = ((1 + random.below(5)).to_string(), some(random, format!("f{n}")));
        vec![person(random), rating, random.text(), line(random), day(random), id, random.custom_fields().to_string()]
    });
    let suppressions = rows(&|random, n| {
        let address = if n % 10 == 0 { format!("{n:064x}") } else { format!("{n}@example.com") };
        vec![address, ["unsubscribed", "bounced", "imported"][random.below(3)].to_owned(), day(random)]
    });
    let of_people = |parent: &str, kind: &str| {
        format!("{parent}_email,type,subject,{kind},date,next_action,next_action_date,external_id,custom_fields")
    };
    vec![
        (
            ORDERS,
            file(
                "customer_email,product_id,quantity,status,order_date,external_id,shipping_address,custom_fields",
                orders.into_iter(),
            ),
        ),
        ("/dev/crm/leads/interactions", file(&of_people("lead", "notes"), interactions.clone().into_iter())),
        ("/dev/crm/customers/interactions", file(&of_people("customer", "description"), interactions.into_iter())),
        (
            "/dev/crm/feedback",
            file("customer_email,rating,comment,category,answered_at,external_id,custom_fields", feedback.into_iter()),
        ),
        (SUPPRESSIONS, file("email,reason,created_at", suppressions.into_iter())),
    ]
}

#[tokio::test]
async fn a_thousand_records_of_each_kind_are_the_same_after_an_export_and_an_import() {
    let (api, _worker) = start().await;
    let people = file("name,email", (0..50).map(|n| vec![format!("P {n}"), format!("p{n}@example.com")]));
    for list in [LEADS, CUSTOMERS] {
        import(&api, list, "", people.clone()).await;
    }
    let files = records_of_people(&mut Random(11));
    for (list, file) in &files {
        let job = import(&api, list, "", file.clone()).await;
        assert_eq!((count(&job, "created"), count(&job, "failed")), (1_000, 0), "{list}: {job}");
    }
    let lists = [LEADS, CUSTOMERS].into_iter().chain(files.iter().map(|(list, _)| *list));
    let mut exports = Vec::new();
    for list in lists {
        exports.push((list, export(&api, list, "").await));
    }
    let api = api.on("globex").await;
    for (list, exported) in &exports {
        let job = import(&api, list, "", exported.clone()).await;
        assert_eq!(
            (count(&job, "failed"), count(&job, "warnings"), count(&job, "skipped")),
            (0, 0, 0),
            "{list}: {job}"
        );
        assert!(&export(&api, list, "").await == exported, "{list}");
        // Once more, nothing changes.
        let job = import(&api, list, "on_conflict=update", exported.clone()).await;
        assert_eq!(count(&job, "updated"), count(&job, "rows"), "{list}: {job}");
        assert!(&export(&api, list, "").await == exported, "{list}");
    }
    for (list, exported) in &exports {
        // For people and programs.
        let lines = export(&api, list, "format=jsonl").await;
        assert_eq!(lines.lines().count(), exported.matches("\r\n").count().min(lines.lines().count()), "{list}");
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert!(first["id"].is_string() && first["job_id"].is_null(), "{first}");
        let chosen = export(&api, list, "fields=id,created_at&delimiter=semicolon&bom=true&custom=columns").await;
        assert!(chosen.starts_with("\u{feff}id;created_at\r\n"), "{list}: {chosen}");
    }
}
