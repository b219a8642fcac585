//! Writes Excel workbooks, right and wrong ones.

use std::io::{Cursor, Seek, Write};

use anyhow::Result;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const CONTENT_TYPES: &str = r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>"#;
const ROOT: &str = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
const KIND: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const SHEET_BEGIN: &str = r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#;
const SHEET_END: &str = "</sheetData></worksheet>";

/// A workbook in parts, each of which a test may replace.
#[derive(Debug, Clone, Default)]
pub struct Workbook {
    sheets: Vec<String>,
    properties: String,
    parts: Vec<(String, Vec<u8>)>,
}

impl Workbook {
    /// A workbook without sheets.
    pub fn new() -> Self {
        Self::default().part("[Content_Types].xml", CONTENT_TYPES).part("_rels/.rels", ROOT)
    }

    /// A workbook with one sheet of texts, each in its cell.
    pub fn of_texts(rows: &[&[&str]]) -> Self {
        Self::new().sheet("Sheet1", &texts(rows))
    }

    /// Adds a sheet whose rows are this XML.
    #[must_use]
    pub fn sheet(mut self, name: &str, rows: &str) -> Self {
        self.sheets.push(name.to_owned());
        let part = format!("xl/worksheets/sheet{}.xml", self.sheets.len());
        self.part(&part, format!("{SHEET_BEGIN}{rows}{SHEET_END}"))
    }

    /// Adds the shared strings, each the XML in an element `si`.
    #[must_use]
    pub fn strings(self, strings: &[&str]) -> Self {
        let items: String = strings.iter().map(|string| format!("<si>{string}</si>")).collect();
        self.part(
            "xl/sharedStrings.xml",
            format!("<sst count=\"{0}\" uniqueCount=\"{0}\">{items}</sst>", strings.len()),
        )
    }

    /// Adds styles of cells with these codes of number formats, numbered from 0.
    #[must_use]
    pub fn formats(self, codes: &[&str]) -> Self {
        let numbered = || codes.iter().enumerate().map(|(at, code)| (164 + at, code));
        let formats: String =
            numbered().map(|(id, code)| format!(r#"<numFmt numFmtId="{id}" formatCode="{code}"/>"#)).collect();
        let styles: String = numbered().map(|(id, _)| format!(r#"<xf numFmtId="{id}"/>"#)).collect();
        let xml = format!("<styleSheet><numFmts>{formats}</numFmts><cellXfs>{styles}</cellXfs></styleSheet>");
        self.part("xl/styles.xml", xml)
    }

    /// Counts days from 1904.
    #[must_use]
    pub fn since_1904(mut self) -> Self {
        self.properties = r#"<workbookPr date1904="1"/>"#.to_owned();
        self
    }

    /// Adds or replaces a part.
    #[must_use]
    pub fn part(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.parts.retain(|(present, _)| present != name);
        self.parts.push((name.to_owned(), content.into()));
        self
    }

    /// Removes a part.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.parts.retain(|(present, _)| present != name);
        self
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        let names = self.sheets.iter().enumerate();
        let sheets: String =
            names.map(|(at, name)| format!(r#"<sheet name="{name}" sheetId="{0}" r:id="rId{0}"/>"#, at + 1)).collect();
        let workbook = format!("<workbook>{}<sheets>{sheets}</sheets></workbook>", self.properties);
        let target = |id: &str, kind: &str, target: &str| {
            format!(r#"<Relationship Id="{id}" Type="{KIND}/{kind}" Target="{target}"/>"#)
        };
        let mut relations: String = (1..=self.sheets.len())
            .map(|n| target(&format!("rId{n}"), "worksheet", &format!("worksheets/sheet{n}.xml")))
            .collect();
        relations += &target("strings", "sharedStrings", "/xl/sharedStrings.xml");
        relations += &target("styles", "styles", "styles.xml");
        let relations = format!("<Relationships>{relations}</Relationships>");
        let own = [("xl/workbook.xml", workbook), ("xl/_rels/workbook.xml.rels", relations)];
        let own = own.into_iter().filter(|(name, _)| self.parts.iter().all(|(present, _)| present != name));
        let own: Vec<_> = own.map(|(name, xml)| (name.to_owned(), xml.into_bytes())).collect();
        archive(self.parts.iter().chain(&own))
    }
}

/// A ZIP archive with these files.
pub fn archive<'f>(files: impl IntoIterator<Item = &'f (String, Vec<u8>)>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(name, options()).expect("a file can begin");
        zip.write_all(content).expect("a file can be written");
    }
    zip.finish().expect("an archive can end").into_inner()
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true)
}

/// Rows of texts as XML, each text in its cell.
pub fn texts(rows: &[&[&str]]) -> String {
    let cell = |text: &&str| format!(r#"<c t="inlineStr"><is><t>{}</t></is></c>"#, escaped(text));
    rows.iter().map(|row| format!("<row>{}</row>", row.iter().map(cell).collect::<String>())).collect()
}

/// Writes a large workbook of shared strings, as Excel does. `rows` is read twice.
///
/// # Errors
/// If the file cannot be written.
pub fn write_table<R: Iterator<Item = Vec<String>>>(file: impl Write + Seek, rows: impl Fn() -> R) -> Result<()> {
    let book = Workbook::new().sheet("Sheet1", "").without("xl/worksheets/sheet1.xml");
    let small = book.file();
    let mut zip = ZipWriter::new(file);
    let mut parts = zip::ZipArchive::new(Cursor::new(small))?;
    for at in 0..parts.len() {
        zip.raw_copy_file(parts.by_index(at)?)?;
    }
    zip.start_file("xl/sharedStrings.xml", options())?;
    write!(zip, "<sst>")?;
    for text in rows().flatten() {
        write!(zip, "<si><t>{}</t></si>", escaped(&text))?;
    }
    write!(zip, "</sst>")?;
    zip.start_file("xl/worksheets/sheet1.xml", options())?;
    write!(zip, "{SHEET_BEGIN}")?;
    let mut number = 0;
    for (at, row) in rows().enumerate() {
        write!(zip, r#"<row r="{}">"#, at + 1)?;
        for column in 0..row.len() {
            let letter = char::from(b'A' + column as u8);
            write!(zip, r#"<c r="{letter}{}" t="s"><v>{number}</v></c>"#, at + 1)?;
            number += 1;
        }
        write!(zip, "</row>")?;
    }
    write!(zip, "{SHEET_END}")?;
    zip.finish()?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
