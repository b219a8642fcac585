//! Files of leads are uploaded over HTTP and imported by a worker.

use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use testing::Process;
use tokio::time::sleep;

use crate::support::{self, Api, faults};

const IMPORT: &str = "/dev/crm/leads/import";

/// An upload with options.
fn upload(api: &Api, query: &str, file: impl Into<Vec<u8>>) -> RequestBuilder {
    upload_part(api, query, Part::bytes(file.into()))
}

fn upload_part(api: &Api, query: &str, part: Part) -> RequestBuilder {
    api.post(&format!("{IMPORT}?{query}")).multipart(Form::new().part("file", part.file_name("leads.csv")))
}

/// Imports a file and returns the job when it has ended.
async fn import(api: &Api, query: &str, file: impl Into<Vec<u8>>) -> Value {
    let job = support::json(upload(api, query, file), 202).await;
    ended(api, &job).await
}

/// Follows a job's events until it has ended.
async fn ended(api: &Api, job: &Value) -> Value {
    let path = format!("/dev/crm/jobs/{}", job["id"].as_str().unwrap());
    // The stream of events ends with the job.
    api.get(&format!("{path}/events")).send().await.unwrap().text().await.unwrap();
    support::json(api.get(&path), 200).await
}

fn counts(job: &Value) -> [i64; 6] {
    assert_eq!(job["status"], "succeeded", "{job}");
    let result = &job["result"];
    ["rows", "created", "updated", "skipped", "failed", "warnings"].map(|count| result[count].as_i64().unwrap())
}

async fn errors(api: &Api, job: &Value) -> Vec<Value> {
    let path = format!("/dev/crm/jobs/{}/errors", job["id"].as_str().unwrap());
    support::json(api.get(&path), 200).await.as_array().unwrap().clone()
}

async fn codes(api: &Api, job: &Value) -> Vec<(i64, String, String)> {
    let text = |error: &Value, field: &str| error[field].as_str().unwrap().to_owned();
    errors(api, job)
        .await
        .iter()
        .map(|error| (error["line"].as_i64().unwrap(), text(error, "field"), text(error, "code")))
        .collect()
}

async fn leads(api: &Api) -> Vec<Value> {
    support::json(api.get("/dev/crm/leads?sort=email"), 200).await.as_array().unwrap().clone()
}

async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = Process::worker(&api.database, &[]);
    (api, worker)
}

#[tokio::test]
async fn an_export_of_another_system_is_imported_without_options() {
    let (api, _worker) = start().await;
    let file = "Index;First Name;Last Name;Company Name;Phone 1;Phone 2;E-mail;Lead Source;Deal Stage;Score\r\n\
                1;Ada;Lovelace;Analytical;+44 1;;ADA@Example.com;LinkedIn Outreach;Closed Won;75\r\n\
                2;Grace;;\"Navy; US\";;001;grace@example.com;Carrier Pigeon;On Hold;\r\n";
    let job = import(&api, "", file).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 0, 2]);
    assert_eq!(job["progress"], json!({ "done": 2, "total": 2 }));
    assert_eq!(job["result"]["delimiter"], ";");
    assert_eq!(job["result"]["encoding"], "utf-8");
    assert_eq!(job["result"]["mapping"]["First Name"], "first_name");
    // The second phone steps in where the first is empty.
    assert_eq!(job["result"]["mapping"]["Phone 2"], "phone");
    let unmatched = json!({ "Lead Source": { "Carrier Pigeon": 1 }, "Deal Stage": { "On Hold": 1 } });
    assert_eq!(job["result"]["unmatched"], unmatched);

    let [ada, grace]: [Value; 2] = leads(&api).await.try_into().unwrap();
    assert_eq!(
        (&ada["name"], &ada["email"], &ada["score"]),
        (&json!("Ada Lovelace"), &json!("ADA@Example.com"), &json!(75))
    );
    assert_eq!((&ada["source"], &ada["status"], &ada["phone"]), (&json!("social"), &json!("won"), &json!("+44 1")));
    let kept = json!({ "Index": "1", "Lead Source": "LinkedIn Outreach", "Deal Stage": "Closed Won" });
    assert_eq!(ada["custom_fields"], kept);
    assert_eq!(grace["phone"], "001");
    assert_eq!((&grace["name"], &grace["company"]), (&json!("Grace"), &json!("Navy; US")));
    assert_eq!((&grace["source"], &grace["status"]), (&json!("other"), &json!("new")));
    let kept = json!({ "Index": "2", "Lead Source": "Carrier Pigeon", "Deal Stage": "On Hold" });
    assert_eq!(grace["custom_fields"], kept);
    assert_eq!(ada["created_at"], grace["created_at"]);
}

#[tokio::test]
async fn a_repeated_email_conflicts_with_existing_leads_and_with_earlier_rows() {
    let (api, _worker) = start().await;
    let first = "name,email,phone,plan\nOne,1@example.com,11,a\nTwo,2@example.com,22,b\n";
    assert_eq!(counts(&import(&api, "", first).await), [2, 2, 0, 0, 0, 0]);
    let again = "name,email,phone,tier\nUno,1@EXAMPLE.com,,x\nTres,3@example.com,33,\nTrois,3@example.com,,y\n";

    assert_eq!(counts(&import(&api, "", again).await), [3, 1, 0, 2, 0, 0]);
    assert_eq!(leads(&api).await[0]["name"], "One");
    let job = import(&api, "on_conflict=fail", again).await;
    assert_eq!(counts(&job), [3, 0, 0, 0, 3, 0]);
    let taken = |line| (line, "email".to_owned(), "taken".to_owned());
    assert_eq!(codes(&api, &job).await, [taken(2), taken(3), taken(4)]);

    let before = leads(&api).await;
    assert_eq!(counts(&import(&api, "on_conflict=update", again).await), [3, 0, 3, 0, 0, 0]);
    let after = leads(&api).await;
    // Cells that are not empty win, and custom fields merge by key.
    assert_eq!((&after[0]["name"], &after[0]["phone"]), (&json!("Uno"), &json!("11")));
    assert_eq!(after[0]["custom_fields"], json!({ "plan": "a", "tier": "x" }));
    // The rows with one email were applied in file order.
    assert_eq!(
        (&after[2]["name"], &after[2]["phone"], &after[2]["custom_fields"]),
        (&json!("Trois"), &json!("33"), &json!({ "tier": "y" }))
    );
    assert_eq!(after[1], before[1]);
    assert_eq!(after[2]["created_at"], before[2]["created_at"]);

    // A match that changes nothing counts as updated, and writes nothing.
    assert_eq!(
        counts(
            &import(&api, "on_conflict=update", first.replace("One", "Uno").replace("1@example", "1@EXAMPLE")).await
        ),
        [2, 0, 2, 0, 0, 0]
    );
    assert_eq!(leads(&api).await, after);
}

#[tokio::test]
async fn an_unrecognised_value_does_not_change_its_field_in_an_update() {
    let (api, _worker) = start().await;
    import(&api, "", "name,email,status,source\nOne,1@example.com,won,website\n").await;
    let job = import(&api, "on_conflict=update", "name,email,status,source\nOne,1@example.com,On Hold,\n").await;
    assert_eq!(counts(&job), [1, 0, 1, 0, 0, 1]);
    let lead = &leads(&api).await[0];
    assert_eq!(
        (&lead["status"], &lead["source"], &lead["custom_fields"]),
        (&json!("won"), &json!("website"), &json!({ "status": "On Hold" }))
    );
}

#[tokio::test]
async fn rejected_rows_can_be_downloaded_corrected_and_imported() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Score,Note\nAnn,ann@example.com,5,x\nNora,,5,\"two\nlines\"\nBob,bob@,500,\nCid,cid@example.com,900,=1+1\nDan,dan@example.com,1,,,too\n";
    let job = import(&api, "strict=true", file).await;
    assert_eq!(counts(&job), [5, 1, 0, 0, 4, 0]);
    let rejected = errors(&api, &job).await;
    assert_eq!(
        rejected[0],
        json!({ "line": 3, "outcome": "failed", "field": "email", "code": "required", "message": "is required",
                "faults": [{ "field": "email", "code": "required", "message": "is required" }],
                "row": { "Name": "Nora", "Email": "", "Score": "5", "Note": "two\nlines" } })
    );
    // All faults of a row are reported, that of the key first.
    let fields: Vec<&str> =
        rejected[1]["faults"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["email", "score"]);
    let line = |line, field: &str, code: &str| (line, field.to_owned(), code.to_owned());
    assert_eq!(
        codes(&api, &job).await,
        [
            line(3, "email", "required"),
            line(5, "email", "invalid"),
            line(6, "score", "out_of_range"),
            line(7, "file", "too_many_cells")
        ]
    );

    let path = format!("/dev/crm/jobs/{}/errors", job["id"].as_str().unwrap());
    let csv = api.get(&path).header("accept", "text/csv").send().await.unwrap().text().await.unwrap();
    assert!(csv.starts_with("Name,Email,Score,Note,_line,_outcome,_faults\r\n"), "{csv}");
    let corrected =
        csv.replace("bob@,500", "bob@example.com,50").replace("900", "90").replace("Nora,,", "Nora,nora@example.com,");
    let job = import(&api, "", corrected).await;
    assert_eq!(job["result"]["mapping"]["_line"], Value::Null);
    let [rows, created, ..] = counts(&job);
    assert!(rows == 4 && created >= 3, "{job}");
    let cid = &support::json(api.get("/dev/crm/leads?q=cid"), 200).await[0];
    assert_eq!(cid["notes"], "=1+1");
}

#[tokio::test]
async fn the_fault_columns_of_rejected_rows_are_not_imported() {
    let (api, _worker) = start().await;
    let lead = json!({ "name": "Ann", "email": "ann@example.com", "notes": "Signed, call on Monday" });
    let ann = api.create("/dev/crm/leads", lead).await;
    let ann = format!("/dev/crm/leads/{}", ann["id"].as_str().unwrap());
    let errors = async |job: &Value| {
        let path = format!("/dev/crm/jobs/{}/errors", job["id"].as_str().unwrap());
        api.get(&path).header("accept", "text/csv").send().await.unwrap().text().await.unwrap()
    };
    let update = "on_conflict=update";
    let rejected = errors(
        &import(&api, "on_conflict=update&strict=true", "name,email,score\nAnn,ann@example.com,900\nBob,bob@,5\n")
            .await,
    )
    .await;
    let job = import(&api, update, rejected.replace("900", "90")).await;
    assert_eq!(counts(&job), [2, 0, 1, 0, 1, 0]);
    let ann = api.read(&ann).await;
    assert_eq!(
        (&ann["score"], &ann["notes"], &ann["custom_fields"]),
        (&json!(90), &json!("Signed, call on Monday"), &json!({}))
    );
    // A row that is rejected again has its fault columns once.
    let again = errors(&job).await;
    assert!(again.starts_with("name,email,score,_line,_outcome,_faults\r\nBob,bob@,5,3,failed,email: "), "{again}");
    assert_eq!(counts(&import(&api, update, again.replace("bob@,", "bob@example.com,")).await), [1, 1, 0, 0, 0, 0]);
    let bob = &support::json(api.get("/dev/crm/leads?email=bob@example.com"), 200).await[0];
    assert_eq!((&bob["notes"], &bob["custom_fields"]), (&Value::Null, &json!({})));
}

#[tokio::test]
async fn rejected_rows_of_a_hostile_file_contain_no_formulas_and_can_be_imported_again() {
    let (api, _worker) = start().await;
    let file = "name,email,=cmd|' /C calc'!A0,\"a;@b\"\nAnn,ann@,+1 415 555 0103 ext. 9,\"x\n=1+1\"\n";
    let job = import(&api, "", file).await;
    assert_eq!(counts(&job), [1, 0, 0, 0, 1, 0]);
    let path = format!("/dev/crm/jobs/{}/errors", job["id"].as_str().unwrap());
    let csv = api.get(&path).header("accept", "text/csv").send().await.unwrap().text().await.unwrap();
    assert!(csv.starts_with("name,email,'=cmd|' /C calc'!A0,a;'@b,_line"), "{csv}");
    assert!(csv.contains("Ann,ann@,+1 415 555 0103 ext. 9,\"x\n'=1+1\","), "{csv}");
    assert_eq!(counts(&import(&api, "", csv.replace("ann@", "ann@example.com")).await), [1, 1, 0, 0, 0, 0]);
    let ann = &leads(&api).await[0];
    let custom = json!({ "=cmd|' /C calc'!A0": "+1 415 555 0103 ext. 9", "a;@b": "x\n=1+1" });
    assert_eq!(ann["custom_fields"], custom);
    let export = api.get("/dev/crm/leads/export").send().await.unwrap().text().await.unwrap();
    assert!(export.contains("\"\"a;'@b\"\""), "{export}");
    api.delete(&format!("/dev/crm/leads/{}", ann["id"].as_str().unwrap()), 204).await;
    assert_eq!(counts(&import(&api, "", export).await), [1, 1, 0, 0, 0, 0]);
    assert_eq!(leads(&api).await[0]["custom_fields"], custom);
}

#[tokio::test]
async fn unclosed_quotes_on_every_line_reject_twenty_rows() {
    let (api, _worker) = start().await;
    let lines: String = (1..=30).map(|n| format!("Ann\",\"ann{n}@example.com\n")).collect();
    let file = format!("name,email\n{lines}{}", "padding,\n".repeat(40_000));
    let job = import(&api, "unmapped=ignore", file).await;
    // The quotes of the other rows are kept with a warning, and the last rows look like a footer.
    assert_eq!(counts(&job), [40_030, 10, 0, 20, 40_000, 10]);
    let errors = errors(&api, &job).await;
    let too_long = errors.iter().take_while(|error| error["code"] == "record_too_long").count();
    assert_eq!((too_long, errors[19]["line"].as_i64()), (20, Some(21)));
    assert!(errors[19]["message"].as_str().unwrap().contains("every line break ends a row"));
    assert_eq!(leads(&api).await.len(), 10);
}

#[tokio::test]
async fn faults_in_the_head_of_a_file_are_reported_by_the_upload() {
    let api = Api::start().await;
    let wide = format!("name,email{}\n", ",x".repeat(100_000));
    for (query, file, fault) in [
        ("", "", ("file", "empty")),
        ("", "\n\r\n\n", ("file", "empty")),
        ("", "a,b\n1,2\n", ("email", "missing_column")),
        ("", "name,phone\nAnn,1\n", ("email", "missing_column")),
        ("", "name,em\u{0}ail\n", ("file", "invalid")),
        ("", wide.as_str(), ("file", "too_many_columns")),
        ("delimiter=;", "name,email\n", ("email", "missing_column")),
        ("key=external_id", "name,email\n", ("external_id", "missing_column")),
        ("header=false", "name,email\n", ("columns", "required")),
        ("header_row=9", "name,email\n", ("header_row", "out_of_range")),
        ("tz=Berlin", "name,email\n", ("tz", "invalid")),
        ("set={%22score%22:900}", "name,email\n", ("set.score", "out_of_range")),
        ("set={%22email%22:%22a@example.com%22}", "name,email\n", ("set.email", "unknown")),
        ("delimiter=x", "name,email\n", ("delimiter", "invalid")),
        ("on_conflict=merge", "name,email\n", ("on_conflict", "invalid")),
        ("dry_run=yes", "name,email\n", ("dry_run", "invalid")),
        ("encoding=klingon", "name,email\n", ("encoding", "invalid")),
        ("mapping=[]", "name,email\n", ("mapping", "invalid")),
        ("mapping={%22Nom%22:%22name%22}", "name,email\n", ("mapping.Nom", "unknown")),
        ("dryrun=true", "name,email\n", ("dryrun", "unknown")),
    ] {
        let answer = support::json(upload(&api, query, file), 400).await;
        assert_eq!(faults(&answer)[0], fault, "{query} {:.20}", file);
    }
    let form = |form: Form| api.post(IMPORT).multipart(form);
    let file = || Part::text("name,email\n").file_name("a.csv");
    let empty = api.post(IMPORT).header("content-type", "multipart/form-data; boundary=x").body("--x--\r\n");
    for (request, fault) in [
        (empty, ("file", "required")),
        (form(Form::new().text("mode", "x")), ("mode", "unknown")),
        (form(Form::new().part("file", file()).part("file", file())), ("file", "duplicate")),
    ] {
        assert_eq!(faults(&support::json(request, 400).await), [fault]);
    }
    support::json(api.post(IMPORT).header("content-type", "text/csv").body("name,email\n"), 415).await;
    assert_eq!(support::json(api.get("/dev/crm/jobs"), 200).await, json!([]));
}

#[tokio::test]
async fn a_file_without_rows_imports_nothing() {
    let (api, _worker) = start().await;
    for file in ["name,email\n", "name,email"] {
        assert_eq!(counts(&import(&api, "", file).await), [0; 6]);
    }
}

#[tokio::test]
async fn all_line_ends_and_ragged_rows_are_accepted() {
    let (api, _worker) = start().await;
    let file = "name,email,phone\rAnn,ann@example.com\r\n\n\rBob,bob@example.com,1\nCid,cid@example.com,2,,\nDan,dan@example.com,3,4";
    let job = import(&api, "", file).await;
    assert_eq!(counts(&job), [4, 3, 0, 0, 1, 0]);
    assert_eq!(codes(&api, &job).await, [(7, "file".to_owned(), "too_many_cells".to_owned())]);
    // Line numbers are those of the file with any line ends.
    for end in ["\n", "\r", "\r\n"] {
        let file = ["name,email", "Ann,ann@example.com", "", "Bob,bob@", "Cid,cid@"].join(end);
        let line = |line| (line, "email".to_owned(), "invalid".to_owned());
        assert_eq!(codes(&api, &import(&api, "", file).await).await, [line(4), line(5)], "{end:?}");
    }
}

#[tokio::test]
async fn an_unclosed_quote_rejects_only_its_row() {
    let (api, _worker) = start().await;
    let mut file = "name,email\nAnn,ann@example.com\n\"Bob,bob@example.com\nCid,cid@example.com\n".to_owned();
    // Longer than a record may be, so the quote is abandoned before the end of the file.
    for i in 0..50_000 {
        file += &format!("Somebody Else,somebody{i}@example.com\n");
    }
    let job = import(&api, "", file).await;
    assert_eq!(counts(&job), [50_003, 50_002, 0, 0, 1, 0]);
    let rejected = errors(&api, &job).await;
    assert_eq!((&rejected[0]["line"], &rejected[0]["code"]), (&json!(3), &json!("record_too_long")));
    assert_eq!(rejected[0]["row"]["name"], "\"Bob,bob@example.com");

    let job = import(&api, "on_conflict=update", "name,email\n\"Ann,ann@example.com\nCid,cid@example.com").await;
    assert_eq!(counts(&job), [2, 0, 1, 0, 1, 0]);
    assert_eq!(codes(&api, &job).await, [(2, "file".to_owned(), "record_too_long".to_owned())]);
}

#[tokio::test]
async fn a_field_of_one_gibibyte_rejects_only_its_row() {
    let (api, _worker) = start().await;
    let piece = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let head = bytes::Bytes::from("name,email\nAnn,ann@example.com\n");
    let tail = bytes::Bytes::from(",huge@example.com\nBob,bob@example.com\n");
    let pieces = std::iter::once(head).chain(std::iter::repeat_n(piece, 1024)).chain(std::iter::once(tail));
    let body = Body::wrap_stream(futures_util::stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let job = support::json(upload_part(&api, "", Part::stream(body)), 202).await;
    let job = ended(&api, &job).await;
    assert_eq!(counts(&job), [3, 2, 0, 0, 1, 0]);
    assert_eq!(codes(&api, &job).await, [(3, "file".to_owned(), "record_too_long".to_owned())]);
}

#[tokio::test]
async fn bytes_that_are_invalid_in_the_encoding_reject_only_their_row() {
    let (api, _worker) = start().await;
    let mut file = "name,email,city\nZoë,zoe@example.com,Köln\n".as_bytes().to_vec();
    file.extend(b"Bad,bad@example.com,K\xf6ln\nNul,nul@example.com,a\0b\n");
    file.extend("Éric,eric@example.com,Orléans\nJosé,jose@example.com,Málaga\n".as_bytes());
    let job = import(&api, "", file).await;
    assert_eq!(counts(&job), [5, 3, 0, 0, 2, 0]);
    let seen = codes(&api, &job).await;
    assert_eq!(seen[0], (3, "city".to_owned(), "encoding".to_owned()));
    assert_eq!(seen[1], (4, "custom_fields".to_owned(), "invalid".to_owned()));
}

#[tokio::test]
async fn the_encoding_of_spreadsheets_is_detected() {
    let (api, _worker) = start().await;
    let text = "Vorname;Nachname;E-Mail\nJürgen;Groß;juergen@example.de\n";
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend(text.as_bytes());
    let mapping = "mapping={%22Vorname%22:%22first_name%22,%22Nachname%22:%22last_name%22}";
    for (file, encoding) in [
        (utf_16(u16::to_le_bytes), "utf-16le"),
        (utf_16(u16::to_be_bytes), "utf-16be"),
        (latin, "windows-1252"),
        (marked, "utf-8"),
    ] {
        let job = import(&api, &format!("on_conflict=update&{mapping}"), file).await;
        assert_eq!(job["result"]["encoding"], encoding);
        assert_eq!(leads(&api).await[0]["name"], "Jürgen Groß", "{encoding}");
    }
}

#[tokio::test]
async fn columns_with_the_same_header_are_all_imported() {
    let (api, _worker) = start().await;
    let file = "name,email,email,note,tag,tag,\nAnn,ann@example.com,b@example.com,n,1,2,3\n";
    assert_eq!(counts(&import(&api, "", file).await), [1, 1, 0, 0, 0, 0]);
    let kept = json!({ "other_emails": ["b@example.com"], "tag": "1", "tag (2)": "2", "column_7": "3" });
    assert_eq!(leads(&api).await[0]["custom_fields"], kept);
    assert_eq!(
        counts(&import(&api, "unmapped=ignore&on_conflict=update", "name,email,more\nAnn,ann@example.com,1\n").await)
            [2],
        1
    );
    assert_eq!(leads(&api).await[0]["custom_fields"], kept);
}

#[tokio::test]
async fn a_dry_run_reports_the_outcome_and_writes_no_records() {
    let (api, _worker) = start().await;
    import(&api, "", "name,email\nAnn,ann@example.com\n").await;
    let before = leads(&api).await;
    // Two chunks, with conflicts between them.
    let mut file = "name,email\nAnn,ann@example.com\nBad,bad\n".to_owned();
    for i in 0..40_000 {
        file += &format!("Somebody With A Long Name,somebody{}@example.com\n", i % 20_000);
    }
    for (on_conflict, expected) in [
        ("skip", [40_002, 20_000, 0, 20_001, 1, 0]),
        ("update", [40_002, 20_000, 20_001, 0, 1, 0]),
        ("fail", [40_002, 20_000, 0, 0, 20_002, 0]),
    ] {
        let job = import(&api, &format!("dry_run=true&on_conflict={on_conflict}"), file.as_bytes()).await;
        assert_eq!(counts(&job), expected, "{on_conflict}");
        assert_eq!(job["result"]["dry_run"], true);
        assert_eq!(leads(&api).await, before);
    }
    let real = import(&api, "", file).await;
    assert_eq!(counts(&real), [40_002, 20_000, 0, 20_001, 1, 0]);
}

#[tokio::test]
async fn an_export_can_be_imported_to_the_same_records() {
    let (api, worker) = start().await;
    for body in [
        json!({ "name": "=cmd()", "email": "a@example.com", "phone": "+1 555", "company": "'@x", "notes": "a,\"b\"\nc", "score": 12.5 }),
        json!({ "name": "Zoë", "email": "ZOE@example.com", "status": "won", "source": "email", "last_contact": "2024-01-15T10:00:00Z",
                "assigned_to": "0191d2c0-6f5e-4000-8000-00000000000b", "custom_fields": { "n": 1, "deep": [{ "a": null }], "=f": "=1" } }),
    ] {
        support::json(api.post("/dev/crm/leads").json(&body), 201).await;
    }
    let zoe = leads(&api).await.pop().unwrap();
    let lost = api
        .send(Method::PUT, &format!("/dev/crm/leads/{}", zoe["id"].as_str().unwrap()), json!({ "status": "lost" }), 200)
        .await;
    assert!(lost["won_at"] == zoe["created_at"] && lost["lost_at"] == lost["updated_at"], "{lost}");
    let answer = api.get("/dev/crm/leads/export").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"leads.csv\"");
    let exported = answer.text().await.unwrap();
    assert!(exported.contains("'=cmd()") && exported.contains("''@x") && exported.contains(",+1 555,"), "{exported}");

    let empty = Api::on(api, "globex").await;
    let job = import(&empty, "", exported.clone()).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 0, 0]);
    let again = empty.get("/dev/crm/leads/export").send().await.unwrap().text().await.unwrap();
    assert_eq!(again, exported);

    let clash = exported.replace("a@example.com", "c@example.com");
    let job = import(&empty, "", clash).await;
    assert_eq!(counts(&job), [2, 0, 0, 1, 1, 0]);
    assert_eq!(codes(&empty, &job).await[0].1, "id");
    drop(worker);
}

#[tokio::test]
async fn an_id_that_is_not_a_uuid_becomes_an_external_id() {
    let (api, _worker) = start().await;
    let file = "id,name,email,created_at\n17,Ann,ann@example.com,2020-01-02\n,Bob,bob@example.com,\n";
    assert_eq!(counts(&import(&api, "", file).await), [2, 2, 0, 0, 0, 0]);
    let found = leads(&api).await;
    assert_eq!((&found[0]["external_id"], &found[0]["created_at"]), (&json!("17"), &json!("2020-01-02T00:00:00Z")));
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let api = Api::start_with(|settings| settings.imports.max_bytes = 3 << 20).await;
    let row = "Somebody,somebody@example.com\n".repeat(200_000);
    support::json(upload(&api, "", format!("name,email\n{row}")), 413).await;

    let broken = futures_util::stream::iter([
        Ok(format!("name,email\n{}", &row[..2 << 20])),
        Err(std::io::Error::other("the client's machine is switched off")),
    ]);
    upload_part(&api, "", Part::stream(Body::wrap_stream(broken))).send().await.unwrap_err();

    assert_eq!(support::json(api.get("/dev/crm/jobs"), 200).await, json!([]));
    // Uploads of a process that died are deleted an hour after the last chunk arrived.
    let mut connection = api.connection().await;
    let begun = Instant::now();
    loop {
        sqlx::query("UPDATE imports SET touched_at = now() - interval '61 minutes'")
            .execute(&mut connection)
            .await
            .unwrap();
        shared::imports::sweep(&mut connection).await.unwrap();
        let left = "SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM import_chunks)";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&mut connection).await.unwrap();
        if left == 0 {
            break;
        }
        // The server may still store what had arrived.
        assert!(begun.elapsed() < Duration::from_secs(20), "{left} rows are left");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_cancelled_import_keeps_its_committed_steps_and_can_be_resumed() {
    let (api, _worker) = start().await;
    let mut file = "name,email\n".to_owned();
    for i in 0..300_000 {
        file += &format!("Somebody With A Long Name,somebody{i}@example.com\n");
    }
    let job = support::json(upload(&api, "", file), 202).await;
    let path = format!("/dev/crm/jobs/{}", job["id"].as_str().unwrap());
    loop {
        let running = support::json(api.get(&path), 200).await;
        if running["progress"]["done"] != 0 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let cancelled = support::json(api.post(&format!("{path}/cancel")), 200).await;
    assert_eq!(cancelled["status"], "cancelled");
    let created = cancelled["result"]["created"].as_i64().unwrap();
    let stored = async |api: &Api| {
        let answer = api.get("/dev/crm/leads?limit=1&count=true").send().await.unwrap();
        answer.headers()["x-total-count"].to_str().unwrap().parse::<i64>().unwrap()
    };
    assert!(created < 300_000, "the job ended before it could be cancelled");
    assert_eq!(stored(&api).await, created);

    support::json(api.post(&format!("{path}/retry")), 202).await;
    let job = ended(&api, &job).await;
    assert_eq!(counts(&job), [300_000, 300_000, 0, 0, 0, 0]);
    assert_eq!(stored(&api).await, 300_000);
}
