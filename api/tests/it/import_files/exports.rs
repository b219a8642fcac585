//! Exports of eleven systems in nine languages: nearly every column that a person would map is mapped, and none to
//! a field that it does not mean.

use super::exports_of_crms::EXPORTS as CRMS;
use super::exports_of_shops::EXPORTS as SHOPS;
use super::*;

/// An export: its system and language, the list it is for, its delimiter, and its columns.
pub(super) struct Export {
    pub system: &'static str,
    pub language: &'static str,
    pub list: &'static str,
    pub delimiter: &'static str,
    pub columns: &'static [Column],
}

/// The header, the field that a person would map (none if empty), and the cells of two rows.
pub(super) type Column = (&'static str, &'static str, &'static str, &'static str);

impl Export {
    fn file(&self) -> String {
        let row = |cell: fn(&Column) -> &'static str| {
            let cells = self.columns.iter().map(|column| format!("\"{}\"", cell(column).replace('"', "\"\"")));
            cells.collect::<Vec<_>>().join(self.delimiter) + "\r\n"
        };
        [row(|column| column.0), row(|column| column.2), row(|column| column.3)].concat()
    }
}

#[tokio::test]
async fn columns_of_twenty_exports_are_mapped_as_a_person_would() {
    let (api, _worker) = start().await;
    let (mut wanted, mut missed, mut wrong) = (0, Vec::new(), Vec::new());
    for export in CRMS.iter().chain(SHOPS) {
        let job = import(&api, export.list, "dry_run=true", export.file()).await;
        assert_eq!(count(&job, "rows"), 2, "{} in {}: {job}", export.system, export.language);
        for (header, field, ..) in export.columns {
            let place = format!("{header:?} of {} in {}", export.system, export.language);
            let mapped = mapping(&job)[header].as_str().unwrap_or_default();
            let is_kept = mapped == format!("custom_fields.{header}");
            wanted += usize::from(!field.is_empty());
            match (mapped == *field, is_kept, field.is_empty()) {
                (true, ..) | (_, true, true) => {}
                (_, true, false) => missed.push(place),
                _ => wrong.push(format!("{place} is {mapped}, not {field:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(missed.len() * 20 <= wanted, "{} of {wanted}: {missed:#?}", missed.len());
}

/// The same exports, for good: nobody is lost.
#[tokio::test]
async fn the_people_of_twenty_exports_are_imported() {
    let (mut api, _worker) = start().await;
    for (n, export) in CRMS.iter().chain(SHOPS).enumerate() {
        api = api.on(&format!("workspace-{n}")).await;
        let job = import(&api, export.list, "", export.file()).await;
        let counts = ["created", "failed", "warnings"].map(|name| count(&job, name));
        assert_eq!(counts, [2, 0, 0], "{} in {}: {job}", export.system, export.language);
    }
}
