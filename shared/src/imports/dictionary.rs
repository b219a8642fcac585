//! The words of other systems and languages for fields and their values: the files in `config/import/`.
//!
//! Words are compared by their [normal form](normal). A header or a value may mean different things in
//! different languages; the language of most of a file's headers decides then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::string_enum;
use crate::values::fold::fold;

/// The files, in the order in which they count when a file's language does not decide.
const FILES: &[&str] = &[
    include_str!("../../../config/import/systems.toml"),
    include_str!("../../../config/import/en.toml"),
    include_str!("../../../config/import/de.toml"),
    include_str!("../../../config/import/fr.toml"),
    include_str!("../../../config/import/es.toml"),
    include_str!("../../../config/import/pt.toml"),
    include_str!("../../../config/import/it.toml"),
    include_str!("../../../config/import/nl.toml"),
    include_str!("../../../config/import/pl.toml"),
    include_str!("../../../config/import/cs.toml"),
    include_str!("../../../config/import/sv.toml"),
    include_str!("../../../config/import/da.toml"),
    include_str!("../../../config/import/no.toml"),
    include_str!("../../../config/import/fi.toml"),
    include_str!("../../../config/import/tr.toml"),
    include_str!("../../../config/import/ru.toml"),
    include_str!("../../../config/import/uk.toml"),
    include_str!("../../../config/import/ja.toml"),
    include_str!("../../../config/import/ko.toml"),
    include_str!("../../../config/import/zh-Hans.toml"),
    include_str!("../../../config/import/zh-Hant.toml"),
];

/// The number of a language's file in [`FILES`].
pub type Language = usize;

string_enum! {
    /// A column whose cells decide about the person instead of setting a field.
    Flag {
        /// Yes means that the person gets no email.
        OptedOut = "opted_out",
        /// No means that the person gets no email.
        Consent = "consent",
        /// Some words mean that the person gets no email.
        MarketingStatus = "marketing_status",
        /// Any text means that emails to the address bounce.
        Bounced = "bounced",
        /// Yes means that the lead was converted.
        Converted = "converted",
        /// Yes means that the record was deleted.
        Deleted = "deleted",
    }
}

/// What a header means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// This field.
    Field(String),
    /// The last name in a file with first names, else the name.
    LastNameOrName,
    /// The first name in a file with last names, else the name.
    FirstNameOrName,
    /// No field, but a decision about the person.
    Flag(Flag),
}

/// A meaning of a header in one language.
#[derive(Debug, Clone)]
pub struct HeaderEntry {
    /// The language.
    pub language: Language,
    /// The meaning.
    pub meaning: Meaning,
    /// The place among the headers with this meaning; the first is the best.
    pub rank: usize,
}

/// A table of words for the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// The sources of leads.
    Sources,
    /// The statuses of leads.
    Statuses,
    /// The types of customers.
    Types,
    /// The statuses of customers.
    CustomerStatuses,
}

/// The status of leads that are lost and get no email.
pub const DO_NOT_CONTACT: &str = "do_not_contact";

/// Headers with which a column means something else than its header says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The headers of the system's file.
    pub has: Vec<String>,
    /// The headers that are no fields in such a file.
    pub custom: Vec<String>,
}

/// All words, by their normal form.
#[derive(Debug, Default)]
pub struct Dictionary {
    headers: HashMap<String, Vec<HeaderEntry>>,
    values: HashMap<Table, HashMap<String, Vec<(Language, String)>>>,
    yes: HashSet<String>,
    no: HashSet<String>,
    unsubscribed: HashSet<String>,
    subscribed: HashSet<String>,
    totals: HashSet<String>,
    /// The number of each month; `None` for a word that is different months in different languages.
    months: HashMap<String, Option<u32>>,
    signatures: Vec<Signature>,
    fields: HashSet<String>,
    names: Vec<String>,
}

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(Dictionary::shipped);

/// The words that the program is shipped with.
pub fn dictionary() -> &'static Dictionary {
    &DICTIONARY
}

/// The normal form of a header or value: without case, accents, width, spaces, punctuation and invisible
/// characters (`E-mail` → `email`).
pub fn normal(text: &str) -> String {
    fold(text).chars().filter(|c| c.is_alphanumeric()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    language: String,
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    flags: HashMap<Flag, Vec<String>>,
    #[serde(default)]
    sources: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    statuses: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    types: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    customer_statuses: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    values: Values,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Values {
    yes: Vec<String>,
    no: Vec<String>,
    unsubscribed: Vec<String>,
    subscribed: Vec<String>,
    totals: Vec<String>,
    months: Vec<Vec<String>>,
    owner_suffixes: Vec<String>,
}

impl Dictionary {
    /// A file that cannot be read has no words; a test reads them all.
    fn shipped() -> Self {
        let mut all = Self::default();
        for text in FILES {
            match toml::from_str(text) {
                Ok(file) => all.add(file),
                Err(error) => tracing::error!(%error, "a file of import aliases cannot be read"),
            }
        }
        let yes = ["true", "yes", "y", "1", "x", "on"];
        let no = ["false", "no", "n", "0", "off"];
        all.yes.extend(yes.map(str::to_owned));
        all.no.extend(no.map(str::to_owned));
        all
    }

    fn add(&mut self, file: File) {
        let language = self.names.len();
        self.names.push(file.language);
        for (key, words) in file.headers {
            let meaning = match key.as_str() {
                "last_name_or_name" => Meaning::LastNameOrName,
                "first_name_or_name" => Meaning::FirstNameOrName,
                _ => {
                    self.fields.insert(key.clone());
                    Meaning::Field(key)
                }
            };
            self.add_headers(language, &meaning, words);
        }
        for (flag, words) in file.flags {
            self.add_headers(language, &Meaning::Flag(flag), words);
        }
        let tables = [
            (Table::Sources, file.sources),
            (Table::Statuses, file.statuses),
            (Table::Types, file.types),
            (Table::CustomerStatuses, file.customer_statuses),
        ];
        for (table, values) in tables {
            let known = self.values.entry(table).or_default();
            for (value, words) in values {
                known.entry(normal(&value)).or_default().push((language, value.clone()));
                for word in words {
                    known.entry(normal(&word)).or_default().push((language, value.clone()));
                }
            }
        }
        let Values { yes, no, unsubscribed, subscribed, totals, months, owner_suffixes: _ } = file.values;
        let sets = [
            (&mut self.yes, yes),
            (&mut self.no, no),
            (&mut self.unsubscribed, unsubscribed),
            (&mut self.subscribed, subscribed),
            (&mut self.totals, totals),
        ];
        for (known, words) in sets {
            known.extend(words.iter().map(|word| normal(word)));
        }
        for (number, words) in (1..).zip(months) {
            for word in words {
                let month = self.months.entry(normal(&word)).or_insert(Some(number));
                *month = month.filter(|known| *known == number);
            }
        }
        self.signatures.extend(file.signatures);
    }

    fn add_headers(&mut self, language: Language, meaning: &Meaning, words: Vec<String>) {
        for (rank, word) in words.into_iter().enumerate() {
            let entries = self.headers.entry(normal(&word)).or_default();
            entries.push(HeaderEntry { language, meaning: meaning.clone(), rank });
        }
    }

    /// The meanings of a header in its normal form.
    pub fn header(&self, normal: &str) -> &[HeaderEntry] {
        self.headers.get(normal).map_or(&[], Vec::as_slice)
    }

    /// Every header in its normal form, with its first meaning.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Meaning)> {
        self.headers.iter().filter_map(|(header, entries)| Some((header.as_str(), &entries.first()?.meaning)))
    }

    /// The name of a language.
    pub fn name(&self, language: Language) -> &str {
        self.names.get(language).map_or("", String::as_str)
    }

    /// The language with a name.
    pub fn language(&self, name: &str) -> Option<Language> {
        self.names.iter().position(|known| known == name)
    }

    /// The number of languages.
    pub fn languages(&self) -> usize {
        self.names.len()
    }

    /// Whether other systems have columns for the field; its own name is then compared by its normal form.
    pub fn has_aliases(&self, field: &str) -> bool {
        self.fields.contains(field)
    }

    /// The headers that are no fields in a file with these headers, in their normal form.
    pub fn customs(&self, headers: &HashSet<String>) -> HashSet<String> {
        let is_of = |signature: &&Signature| signature.has.iter().all(|header| headers.contains(&normal(header)));
        self.signatures.iter().filter(is_of).flat_map(|signature| &signature.custom).map(|text| normal(text)).collect()
    }

    /// The value that a text means in files of a language. A number before it is ignored (`1 - New`).
    pub fn value(&self, table: Table, text: &str, language: Option<Language>) -> Option<&str> {
        let whole = normal(text);
        let bare = whole.trim_start_matches(|c: char| c.is_ascii_digit());
        let known = self.values.get(&table)?;
        let entries = known.get(&whole).or_else(|| known.get(bare).filter(|_| !bare.is_empty()))?;
        let first = &entries.first()?.1;
        if entries.iter().all(|(_, value)| value == first) {
            return Some(first);
        }
        let own = entries.iter().find(|(of, _)| Some(*of) == language);
        own.map(|(_, value)| value.as_str())
    }

    /// Whether a cell says yes or no, if it does.
    pub fn yes_or_no(&self, text: &str) -> Option<bool> {
        match text.trim() {
            "✓" | "✔" | "☑" | "✅" | "○" | "◯" | "●" => return Some(true),
            "×" | "✗" | "✘" | "☐" | "❌" | "✕" => return Some(false),
            "1.0" | "1,0" => return Some(true),
            "0.0" | "0,0" => return Some(false),
            _ => {}
        }
        let normal = normal(text);
        match (self.yes.contains(&normal), self.no.contains(&normal)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    /// Whether a marketing status lets emails through, if it is known.
    pub fn is_subscribed(&self, text: &str) -> Option<bool> {
        let normal = normal(text);
        if self.unsubscribed.contains(&normal) {
            return Some(false);
        }
        self.subscribed.contains(&normal).then_some(true)
    }

    /// Whether a row that begins with this cell has totals.
    pub fn is_total(&self, cell: &str) -> bool {
        let words = cell.split(|c: char| c.is_whitespace() || matches!(c, ':' | '(' | '-'));
        let first = words.map(normal).find(|word| !word.is_empty());
        self.totals.contains(&normal(cell)) || first.is_some_and(|word| self.totals.contains(&word))
    }

    /// The number of a month, from its name in its normal form.
    pub fn month(&self, name: &str) -> Option<u32> {
        self.months.get(name).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::customers::Customer;
    use crate::crm::leads::Lead;
    use crate::records::Fields;

    #[test]
    fn every_file_can_be_read() {
        for text in FILES {
            if let Err(error) = toml::from_str::<File>(text) {
                panic!("{error} in\n{}", text.lines().next().unwrap_or_default());
            }
        }
    }

    /// The words of each key.
    type Entries = Vec<(String, Vec<String>)>;

    /// The keys of a table must be those that the program knows, and a word must have one meaning.
    #[test]
    fn every_word_has_one_meaning_in_its_language() {
        let mut faults = Vec::new();
        for text in FILES {
            let File { language, headers, flags, sources, statuses, types, customer_statuses, values, .. } =
                toml::from_str(text).unwrap();
            let flags = flags.into_iter().map(|(flag, words)| (flag.as_str().to_owned(), words));
            let tables: [(&str, Entries); 5] = [
                ("headers", headers.into_iter().chain(flags).collect()),
                ("sources", sources.into_iter().collect()),
                ("statuses", statuses.into_iter().collect()),
                ("types", types.into_iter().collect()),
                ("customer_statuses", customer_statuses.into_iter().collect()),
            ];
            for (table, entries) in tables {
                let mut meanings: HashMap<String, String> = HashMap::new();
                for (key, words) in entries {
                    for word in words {
                        let form = normal(&word);
                        if form.is_empty() {
                            faults.push(format!("{language}: {table}.{key}: {word:?} has no letter"));
                        }
                        if let Some(other) = meanings.insert(form, key.clone()).filter(|other| *other != key) {
                            faults.push(format!("{language}: {table}: {word:?} is {other} and {key}"));
                        }
                    }
                }
            }
            if !matches!(values.months.len(), 0 | 12) {
                faults.push(format!("{language}: values.months has {} entries", values.months.len()));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn the_keys_of_every_file_are_known() {
        let fields: Vec<&str> = Lead::COLUMNS
            .iter()
            .chain(Customer::COLUMNS)
            .chain(&["last_name_or_name", "first_name_or_name", "other_emails"])
            .copied()
            .collect();
        const SOURCES: &[&str] = &["campaign", "website", "referral", "direct", "social", "email", "other"];
        const STATUSES: &[&str] =
            &["new", "contacted", "qualified", "proposal", "negotiation", "converted", "won", "lost", DO_NOT_CONTACT];
        const TYPES: &[&str] = &["individual", "business"];
        const CUSTOMER_STATUSES: &[&str] = &["active", "inactive", "blocked"];
        for text in FILES {
            let File { language, headers, sources, statuses, types, customer_statuses, .. } =
                toml::from_str(text).unwrap();
            let tables = [
                (headers, fields.as_slice()),
                (sources, SOURCES),
                (statuses, STATUSES),
                (types, TYPES),
                (customer_statuses, CUSTOMER_STATUSES),
            ];
            for (table, known) in tables {
                for key in table.keys() {
                    assert!(known.contains(&key.as_str()), "{language}: {key}");
                }
            }
        }
    }

    #[test]
    fn words_are_compared_without_case_accents_and_punctuation() {
        for (text, form) in [
            ("E-Mail", "email"),
            ("  Prénom\u{200b} ", "prenom"),
            ("Ｅｍａｉｌ", "email"),
            ("E_MAIL (privat)", "emailprivat"),
            ("№", "no"),
            ("メール アドレス", "メールアドレス"),
        ] {
            assert_eq!(normal(text), form, "{text}");
        }
    }
}
