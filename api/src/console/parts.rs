//! What pages are made of.

use maud::{Markup, html};
use serde_json::Value;

/// A number with its thousands apart, such as `12 345`.
pub(crate) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// A decimal number with its thousands apart.
pub(crate) fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |number| ("−", number));
    let (whole, rest) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if let Some(rest) = rest {
        text.push('.');
        text.push_str(rest);
    }
    text
}

/// A share between 0 and 1 as a percentage with one decimal.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}\u{202f}%", share * 100.0)
}

/// A word of the API for people: `in_progress` becomes `In progress`.
pub(crate) fn words(word: &str) -> String {
    let text = word.replace(['_', '-'], " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A state with a colour: never the colour alone.
pub(crate) fn badge(word: &str) -> Markup {
    let tone = match word {
        "succeeded" | "sent" | "delivered" | "converted" | "enabled" | "active" | "healthy" | "good" | "completed"
        | "received" | "promoter" | "won" => "good",
        "failed" | "bounced" | "lost" | "suspended" | "unknown" | "disabled" | "complained" | "at_risk"
        | "critical" | "detractor" | "overdue" => "bad",
        "running" | "sending" | "draining" | "queued" | "deferred" | "retrying" | "pending" | "waiting" | "paused"
        | "warning" => "busy",
        _ => "plain",
    };
    badge_in(tone, &words(word))
}

/// A text in a colour: `good`, `bad`, `busy` or `plain`.
pub(crate) fn badge_in(tone: &str, text: &str) -> Markup {
    html! { span.badge data-tone=(tone) { (text) } }
}

/// A link to a page that not every key may see; for other keys, its text.
pub(crate) fn link_if(allowed: bool, to: &str, text: &str) -> Markup {
    html! { @if allowed { a href=(to) { (text) } } @else { (text) } }
}

/// Text, or a dash if there is none.
pub(crate) fn text_or_dash(text: Option<&str>) -> Markup {
    match text {
        Some(text) if !text.is_empty() => html! { (text) },
        _ => html! { span.quiet { "–" } },
    }
}

/// A text of at most so many characters.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A JSON value for people.
pub(crate) fn value(value: &Value) -> Markup {
    match value {
        Value::Null => text_or_dash(None),
        Value::String(text) => html! { (text) },
        Value::Bool(true) => html! { "yes" },
        Value::Bool(false) => html! { "no" },
        Value::Number(number) => html! { (number) },
        other => html! { code { (other) } },
    }
}

/// The heading of a page with its actions.
pub(crate) fn head(title: &str, actions: &Markup) -> Markup {
    html! { header.head { h1 { (title) } div.actions { (actions) } } }
}

/// A part of a page with a heading.
pub(crate) fn section(title: &str, content: &Markup) -> Markup {
    html! { section { h2 { (title) } (content) } }
}

/// Names and values.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// What to do where there is nothing yet.
pub(crate) fn empty(title: &str, what: &Markup) -> Markup {
    html! { div.empty { p { strong { (title) } } p { (what) } } }
}

/// How far something is. `total` is `None` while it is not known.
pub(crate) fn progress(label: &str, done: u64, total: Option<u64>) -> Markup {
    html! {
        div.progress {
            progress aria-label=(label) value=[total.map(|_| done)] max=[total.map(|total| total.max(1))] {}
            span.quiet { (count(done)) @if let Some(total) = total { " of " (count(total)) } }
        }
    }
}

/// Links between pages that belong together.
pub(crate) fn tabs<'a>(label: &str, path: &str, tabs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            @for (to, name) in tabs { a href=(to) aria-current=[(to == path).then_some("page")] { (name) } }
        }
    }
}

/// A small table of texts; the first column names its rows.
pub(crate) fn table(caption: &str, head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.hidden { (caption) }
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [("0", "0"), ("999", "999"), ("1000", "1 000"), ("-1234567.50", "−1 234 567.50")] {
            assert_eq!(grouped(number).replace('\u{202f}', " "), text);
        }
    }

    #[test]
    fn words_are_for_people() {
        assert_eq!(words("in_progress"), "In progress");
        assert_eq!(words(""), "");
    }
}
