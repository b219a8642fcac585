//! Decoding, splitting and parsing of files, without a database: any bytes yield rows and rejected
//! rows or an error for the file, and imports read what exports write.
#![expect(clippy::unwrap_used, reason = "a record that cannot be made up has failed the test")]

use proptest::prelude::*;
use shared::crm::leads::{Lead, LeadChanges};
use shared::imports::Options;
use shared::imports::rows::{Rows, read_file, split_file};
use shared::records::Fields;
use shared::records::csv::{CsvRows, Layout};
use shared::values::Field;
use shared::values::patch::Patch;
use shared::{Error, Result};
use uuid::Uuid;

fn read(file: &[u8], piece: usize) -> Result<(Vec<Rows<LeadChanges>>, u64)> {
    read_file::<Lead>(file, piece, &Options::parse(&[])?)
}

/// A cell as people, spreadsheets and other programs write it.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[ -~]{0,12}", "[\\PC\n\r\t]{0,12}", "['=+@-]{1,3}[a-z0-9]{0,5}"]
}

/// A value that the field accepts.
fn field<T: Field + std::fmt::Debug>() -> impl Strategy<Value = Option<T>> {
    proptest::option::of(cell().prop_filter_map("not a value of the field", |text| T::from_text(text.trim()).ok()))
}

prop_compose! {
    fn lead()(
        id in any::<u128>(), n in any::<u32>(), name in "[A-Za-zÀ-ž'=@+-]{1,20}", phone in field(), company in field(), notes in field(),
        score in 0..=1000_u32, seconds in 0..4_000_000_000_i64, micros in 0..1_000_000_i64, key in "[a-z =]{1,9}", custom in cell(),
    ) -> Lead {
        let time = chrono::DateTime::from_timestamp_micros(seconds * 1_000_000 + micros).unwrap();
        let mut changes = LeadChanges {
            name: Patch::Set(Field::from_text(name.trim()).unwrap()),
            email: Some(Field::from_text(&format!("lead{n}@example.com")).unwrap()),
            score: Patch::Set(Field::from_text(&format!("{}", f64::from(score) / 10.0)).unwrap()),
            custom_fields: Patch::Set(Field::from_json(serde_json::json!({ key: custom.replace('\0', ""), "n": [n] })).unwrap()),
            ..LeadChanges::default()
        };
        changes.phone = phone.map_or(Patch::Keep, Patch::Set);
        changes.company = company.map_or(Patch::Keep, Patch::Set);
        changes.notes = notes.map_or(Patch::Keep, Patch::Set);
        Lead::new(Uuid::from_u128(id), time, changes).unwrap()
    }
}

proptest! {
    #[test]
    fn any_bytes_are_rows_and_rejections_or_a_file_error(file in prop::collection::vec(any::<u8>(), 0..400), piece in 1..100_usize) {
        check(&file, piece)?;
    }

    #[test]
    fn anything_after_a_json_object_is_rows_and_rejections(
        body in "([\\[\\]{}:,\"a1@.\\\\ \n\u{0}é]|\"name\":){0,80}", piece in 1..100_usize,
    ) {
        check(format!("{{\"email\":\"a@example.com\"}}\n{body}").as_bytes(), piece)?;
    }

    #[test]
    fn anything_after_a_header_is_rows_and_rejections(body in "[ab@.,\"\r\n;é\u{0}]{0,300}", piece in 1..100_usize) {
        check(format!("name,email\n{body}").as_bytes(), piece)?;
    }

    #[test]
    fn imports_read_exported_records_unchanged(leads in prop::collection::vec(lead(), 0..8), piece in 1..500_usize) {
        let (mut csv, layout) = (CsvRows::with_capacity(0), Layout::new::<Lead>(None, Vec::new()));
        layout.write_header(&mut csv);
        leads.iter().for_each(|lead| layout.write(&mut csv, lead));
        let (read, records) = read(&csv.into_bytes().unwrap(), piece).unwrap();
        prop_assert_eq!(records, leads.len() as u64);
        let reports: Vec<_> = read.iter().flat_map(|rows| &rows.reports).collect();
        prop_assert!(reports.is_empty(), "{reports:?}");
        let again: Vec<Lead> = read
            .into_iter()
            .flat_map(|rows| rows.rows)
            .map(|row| {
                let mut lead = Lead::new(row.given.id.unwrap(), row.given.created_at.unwrap(), row.changes).unwrap();
                lead.touch(row.given.updated_at.unwrap());
                lead
            })
            .collect();
        prop_assert_eq!(again, leads);
    }
}

/// Every record is an accepted or a rejected row, each on a line of its own, or the file as a whole
/// is rejected.
fn check(file: &[u8], piece: usize) -> Result<(), TestCaseError> {
    match read(file, piece) {
        Ok((read, records)) => {
            let mut lines: Vec<u64> = Vec::new();
            for rows in &read {
                lines.extend(rows.rows.iter().map(|row| row.line).chain(rows.reports.iter().map(|report| report.line)));
            }
            prop_assert_eq!(lines.len() as u64, records);
            lines.sort_unstable();
            lines.dedup();
            prop_assert_eq!(lines.len() as u64, records);
        }
        Err(error) => prop_assert!(matches!(error, Error::Invalid(_)), "{error}"),
    }
    Ok(())
}

/// Every word of two and three of the letters, and some that leave a quote open on each line.
fn hostile_words() -> Vec<Vec<u8>> {
    const LETTERS: [&[u8]; 5] = [b"\"", b",", b"\n", b"a", b"\xff"];
    let longer = |words: &[Vec<u8>]| -> Vec<Vec<u8>> {
        words.iter().flat_map(|word| LETTERS.map(|letter| [word.as_slice(), letter].concat())).collect()
    };
    let two = longer(&longer(&[Vec::new()]));
    let three = longer(&two);
    let open: [&[u8]; 6] = [b"a\",\"\n", b"a\",\"\r\n", b"a\",\"\r", b",\"\"\"\n", b"a\",\"\na,b\n", b"\xff\",\"\n\n"];
    two.into_iter().chain(three).chain(open.map(<[u8]>::to_vec)).collect()
}

fn hostile_file(word: &[u8], length: usize) -> Vec<u8> {
    let mut file = b"name,email\n".to_vec();
    file.extend(word.repeat(length / word.len()));
    file
}

#[test]
fn each_byte_of_a_file_is_read_at_most_four_times() {
    let options = Options::parse(&[]).unwrap();
    for word in hostile_words() {
        let file = hostile_file(&word, 1 << 20);
        let looks = split_file::<Lead>(&file, 65_536, &options).unwrap().looked as f64 / file.len() as f64;
        assert!(looks <= 4.0, "{:?} is looked at {looks} times", String::from_utf8_lossy(&word));
    }
}

#[test]
fn hostile_files_are_rows_and_rejections() {
    for word in hostile_words() {
        check(&hostile_file(&word, 4096), 1000).unwrap();
    }
}
