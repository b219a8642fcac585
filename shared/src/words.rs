//! The words of a record by which `q=` finds it.

use uuid::Uuid;

/// The words of the given texts as a `tsvector` in its text form.
///
/// A word is a run of letters and digits, in lower case. Each stands behind four characters made of
/// the workspace's id, so that one index of words serves all workspaces and searches stay in theirs.
pub fn vector<'a>(workspace_id: Uuid, texts: impl IntoIterator<Item = &'a str>) -> String {
    let scope = scope(workspace_id);
    let mut vector = String::new();
    for text in texts {
        for word in split(text) {
            vector.push_str(&scope);
            vector.extend(lower(word));
            vector.push(' ');
        }
    }
    vector
}

/// A `tsquery` in its text form, which finds the records in which every word of `text` begins a
/// word. `None` when the text has no word at all.
pub fn query(workspace_id: Uuid, text: &str) -> Option<String> {
    let scope = scope(workspace_id);
    let terms: Vec<String> = split(text).map(|word| format!("{scope}{}:*", lower(word).collect::<String>())).collect();
    (!terms.is_empty()).then(|| terms.join(" & "))
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn lower(word: &str) -> impl Iterator<Item = char> {
    // A tsvector takes words of up to 2,046 bytes; nobody searches by the tail of a longer one.
    const MAX: usize = 255;
    word.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).take(MAX)
}

/// The last digits of an id are its most random ones.
fn scope(workspace_id: Uuid) -> String {
    let mut id = workspace_id.simple().to_string();
    id.split_off(id.len() - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        let workspace = Uuid::from_u128(0xabcd);
        assert_eq!(
            vector(workspace, ["Ann O'Neil", "ann@Example.com"]),
            "abcdann abcdo abcdneil abcdann abcdexample abcdcom "
        );
        assert_eq!(query(workspace, "ann, EXA").as_deref(), Some("abcdann:* & abcdexa:*"));
        assert_eq!(query(workspace, " -- "), None);
    }
}
