//! Excel workbooks are imported, with dates and numbers as their cells mean them, and hostile ones harm nobody.

use serde_json::{Value, json};
use testing::workbook::{Workbook, texts};

use crate::formats::{counts, import, leads, refused, remarks, start};
use crate::support::{Api, each};

#[tokio::test]
async fn a_sheet_is_imported_with_its_cells_as_they_are_meant() {
    let (api, _worker) = start().await;
    let strings = [
        "<t>Full Name</t>",
        "<t>E-mail\nAddress</t>",
        "<r><t>Ann </t></r><r><t xml:space=\"preserve\">Lee</t></r><rPh sb=\"0\" eb=\"1\"><t>an ri</t></rPh>",
        "<t>01067</t>",
    ];
    let rows = r#"
        <row r="1"><c r="A1" t="inlineStr"><is><t>Leads of May</t></is></c></row>
        <row r="3"><c r="A3" t="s"><v>0</v></c><c r="B3" t="s"><v>1</v></c><c r="C3" t="inlineStr"><is><t>Create Date</t></is></c>
            <c r="D3" t="inlineStr"><is><t>Score</t></is></c><c r="E3" t="inlineStr"><is><t>Zip</t></is></c>
            <c r="F3" t="inlineStr"><is><t>Share</t></is></c><c r="G3" t="inlineStr"><is><t>VIP</t></is></c>
            <c r="H3" t="inlineStr"><is><t>Last Contacted</t></is></c><c r="I3" t="inlineStr"><is><t>Region</t></is></c></row>
        <row r="4"><c r="A4" t="s"><v>2</v></c><c r="B4" t="str"><f>LOWER("ANN@example.com")</f><v>ann@example.com</v></c>
            <c r="C4" s="1"><v>45306</v></c><c r="D4"><v>7.0999999999999996E1</v></c><c r="E4" t="s"><v>3</v></c>
            <c r="F4" s="2"><v>0.755</v></c><c r="G4" t="b"><v>1</v></c><c r="H4" s="3"><v>45306.4375</v></c>
            <c r="I4" t="e"><v>#N/A</v></c></row>
        <row r="6"><c r="B6" t="inlineStr"><is><t>bob@example.com</t></is></c><c r="E6" s="4"><v>1067</v></c>
            <c r="I6"><f>VLOOKUP(A6,X:Y,2)</f></c></row>"#;
    let formats = ["General", "[$-407]d. mmmm yyyy", "0.0%", "m/d/yy h:mm", "00000"];
    let file = Workbook::new().sheet("Leads", rows).strings(&strings).formats(&formats).file();
    let job = import(&api, "tz=UTC", file).await;
    assert_eq!(counts(&job), [2, 2, 0, 0, 2], "{job}");
    assert_eq!((&job["result"]["format"], &job["result"]["header_row"]), (&json!("xlsx"), &json!(3)));
    assert_eq!(job["result"]["mapping"]["E-mail\nAddress"], "email");
    let [ann, bob]: [Value; 2] = leads(&api).await.try_into().unwrap();
    assert_eq!(
        (&ann["name"], &ann["score"], &ann["last_contact"]),
        (&json!("Ann Lee"), &json!(71), &json!("2024-01-15T10:30:00Z"))
    );
    assert_eq!(ann["custom_fields"], json!({ "Zip": "01067", "Share": "75.5%", "VIP": "true", "Region": "#N/A" }));
    assert_eq!(bob["custom_fields"], json!({ "Zip": "01067", "Region": "=VLOOKUP(A6,X:Y,2)" }));
    let created = api.read("/dev/crm/leads?email=ann@example.com").await;
    assert_eq!(created[0]["created_at"], "2024-01-15T00:00:00Z");
    let region = |line| (line, "Region".to_owned(), "invalid".to_owned());
    assert_eq!(remarks(&api, &job).await, [region(4), region(6)]);
}

#[tokio::test]
async fn days_may_be_counted_from_1904() {
    let (api, _worker) = start().await;
    let rows = texts(&[&["email", "Last Contacted", "name"]])
        + r#"<row><c t="inlineStr"><is><t>ann@example.com</t></is></c><c s="0"><v>43844</v></c><c t="b"><v>1</v></c></row>"#;
    let file = Workbook::new().sheet("Leads", &rows).formats(&["yyyy-mm-dd"]).since_1904().file();
    import(&api, "tz=UTC", file).await;
    assert_eq!(leads(&api).await[0]["last_contact"], "2024-01-15T00:00:00Z");
}

#[tokio::test]
async fn a_sheet_is_chosen_by_its_name() {
    let (api, _worker) = start().await;
    let book = Workbook::new()
        .sheet("Summary", &texts(&[&["Total", "2"]]))
        .sheet("People &amp; more", &texts(&[&["name", "email"], &["Ann", "ann@example.com"]]));
    let job = import(&api, "sheet=people %26 more", book.file()).await;
    assert_eq!(counts(&job), [1, 1, 0, 0, 0]);
    let faults = refused(&api, "sheet=Leads", book.file()).await;
    assert_eq!((&faults[0]["field"], &faults[0]["code"]), (&json!("sheet"), &json!("unknown")));
    assert!(faults[0]["message"].as_str().unwrap().contains("Summary, People & more"), "{faults:?}");
    assert_eq!(refused(&api, "", book.file()).await[0]["code"], "missing_column");
}

#[tokio::test]
async fn lines_are_rows_of_the_sheet_and_cells_may_have_line_breaks() {
    let (api, _worker) = start().await;
    let rows: &[&[&str]] = &[
        &["name", "email", "notes"],
        &["Ann", "ann@example.com", "one\ntwo\n\"three\", four; five"],
        &[],
        &["Bob", "bob", ""],
        &["Cara", "cara@example.com", "", "surplus"],
        &["Dan", "dan@example.com", "'=1+1"],
    ];
    let job = import(&api, "", Workbook::of_texts(rows).file()).await;
    assert_eq!(counts(&job), [4, 2, 0, 2, 0]);
    let expected = [(4, "email".to_owned(), "invalid".to_owned()), (5, "file".to_owned(), "too_many_cells".to_owned())];
    assert_eq!(remarks(&api, &job).await, expected);
    let notes = api.read("/dev/crm/leads?sort=email").await;
    assert_eq!(each(&notes, "notes"), ["one\ntwo\n\"three\", four; five", "=1+1"]);
}

#[tokio::test]
async fn a_sheet_of_many_rows_is_split_into_chunks() {
    let (api, _worker) = start().await;
    let rows: Vec<[String; 3]> = (0..30_000)
        .map(|n| [format!("somebody{n}@example.com"), "Somebody".to_owned(), format!("Note\n{n}")])
        .collect();
    let mut file = std::io::Cursor::new(Vec::new());
    let header = vec!["email".to_owned(), "name".to_owned(), "notes".to_owned()];
    let table = || std::iter::once(header.clone()).chain(rows.iter().map(|row| row.to_vec()));
    testing::workbook::write_table(&mut file, table).unwrap();
    let job = import(&api, "", file.into_inner()).await;
    assert_eq!(counts(&job), [30_000, 30_000, 0, 0, 0]);
    let last = api.read("/dev/crm/leads?email=somebody29999@example.com").await;
    assert_eq!(last[0]["notes"], "Note\n29999");
}

#[tokio::test]
async fn hostile_workbooks_are_refused() {
    let api = Api::start().await;
    let table = texts(&[&["name", "email"], &["Ann", "ann@example.com"]]);
    let book = Workbook::new().sheet("Leads", &table);
    let mut cut = book.file();
    cut.truncate(cut.len() / 2);
    let mut broken = book.file();
    let middle = broken.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap() - 20;
    broken[middle] ^= 0xff;
    let entities =
        "<!DOCTYPE a [<!ENTITY b \"bb\">]><worksheet><sheetData><row><c><v>&b;</v></c></row></sheetData></worksheet>";
    let sheet = "xl/worksheets/sheet1.xml";
    for (what, file) in [
        ("is cut off", cut),
        ("has a damaged part", broken),
        ("has no sheet", book.clone().without(sheet).file()),
        ("has no list of parts", book.clone().part("xl/_rels/workbook.xml.rels", "").file()),
        ("defines entities", book.clone().part(sheet, entities).file()),
        ("is nested deeply", book.clone().part(sheet, "<a>".repeat(100_000)).file()),
        ("has a huge text", book.clone().part(sheet, format!("<a>{}</a>", "x".repeat(5 << 20))).file()),
        ("has a row beyond the last one", Workbook::new().sheet("Leads", r#"<row r="1048577"/>"#).file()),
        ("refers to a missing string", Workbook::new().sheet("Leads", r#"<row><c t="s"><v>7</v></c></row>"#).file()),
    ] {
        let faults = refused(&api, "", file).await;
        assert_eq!(faults[0]["field"], "file", "a workbook that {what}: {faults:?}");
        assert!(["malformed", "empty"].contains(&faults[0]["code"].as_str().unwrap()), "{what}: {faults:?}");
    }
}

#[tokio::test]
async fn numbers_of_a_workbook_about_itself_decide_nothing() {
    let (api, _worker) = start().await;
    let rows = r#"<row r="1"><c r="A1" t="s"><v>0</v></c><c r="XFD1" t="inlineStr"><is><t>name</t></is></c></row>
        <row r="9"><c r="A9" t="s"><v>1</v></c></row>"#;
    let sheet = format!("<worksheet><dimension ref=\"A1:XFD1048576\"/><sheetData>{rows}</sheetData></worksheet>");
    let strings = "<sst count=\"4294967295\" uniqueCount=\"4294967295\"><si><t>email</t></si><si><t>ann@example.com</t></si></sst>";
    let book = Workbook::new().sheet("Leads", "").part("xl/sharedStrings.xml", strings);
    let header = sheet.split("<row r=\"9").next().unwrap().to_owned() + "</sheetData></worksheet>";
    let far = book.clone().part("xl/worksheets/sheet1.xml", header).file();
    assert_eq!(refused(&api, "", far).await[0]["code"], "too_many_columns");
    let near = book.part("xl/worksheets/sheet1.xml", sheet.replace("XFD1\" t", "B1\" t")).file();
    assert_eq!(counts(&import(&api, "", near).await), [1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_workbook_that_unpacks_to_more_than_its_limit_is_refused() {
    let api = Api::start_with(|settings| settings.imports.max_bytes = 8 << 20).await;
    // A text of 20 KiB in each of 10,000 rows, by reference.
    let rows: String = (0..10_000).map(|_| r#"<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>"#).collect();
    let long = format!("<t>{}</t>", "x".repeat(20 << 10));
    let header = texts(&[&["email", "notes"]]);
    let file = Workbook::new().sheet("Leads", &(header + &rows)).strings(&["<t>ann@example.com</t>", &long]).file();
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(file));
    crate::support::json(api.post("/dev/crm/leads/import").multipart(form), 413).await;
}
