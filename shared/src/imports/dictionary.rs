//! The words of other systems and languages for fields and their values: the files in `config/import/`.
//!
//! Words are compared by their [normal form](normal). A header or a value may mean different things in
//! different languages; the language of most of a file's headers decides then.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::string_enum;
use crate::values::fold::fold;

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
        /// Yes, or a date, means that the order was cancelled.
        Cancelled = "cancelled",
        /// Yes means that the record was deleted.
        Deleted = "deleted",
    }
}

/// The kinds of records whose files have headers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// Leads and customers.
    People,
    /// Orders.
    Orders,
    /// Interactions with leads and customers.
    Interactions,
    /// Feedback.
    Feedback,
    /// Suppressions.
    Suppressions,
}

impl Headers {
    /// All of them.
    const ALL: [Self; 5] = [Self::People, Self::Orders, Self::Interactions, Self::Feedback, Self::Suppressions];
    /// How much worse a header of people is than one of the kind's own.
    const SHARED_RANK: usize = 100;
    /// The headers of people that mean the same for records that belong to a person.
    const SHARED: [&str; 4] = ["created_at", "notes", "billing_address", "shipping_address"];

    /// What a header of people means in files of this kind: their addresses and ids are those of the person that a
    /// record belongs to.
    fn meaning(self, of_people: &Meaning) -> Option<Meaning> {
        match of_people {
            _ if self == Self::People => Some(of_people.clone()),
            Meaning::Field(field) if self == Self::Suppressions => {
                matches!(field.as_str(), "email" | "created_at").then(|| of_people.clone())
            }
            _ if self == Self::Suppressions => None,
            Meaning::Field(field) if field == "email" => Some(Meaning::PersonEmail),
            Meaning::Field(field) if field == "external_id" => Some(Meaning::PersonId),
            Meaning::Field(field) if Self::SHARED.contains(&field.as_str()) => Some(of_people.clone()),
            Meaning::Flag(_) => Some(of_people.clone()),
            _ => None,
        }
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
    /// The address of the person that the record belongs to.
    PersonEmail,
    /// The id of the person that the record belongs to, ours or that of another system.
    PersonId,
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
    /// The statuses of orders.
    OrderStatuses,
    /// The types of interactions with leads and customers.
    InteractionTypes,
    /// The reasons of suppressions.
    SuppressionReasons,
}

/// The status of leads that are lost and get no email.
pub const DO_NOT_CONTACT: &str = "do_not_contact";

/// Headers with which a column means something else than its header says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The headers of the system's file.
    pub has: Vec<String>,
    /// The kind of records whose files these are, if it matters.
    #[serde(default)]
    pub kind: Option<Headers>,
    /// The headers that are no fields in such a file.
    #[serde(default)]
    pub custom: Vec<String>,
    /// The fields that headers of such a file mean.
    #[serde(default)]
    pub means: BTreeMap<String, String>,
    /// Values of fields that no column of such a file has.
    #[serde(default)]
    pub sets: BTreeMap<String, String>,
}

/// All words, by their normal form.
#[derive(Debug, Default)]
pub struct Dictionary {
    headers: HashMap<Headers, HashMap<String, Vec<HeaderEntry>>>,
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

impl Dictionary {
    /// The meanings of a header in its normal form, in files of a kind.
    pub fn header(&self, kind: Headers, normal: &str) -> &[HeaderEntry] {
        self.headers.get(&kind).and_then(|known| known.get(normal)).map_or(&[], Vec::as_slice)
    }

    /// Every header of a kind in its normal form, with its first meaning.
    pub fn headers(&self, kind: Headers) -> impl Iterator<Item = (&str, &Meaning)> {
        let known = self.headers.get(&kind).into_iter().flatten();
        known.filter_map(|(header, entries)| Some((header.as_str(), &entries.first()?.meaning)))
    }

    /// The flags that a header in its normal form means.
    pub fn flags(&self, normal: &str) -> impl Iterator<Item = Flag> {
        self.header(Headers::People, normal).iter().filter_map(|entry| match entry.meaning {
            Meaning::Flag(flag) => Some(flag),
            _ => None,
        })
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

    /// What headers mean in a file of a kind with these headers, in their normal form, besides what they mean
    /// elsewhere: a field, or nothing.
    pub fn signed(&self, kind: Headers, headers: &HashSet<String>) -> HashMap<String, Option<&str>> {
        let mut signed = HashMap::new();
        for signature in self.signatures(kind, headers) {
            signed.extend(signature.custom.iter().map(|header| (normal(header), None)));
            signed.extend(signature.means.iter().map(|(header, field)| (normal(header), Some(field.as_str()))));
        }
        signed
    }

    /// Values of fields in every row of a file of a kind with these headers, in their normal form.
    pub fn implied(&self, kind: Headers, headers: &HashSet<String>) -> impl Iterator<Item = (&String, &String)> {
        self.signatures(kind, headers).flat_map(|signature| &signature.sets)
    }

    fn signatures(&self, kind: Headers, headers: &HashSet<String>) -> impl Iterator<Item = &Signature> {
        let is_of = move |signature: &&Signature| {
            signature.kind.is_none_or(|of| of == kind)
                && signature.has.iter().all(|header| headers.contains(&normal(header)))
        };
        self.signatures.iter().filter(is_of)
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
