//! The Jinja environment of templates: the fuel of a rendering, and the filters and tests that
//! consume it.

use std::borrow::Cow;
use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, filters, tests};

use crate::mail::event::Event;

/// The bytes that one unit of fuel pays for.
const BYTES: u64 = 64;

/// These characters surround each inserted value in the engine's output. Values cannot contain
/// them, since control characters in values become spaces.
pub(super) const BEGIN: char = '\u{2}';
pub(super) const END: char = '\u{3}';

/// The fuel of one rendering: one unit for each instruction, and for each 64 bytes that operators,
/// filters and tests read or write. It limits every template to some milliseconds and some MiB.
/// Digests get more, since only they contain lists.
fn fuel(event: Event) -> u64 {
    match event {
        Event::Followups => 60_000,
        _ => 10_000,
    }
}

/// Unknown names are errors. No filter produces HTML, which is generated from the rendered text.
pub(super) fn environment(event: Event) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_formatter(mark);
    environment.set_fuel(Some(fuel(event)));
    add_text_filters(&mut environment);
    add_list_filters(&mut environment);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("round", filters::round);
    for name in ["default", "d"] {
        // A record's missing value is null, which Jinja's own filter does not replace.
        environment.add_filter(name, |value: Value, other: Value| if value.is_true() { value } else { other });
    }
    add_tests(&mut environment);
    environment
}

fn add_text_filters(environment: &mut Environment<'_>) {
    environment.add_filter("upper", |state: &State, value: &Value| Ok::<_, Error>(text(state, value)?.to_uppercase()));
    environment.add_filter("lower", |state: &State, value: &Value| Ok::<_, Error>(text(state, value)?.to_lowercase()));
    environment.add_filter("title", |state: &State, value: &Value| Ok::<_, Error>(filters::title(text(state, value)?)));
    environment
        .add_filter("trim", |state: &State, value: &Value| Ok::<_, Error>(text(state, value)?.trim().to_owned()));
    environment.add_filter("capitalize", |state: &State, value: &Value| {
        let text = text(state, value)?;
        let mut characters = text.chars();
        let first = characters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
        Ok::<_, Error>(first + &characters.as_str().to_lowercase())
    });
    environment.add_filter("replace", |state: &State, value: &Value, from: &Value, to: &Value| {
        let (value, from, to) = (text(state, value)?, text(state, from)?, text(state, to)?);
        // The result is charged before it is allocated.
        let longest = value.matches(from.as_ref()).count().saturating_mul(to.len());
        charge(state, longest)?;
        Ok::<_, Error>(value.replace(from.as_ref(), to.as_ref()))
    });
    environment.add_filter("truncate", |state: &State, value: &Value, length: Option<usize>, kwargs: Kwargs| {
        let length = match length {
            Some(length) => length,
            None => kwargs.get::<Option<usize>>("length")?.unwrap_or(255),
        };
        kwargs.assert_all_used()?;
        let text = text(state, value)?;
        Ok::<_, Error>(match text.char_indices().nth(length) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
            None => text.into_owned(),
        })
    });
}

fn add_list_filters(environment: &mut Environment<'_>) {
    for name in ["length", "count"] {
        environment.add_filter(name, |state: &State, value: &Value| {
            charge(state, value.as_str().map_or(0, str::len))?;
            filters::length(value)
        });
    }
    environment.add_filter("first", filters::first);
    environment.add_filter("last", |state: &State, value: Value| {
        weigh(state, &value)?;
        filters::last(value)
    });
    environment.add_filter("reverse", |state: &State, value: &Value| {
        weigh(state, value)?;
        filters::reverse(value)
    });
    environment.add_filter("join", filters::join);
    environment.add_filter("map", filters::map);
    environment.add_filter("select", filters::select);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("sort", |state: &State, value: Value, kwargs: Kwargs| {
        weigh_order(state, &value)?;
        filters::sort(state, value, kwargs)
    });
    environment.add_filter("unique", |state: &State, value: Value, kwargs: Kwargs| {
        weigh_order(state, &value)?;
        filters::unique(state, value, kwargs)
    });
    environment.add_filter("groupby", |state: &State, value: Value, attribute: Option<&str>, kwargs: Kwargs| {
        weigh_order(state, &value)?;
        filters::groupby(value, attribute, kwargs)
    });
}

fn add_tests(environment: &mut Environment<'_>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.add_test("number", tests::is_number);
    environment.add_test("string", tests::is_string);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("lower", |state: &State, value: &Value| Ok::<_, Error>(tests::is_lower(paid(state, value)?)));
    environment.add_test("upper", |state: &State, value: &Value| Ok::<_, Error>(tests::is_upper(paid(state, value)?)));
    environment.add_test("startingwith", |state: &State, value: &Value, other: &Value| {
        Ok::<_, Error>(text(state, value)?.starts_with(text(state, other)?.as_ref()))
    });
    environment.add_test("endingwith", |state: &State, value: &Value, other: &Value| {
        Ok::<_, Error>(text(state, value)?.ends_with(text(state, other)?.as_ref()))
    });
    type Comparison = fn(&Value, &Value) -> bool;
    let comparisons: [(&str, Comparison); 7] = [
        ("eq", tests::is_eq),
        ("equalto", tests::is_eq),
        ("ne", tests::is_ne),
        ("lt", tests::is_lt),
        ("le", tests::is_le),
        ("gt", tests::is_gt),
        ("ge", tests::is_ge),
    ];
    for (name, compare) in comparisons {
        environment.add_test(name, move |state: &State, value: &Value, other: &Value| {
            Ok::<_, Error>(compare(paid(state, value)?, paid(state, other)?))
        });
    }
}

/// Charges for reading so many bytes.
fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + u64::try_from(bytes).unwrap_or(u64::MAX) / BYTES)
}

/// Text or a number as text, after charging for it.
fn text<'a>(state: &State, value: &'a Value) -> Result<Cow<'a, str>, Error> {
    let text = match value.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(paid(state, value)?.to_string()),
    };
    charge(state, text.len())?;
    Ok(text)
}

/// A value that is not a list or a map, after charging for it as text.
fn paid<'a>(state: &State, value: &'a Value) -> Result<&'a Value, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None => {
            charge(state, value.as_str().map_or(0, str::len))?;
            Ok(value)
        }
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("expected text or a number, found {kind}"))),
    }
}

/// Charges for everything in a list.
fn weigh(state: &State, value: &Value) -> Result<usize, Error> {
    let mut bytes = 0_usize;
    if let Some(text) = value.as_str() {
        bytes = text.len();
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        for item in value.try_iter()? {
            // One unit for each item, and the bytes of its text, or of a record's texts.
            state.consume_fuel(1)?;
            bytes += item.as_str().map_or(0, str::len);
            if item.kind() == ValueKind::Map {
                for field in item.try_iter()? {
                    bytes += item.get_item(&field)?.as_str().map_or(0, str::len);
                }
            }
        }
    }
    charge(state, bytes)?;
    Ok(bytes)
}

/// Charges for sorting a list: each comparison reads two texts, and changes their case.
fn weigh_order(state: &State, value: &Value) -> Result<(), Error> {
    let bytes = weigh(state, value)?;
    let rounds = value.len().unwrap_or(0).checked_ilog2().unwrap_or(0) + 1;
    charge(state, bytes.saturating_mul(4).saturating_mul(usize::try_from(rounds).unwrap_or(usize::MAX)))
}

/// Writes a value on one line between [`BEGIN`] and [`END`]. A missing value is written as nothing,
/// rather than as `none`.
fn mark(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_undefined() {
        // Returns the error that names the variable.
        return minijinja::escape_formatter(out, state, value);
    }
    let text = text(state, value)?;
    out.write_char(BEGIN)?;
    for piece in text.split_inclusive(char::is_control) {
        match piece.char_indices().next_back() {
            Some((at, last)) if last.is_control() => {
                out.write_str(piece.get(..at).unwrap_or_default())?;
                out.write_char(' ')?;
            }
            _ => out.write_str(piece)?,
        }
    }
    Ok(out.write_char(END)?)
}
