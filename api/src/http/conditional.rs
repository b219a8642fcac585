//! Conditional requests: a representation that the client already has is not sent again.

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::values::etag;

/// The tags in `If-None-Match` of a `GET` or `HEAD`.
#[derive(Debug)]
pub struct Known(Option<String>);

impl Known {
    /// Reads the header of a request.
    pub fn of(request: &Request) -> Self {
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        Self(if reads { header(request.headers(), &IF_NONE_MATCH) } else { None })
    }

    /// Replaces a response that the client already has by a 304.
    pub fn spare(self, answer: Response) -> Response {
        let Some(known) = self.0 else { return answer };
        let is_known = header(answer.headers(), &ETAG).is_some_and(|tag| names(&known, &tag));
        if !is_known || answer.status() != StatusCode::OK {
            return answer;
        }
        let (mut head, _) = answer.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(CONTENT_TYPE);
        (StatusCode::NOT_MODIFIED, head.headers, head.extensions).into_response()
    }
}

/// Joins all values of a header into one list.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Whether a condition contains a tag by weak comparison (RFC 9110, 13.1.2). Suffixes that
/// compressing proxies add are ignored.
fn names(condition: &str, tag: &str) -> bool {
    condition.trim() == "*" || tags(condition).any(|known| etag::is_same(&format!("\"{known}\""), tag))
}

/// The tags of a list in a header, each as written, or `*`. `None` for anything but a list of at
/// least one tag (RFC 9110, 8.8.3 and 13.1.1).
pub fn entity_tags(list: &str) -> Option<Vec<&str>> {
    let (mut tags, mut rest) = (Vec::new(), list);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(tags).filter(|tags| !tags.is_empty());
        }
        let end = match rest.strip_prefix('*') {
            Some(_) => 1,
            None => {
                let open = if rest.starts_with("W/") { 2 } else { 0 };
                open + 1 + rest[open..].strip_prefix('"')?.find('"')? + 1
            }
        };
        tags.push(&rest[..end]);
        rest = rest[end..].trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// The texts between quotes, which may contain commas.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::{entity_tags, names};

    #[test]
    fn conditions_match_tags_by_weak_comparison() {
        for condition in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"x,y\",W/\"a\"", "\"a-gzip\"", "W/\"a-zstd\"", " * "] {
            assert!(names(condition, "\"a\"") && names(condition, "W/\"a\""), "{condition}");
        }
        for condition in ["", "a", "\"b\"", "\"a,b\"", "\"a-x\"", "\"*\""] {
            assert!(!names(condition, "\"a\""), "{condition}");
        }
        assert!(!names("\"\"", "no tag"));
    }

    #[test]
    fn a_list_with_an_invalid_tag_is_rejected_as_a_whole() {
        assert_eq!(entity_tags(" \"a,b\" ,, W/\"\",*"), Some(vec!["\"a,b\"", "W/\"\"", "*"]));
        for wrong in
            ["", " ", ",", "a", "\"a", "a\"", "\"a\" \"b\"", "\"a\"b", "w/\"a\"", "W/", "**", "\"a\", b", "W/*"]
        {
            assert_eq!(entity_tags(wrong), None, "{wrong}");
        }
    }
}
