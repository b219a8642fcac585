//! Strict parsing of query parameters, for every endpoint.
//!
//! A parameter must be given only once, in its one valid form, without surrounding blanks. Anything
//! else is a fault that names the parameter, never a default: `dry_run=true&dry_run=false` must not
//! run.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::error::{FieldError, FieldErrors, Result};
use crate::values::{Fault, Field};

/// The parameters of a request that were not read yet, and the faults of those that were.
#[derive(Debug)]
pub struct Parameters<'a> {
    given: Vec<Given<'a>>,
    /// The first position of each name in the query string.
    places: HashMap<&'a str, usize>,
    errors: Vec<(usize, FieldError)>,
}

/// All values of a parameter, and the position of the second one.
#[derive(Debug)]
struct Given<'a> {
    name: &'a str,
    texts: Vec<&'a str>,
    second: usize,
}

impl<'a> Parameters<'a> {
    /// Starts parsing the decoded pairs of a query string.
    pub fn new(pairs: &'a [(String, String)]) -> Self {
        let mut given: Vec<Given<'_>> = Vec::new();
        let (mut places, mut groups) = (HashMap::new(), HashMap::new());
        for (place, (name, text)) in pairs.iter().enumerate() {
            places.entry(name.as_str()).or_insert(place);
            let group = *groups.entry(name.as_str()).or_insert(given.len());
            match given.get_mut(group) {
                None => given.push(Given { name, texts: vec![text], second: place }),
                Some(given) => {
                    if given.texts.len() == 1 {
                        given.second = place;
                    }
                    given.texts.push(text);
                }
            }
        }
        Self { given, places, errors: Vec::new() }
    }

    /// Takes a parameter of a field's type.
    pub fn take<T: Field>(&mut self, name: &str) -> Option<T> {
        self.take_as(name, T::from_text)
    }

    /// Takes a parameter that is `true` or `false`; `false` by default.
    pub fn flag(&mut self, name: &str) -> bool {
        self.take(name).unwrap_or(false)
    }

    /// Takes a parameter with a custom parser.
    pub fn take_as<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        let at = self.given.iter().position(|given| given.name == name)?;
        let Given { name, texts, second } = self.given.remove(at);
        let value = parse(texts.first()?).map_err(|fault| self.refuse(fault.of(name))).ok();
        match once(&texts) {
            Ok(_) => value,
            Err(fault) => {
                self.errors.push((second, fault.of(name)));
                None
            }
        }
    }

    /// Takes all values of a parameter that may be repeated.
    pub fn take_all(&mut self, name: &str) -> Vec<&'a str> {
        let at = self.given.iter().position(|given| given.name == name);
        at.map(|at| self.given.remove(at).texts).unwrap_or_default()
    }

    /// Takes all remaining parameters with all their values, in the order of the query string.
    pub fn rest(&mut self) -> Vec<(&'a str, Vec<&'a str>)> {
        std::mem::take(&mut self.given).into_iter().map(|Given { name, texts, .. }| (name, texts)).collect()
    }

    /// Adds a fault of a parameter.
    pub fn refuse(&mut self, error: FieldError) {
        let place = self.places.get(error.field.as_str()).copied().unwrap_or(usize::MAX);
        self.errors.push((place, error));
    }

    /// Ends the parsing; remaining parameters are unknown and become faults. Faults are sorted by
    /// their position in the query string.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault.
    pub fn finish(mut self) -> Result<()> {
        for (name, _) in self.rest() {
            self.refuse(unknown().of(name));
        }
        self.errors.sort_by_key(|(place, _)| *place);
        let mut errors = FieldErrors::default();
        errors.extend(self.errors.into_iter().map(|(_, error)| error));
        errors.check()
    }
}

/// The only value of a parameter that must not be repeated.
pub(crate) fn once<'a>(texts: &[&'a str]) -> Result<&'a str, Fault> {
    match texts {
        [text] => Ok(text),
        _ => Err(Fault::new("duplicate", "must be given only once")),
    }
}

/// The fault of a parameter that the endpoint does not support.
pub(crate) fn unknown() -> Fault {
    Fault::new("unknown", "is not a known parameter")
}

/// The texts that a parameter has, from a value in a JSON body: a string, a number, a boolean, or several of
/// these. `None` for other values.
pub fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) if !values.is_empty() => values.into_iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The fault of a value without [`texts`].
pub(crate) fn no_texts() -> Fault {
    let message = "must be a string, a number, true, false, or an array of these; \"null\" stands for an empty value";
    Fault::new("invalid", message)
}

/// Parses a number in JSON's syntax.
///
/// # Errors
/// A [`Fault`] for any other text.
pub fn number(text: &str) -> Result<f64, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = serde_json::from_str(text).ok().filter(|_| plain);
    number.ok_or_else(|| Fault::new("invalid", "must be a number"))
}

/// Parses a whole number in a range, in plain digits.
///
/// # Errors
/// A [`Fault`] for any other text.
pub fn whole(text: &str, range: RangeInclusive<u32>) -> Result<u32, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && range.contains(number)).ok_or_else(|| {
        Fault::new("out_of_range", format!("must be a whole number from {} to {}", range.start(), range.end()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn repeated_and_unknown_parameters_are_rejected() {
        let given = pairs(&[("dry_run", "true"), ("limit", "5"), ("x", "1"), ("dry_run", "false"), ("x", "2")]);
        let mut parameters = Parameters::new(&given);
        assert!(!parameters.flag("dry_run"));
        assert_eq!(parameters.take_as("limit", |text| whole(text, 1..=9)), Some(5));
        assert_eq!(parameters.take::<bool>("absent"), None);
        let Err(Error::Invalid(errors)) = parameters.finish() else { panic!("taken") };
        let codes: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.code.as_ref())).collect();
        assert_eq!(codes, [("x", "unknown"), ("dry_run", "duplicate")]);
    }

    #[test]
    fn numbers_and_flags_have_one_valid_form() {
        for text in ["0", "-0", "7", "-1.5", "2e3", "1E-2", "0.1"] {
            assert!(number(text).is_ok(), "{text}");
        }
        for text in ["", "+5", " 5", "5 ", "05", ".5", "5.", "1e", "1e999", "NaN", "inf", "0x1", "1_0", "١", "null"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(whole("10", 1..=10), Ok(10));
        for text in ["", "0", "11", "+5", " 5", "05", "5.0", "-1", "4294967297"] {
            assert!(whole(text, 1..=10).is_err(), "{text}");
        }
        for text in ["", "True", "1", "yes", " true", "true "] {
            assert!(bool::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_number_of_parameters_is_grouped_in_linear_time() {
        let given: Vec<_> = (0..200_000).map(|n| (format!("p{}", n % 100_000), String::new())).collect();
        let Err(Error::Invalid(errors)) = Parameters::new(&given).finish() else { panic!("taken") };
        assert_eq!(errors.len(), 101);
        assert_eq!(errors[100].message, "and 99900 more");
    }

    proptest! {
        #[test]
        fn numbers_match_json(text in "[-+.0-9eE ]{0,8}") {
            let json = serde_json::from_str::<f64>(&text).ok().filter(|_| text.trim() == text);
            prop_assert_eq!(number(&text).ok(), json);
        }
    }
}
