use super::*;
use crate::crm::customers::Customer;
use crate::crm::feedback::Feedback;
use crate::crm::interactions::CustomerInteraction;
use crate::crm::leads::Lead;
use crate::crm::orders::{Order, OrderStatus};
use crate::crm::suppressions::Suppression;
use crate::imports::dictionary::DO_NOT_CONTACT;
use crate::mail::suppressions::Reason;
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
        let File {
            language,
            headers,
            flags,
            sources,
            statuses,
            types,
            customer_statuses,
            order_headers,
            order_statuses,
            interaction_headers,
            interaction_types,
            feedback_headers,
            suppression_headers,
            suppression_reasons,
            values,
            ..
        } = toml::from_str(text).unwrap();
        let flags = flags.into_iter().map(|(flag, words)| (flag.as_str().to_owned(), words));
        let tables: [(&str, Entries); 12] = [
            ("headers", headers.into_iter().chain(flags).collect()),
            ("sources", sources.into_iter().collect()),
            ("statuses", statuses.into_iter().collect()),
            ("types", types.into_iter().collect()),
            ("customer_statuses", customer_statuses.into_iter().collect()),
            ("order_headers", order_headers.into_iter().collect()),
            ("order_statuses", order_statuses.into_iter().collect()),
            ("interaction_headers", interaction_headers.into_iter().collect()),
            ("interaction_types", interaction_types.into_iter().collect()),
            ("feedback_headers", feedback_headers.into_iter().collect()),
            ("suppression_headers", suppression_headers.into_iter().collect()),
            ("suppression_reasons", suppression_reasons.into_iter().collect()),
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
    let of = |columns: &[&'static str]| -> Vec<&str> { [columns, &["person_email", "person_id"]].concat() };
    let (of_orders, of_interactions) = (of(Order::COLUMNS), of(CustomerInteraction::COLUMNS));
    let of_feedback = of(Feedback::COLUMNS);
    const TYPES_OF_INTERACTIONS: &[&str] = &["call", "email", "meeting", "note", "support", "purchase", "other"];
    for text in FILES {
        let File {
            language,
            headers,
            sources,
            statuses,
            types,
            customer_statuses,
            order_headers,
            order_statuses,
            interaction_headers,
            interaction_types,
            feedback_headers,
            suppression_headers,
            suppression_reasons,
            ..
        } = toml::from_str(text).unwrap();
        let tables = [
            (headers, fields.as_slice()),
            (sources, SOURCES),
            (statuses, STATUSES),
            (types, TYPES),
            (customer_statuses, CUSTOMER_STATUSES),
            (order_headers, &of_orders),
            (order_statuses, OrderStatus::WORDS),
            (interaction_headers, &of_interactions),
            (interaction_types, TYPES_OF_INTERACTIONS),
            (feedback_headers, &of_feedback),
            (suppression_headers, Suppression::COLUMNS),
            (suppression_reasons, Reason::WORDS),
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
