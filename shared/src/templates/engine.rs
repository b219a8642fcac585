//! Jinja as the workspaces' templates have it.

use std::fmt::Write;

use minijinja::{Environment, Output, State, UndefinedBehavior, Value};

/// What one rendering may cost: one for each instruction and each 64 bytes that it makes. It bounds the
/// time (some milliseconds) and the memory (some MiB), whatever a template says.
const FUEL: u64 = 100_000;

/// Stand around each inserted value in what the engine writes. No value has them: control characters
/// in values become spaces.
pub(super) const BEGIN: char = '\u{2}';
pub(super) const END: char = '\u{3}';

/// Names that do not exist are errors, and no filter makes HTML: that is made of the text, later.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(mark);
    environment.set_fuel(Some(FUEL));
    for filter in ["safe", "escape", "e", "pprint"] {
        environment.remove_filter(filter);
    }
    for function in ["range", "dict", "namespace", "debug"] {
        environment.remove_global(function);
    }
    // What a record does not have is null, which Jinja's own filter does not take for missing.
    environment.add_filter("default", |value: Value, other: Value| if value.is_true() { value } else { other });
    environment
}

/// Writes a value between marks, on its line. What is not there is nothing, and not the word `none`.
fn mark(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_undefined() {
        // Says which one it is.
        return minijinja::escape_formatter(out, state, value);
    }
    let written = value.to_string();
    let text = value.as_str().unwrap_or(&written);
    out.write_char(BEGIN)?;
    for piece in text.split_inclusive(char::is_control) {
        match piece.char_indices().next_back() {
            Some((at, last)) if last.is_control() => {
                out.write_str(&piece[..at])?;
                out.write_char(' ')?;
            }
            _ => out.write_str(piece)?,
        }
    }
    Ok(out.write_char(END)?)
}
