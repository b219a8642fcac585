//! Paths and query strings.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What needs no escape in a parameter.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path with parameters; those without a value are left out.
pub(crate) fn link<'a>(path: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut link = path.to_owned();
    for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
        link.push(if link.contains('?') { '&' } else { '?' });
        link.extend(utf8_percent_encode(name, ESCAPED));
        link.push('=');
        link.extend(utf8_percent_encode(value, ESCAPED));
    }
    link
}

/// The parameters of a URL. What is not percent-encoded UTF-8 is replaced, as browsers do.
pub(crate) fn query_of(uri: &Uri) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// A path of the console to return to, or the overview: never another site.
pub(crate) fn own_path(path: &str) -> &str {
    let is_own = path.starts_with("/console")
        && path[8..].starts_with(['/', '?'])
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { path } else { super::CONSOLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_a_link() {
        let pairs = [("q", "a&b=c+d é%"), ("empty", ""), ("status", "new")];
        let uri: Uri = link("/console/leads", pairs).parse().unwrap();
        let expected =
            [("q", "a&b=c+d é%"), ("status", "new")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query_of(&uri), expected);
    }

    #[test]
    fn nothing_leads_to_another_site() {
        for path in ["/console/leads?q=a", "/console/", "/console?days=7"] {
            assert_eq!(own_path(path), path);
        }
        for path in [
            "//evil.example",
            "https://evil.example",
            "/console.evil.example",
            "/consolex",
            "javascript:alert(1)",
            "",
            "/console/\\evil",
            "/console/\r\nSet-Cookie: a=b",
            "/\\evil.example",
            "/dev/crm/leads",
            "/console",
        ] {
            assert_eq!(own_path(path), "/console", "{path}");
        }
    }
}
