//! The formats of files.

use crate::string_enum;

string_enum! {
    /// The format of a file.
    Format {
        /// Cells with delimiters (CSV), in any encoding.
        Csv = "csv",
        /// A JSON object on each line (JSON Lines).
        Jsonl = "jsonl",
        /// A sheet of an Excel workbook.
        Xlsx = "xlsx",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro has no attribute for the default variant")]
impl Default for Format {
    fn default() -> Self {
        Self::Csv
    }
}

impl Format {
    /// Whether records arrive [packed](super::packed).
    pub fn is_packed(self) -> bool {
        self != Self::Csv
    }
}
