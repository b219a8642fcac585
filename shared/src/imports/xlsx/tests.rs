use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::imports::spool;

const MAIN: &str = r#"<workbook><sheets><sheet name="One" r:id="a"/></sheets></workbook>"#;
const RELATIONS: &str = r#"<Relationships><Relationship Id="a" Type="x/worksheet" Target="sheet.xml"/><Relationship Id="b" Type="x/sharedStrings" Target="strings.xml"/><Relationship Id="c" Type="x/styles" Target="styles.xml"/></Relationships>"#;
const STRINGS: &str = "<sst uniqueCount=\"2\"><si><t>name</t></si><si><r><t>em</t></r><r><t>ail</t></r></si></sst>";
const STYLES: &str = r#"<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>"#;
const SHEET: &str = r#"<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row><row r="3"><c r="A3" s="1"><v>45306.5</v></c><c r="C3" t="b"><v>1</v></c></row></sheetData></worksheet>"#;

fn archive(parts: [&[u8]; 5]) -> Vec<u8> {
    let names = ["xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/strings.xml", "xl/styles.xml", "xl/sheet.xml"];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (name, content) in names.into_iter().zip(parts).chain([("[Content_Types].xml", b"".as_slice())]) {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn parts() -> [&'static [u8]; 5] {
    [MAIN, RELATIONS, STRINGS, STYLES, SHEET].map(str::as_bytes)
}

/// The text of the rows of a file.
fn rows(file: &[u8]) -> Result<Vec<u8>> {
    let mut spooled = spool::create("").unwrap();
    spooled.write_all(file).unwrap();
    let mut text = Vec::new();
    read(spooled, None, "", &mut |piece| {
        if let Piece::Text(piece) = piece {
            text.extend(piece);
        }
        true
    })?;
    Ok(text)
}

/// Rows, or a fault of the file.
fn is_rows_or_fault(read: Result<Vec<u8>>) -> bool {
    matches!(read, Ok(_) | Err(Error::Invalid(_)))
}

#[test]
fn rows_are_packed_records_on_their_lines() {
    assert_eq!(rows(&archive(parts())).unwrap(), b"name\xf5email\n\n2024-01-15T12:00:00\xf5\xf5true\n");
}

#[test]
fn the_end_of_an_archive_that_lies_reserves_nothing() {
    let mut file = archive(parts());
    let end = file.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").unwrap();
    // The size and the place of the directory.
    for bytes in [[0xff, 0xff, 0xff, 0x7f], [0xff; 4], [0, 0, 0, 1]] {
        file[end + 12..end + 16].copy_from_slice(&bytes);
        assert!(matches!(rows(&file), Err(Error::Invalid(_))));
    }
}

proptest! {
    #[test]
    fn any_change_of_a_file_gives_rows_or_a_fault(changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..8)) {
        let mut file = archive(parts());
        for (place, byte) in changes {
            let at = (place * file.len() as f64) as usize;
            file[at] = byte;
        }
        prop_assert!(is_rows_or_fault(rows(&file)));
    }

    #[test]
    fn any_change_of_a_part_gives_rows_or_a_fault(
        part in 0..5_usize,
        changes in prop::collection::vec((0.0..1.0_f64, "[<>/\"=a-z0-9& ]{0,3}"), 1..6),
    ) {
        let mut changed = String::from_utf8(parts()[part].to_vec()).unwrap();
        for (place, text) in changes {
            let at = (place * changed.len() as f64) as usize;
            changed.replace_range(at..(at + text.len()).min(changed.len()), &text);
        }
        let mut all = parts();
        all[part] = changed.as_bytes();
        prop_assert!(is_rows_or_fault(rows(&archive(all))));
    }

    #[test]
    fn any_bytes_give_a_fault(file in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(is_rows_or_fault(rows(&file)));
    }
}
