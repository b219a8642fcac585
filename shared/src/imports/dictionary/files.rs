//! The files of the words.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::{Dictionary, Flag, HeaderEntry, Headers, Language, Meaning, Signature, Table, normal};

/// The files, in the order in which they count when a file's language does not decide.
const FILES: &[&str] = &[
    include_str!("../../../../config/import/systems.toml"),
    include_str!("../../../../config/import/en.toml"),
    include_str!("../../../../config/import/de.toml"),
    include_str!("../../../../config/import/fr.toml"),
    include_str!("../../../../config/import/es.toml"),
    include_str!("../../../../config/import/pt.toml"),
    include_str!("../../../../config/import/it.toml"),
    include_str!("../../../../config/import/nl.toml"),
    include_str!("../../../../config/import/pl.toml"),
    include_str!("../../../../config/import/cs.toml"),
    include_str!("../../../../config/import/sv.toml"),
    include_str!("../../../../config/import/da.toml"),
    include_str!("../../../../config/import/no.toml"),
    include_str!("../../../../config/import/fi.toml"),
    include_str!("../../../../config/import/tr.toml"),
    include_str!("../../../../config/import/ru.toml"),
    include_str!("../../../../config/import/uk.toml"),
    include_str!("../../../../config/import/ja.toml"),
    include_str!("../../../../config/import/ko.toml"),
    include_str!("../../../../config/import/zh-Hans.toml"),
    include_str!("../../../../config/import/zh-Hant.toml"),
];

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
    order_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    order_statuses: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    interaction_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    interaction_types: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    feedback_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    suppression_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    suppression_reasons: BTreeMap<String, Vec<String>>,
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
    pub(super) fn shipped() -> Self {
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
        // Words of a kind's own win over those of people.
        self.add_headers(Headers::Orders, language, file.order_headers);
        self.add_headers(Headers::Interactions, language, file.interaction_headers);
        self.add_headers(Headers::Feedback, language, file.feedback_headers);
        self.add_headers(Headers::Suppressions, language, file.suppression_headers);
        let own: HashMap<Headers, HashSet<String>> = Headers::ALL.map(|kind| (kind, self.forms(kind, language))).into();
        let meanings = file.headers.into_iter().map(|(key, words)| (self.meaning(key), words));
        let flags = file.flags.into_iter().map(|(flag, words)| (Meaning::Flag(flag), words));
        for (meaning, words) in meanings.collect::<Vec<_>>().into_iter().chain(flags) {
            for kind in Headers::ALL {
                let Some(meaning) = kind.meaning(&meaning) else { continue };
                let worse = if kind == Headers::People { 0 } else { Headers::SHARED_RANK };
                for (rank, form) in words.iter().map(|word| normal(word)).enumerate() {
                    if !own[&kind].contains(&form) {
                        self.add_header(
                            kind,
                            form,
                            HeaderEntry { language, meaning: meaning.clone(), rank: worse + rank },
                        );
                    }
                }
            }
        }
        let tables = [
            (Table::Sources, file.sources),
            (Table::Statuses, file.statuses),
            (Table::Types, file.types),
            (Table::CustomerStatuses, file.customer_statuses),
            (Table::OrderStatuses, file.order_statuses),
            (Table::InteractionTypes, file.interaction_types),
            (Table::SuppressionReasons, file.suppression_reasons),
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

    /// The meaning of a key of a table of headers.
    fn meaning(&mut self, key: String) -> Meaning {
        match key.as_str() {
            "last_name_or_name" => Meaning::LastNameOrName,
            "first_name_or_name" => Meaning::FirstNameOrName,
            "person_email" => Meaning::PersonEmail,
            "person_id" => Meaning::PersonId,
            _ => {
                self.fields.insert(key.clone());
                Meaning::Field(key)
            }
        }
    }

    fn add_headers(&mut self, kind: Headers, language: Language, headers: BTreeMap<String, Vec<String>>) {
        for (key, words) in headers {
            let meaning = self.meaning(key);
            for (rank, word) in words.iter().enumerate() {
                self.add_header(kind, normal(word), HeaderEntry { language, meaning: meaning.clone(), rank });
            }
        }
    }

    fn add_header(&mut self, kind: Headers, form: String, entry: HeaderEntry) {
        self.headers.entry(kind).or_default().entry(form).or_default().push(entry);
    }

    /// The headers of a kind in a language, in their normal form.
    fn forms(&self, kind: Headers, language: Language) -> HashSet<String> {
        let known = self.headers.get(&kind).into_iter().flatten();
        let is_of = |entries: &[HeaderEntry]| entries.iter().any(|entry| entry.language == language);
        known.filter(|(_, entries)| is_of(entries)).map(|(form, _)| form.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
