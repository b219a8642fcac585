//! The field that a header probably means, for the message about a file that cannot be read.

use super::Importable;
use super::dictionary::{Meaning, dictionary, normal};
use super::parents;

/// The field with a header that differs from this one in at most a third of its characters.
pub(super) fn field<R: Importable>(header: &str) -> Option<String> {
    let header: Vec<char> = normal(header).chars().take(60).collect();
    let is_of_kind = |field: &&str| R::COLUMNS.contains(field);
    let parents = parents::of::<R>();
    let known = dictionary().headers(R::HEADERS).filter_map(|(known, meaning)| match meaning {
        Meaning::Field(field) => Some((known, field.as_str())).filter(|(_, field)| is_of_kind(field)),
        Meaning::LastNameOrName | Meaning::FirstNameOrName => Some((known, "name")),
        Meaning::PersonEmail => Some((known, parents?.email)),
        Meaning::PersonId => Some((known, parents?.id)),
        Meaning::Flag(_) => None,
    });
    let distances = known.filter_map(|(known, field)| {
        let known: Vec<char> = known.chars().collect();
        let most = header.len().max(known.len()) / 3;
        let distance = distance(&header, &known, most)?;
        Some((distance, field))
    });
    distances.min().map(|(_, field)| field.to_owned())
}

/// The number of characters to insert, delete or replace, if it is at most `most`.
fn distance(one: &[char], other: &[char], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::leads::Lead;

    #[test]
    fn the_nearest_field_is_named() {
        assert_eq!(field::<Lead>("Email addr").as_deref(), Some("email"));
        assert_eq!(field::<Lead>("Phonex").as_deref(), Some("phone"));
        assert_eq!(field::<Lead>("Shoe size in centimetres"), None);
    }
}
