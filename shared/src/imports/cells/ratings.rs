//! Ratings as other systems write them: `4/5`, `4 stars`, `★★★★☆`, `FOUR`.

use std::borrow::Cow;

/// The words of Google's reviews.
const WORDS: [&str; 5] = ["one", "two", "three", "four", "five"];
const FULL: [char; 2] = ['★', '⭐'];
const EMPTY: [char; 3] = ['☆', '\u{fe0f}', ' '];

/// Returns the number of a rating; the text itself if it says none of five.
pub fn read(text: &str) -> Cow<'_, str> {
    if let Some(at) = WORDS.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        return Cow::Owned((at + 1).to_string());
    }
    let stars = text.chars().filter(|c| FULL.contains(c)).count();
    if stars > 0 && text.chars().all(|c| FULL.contains(&c) || EMPTY.contains(&c)) {
        return Cow::Owned(stars.to_string());
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let fraction = rest.strip_prefix(['.', ',']).map(|rest| rest.trim_start_matches('0')).unwrap_or(rest);
    if fraction.len() < rest.len() && fraction.starts_with(|c: char| c.is_ascii_digit()) {
        return Cow::Borrowed(text);
    }
    let of: String = fraction.chars().filter(char::is_ascii_digit).collect();
    // A scale of its own, such as `8/10`, is not converted.
    if !number.is_empty() && matches!(of.as_str(), "" | "5") { Cow::Borrowed(number) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_of_five_are_read() {
        for (text, expected) in [
            ("4", "4"),
            ("4.0", "4"),
            ("4,00", "4"),
            ("4/5", "4"),
            ("4.0 / 5", "4"),
            ("4 out of 5", "4"),
            ("4 stars", "4"),
            ("★★★★☆", "4"),
            ("⭐⭐", "2"),
            ("FIVE", "5"),
            ("4.5", "4.5"),
            ("8/10", "8/10"),
            ("good", "good"),
            ("☆☆☆☆☆", "☆☆☆☆☆"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
