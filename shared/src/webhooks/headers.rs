//! The further headers of an endpoint's requests.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::FieldError;

/// The most headers.
const MAX: usize = 20;
/// The most characters of a name, and of a value.
const MAX_NAME: usize = 100;
const MAX_VALUE: usize = 4_000;

/// Headers that the connection or the message decides, or that only browsers send.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const RESERVED_PREFIXES: &[&str] = &["content-", "proxy-", "sec-", "webhook-", "x-forwarded-"];

/// The headers, by name.
pub(super) type Headers = BTreeMap<String, String>;

/// Reads the headers of a request.
///
/// # Errors
/// Every fault, named by the header.
pub(super) fn read(fields: Map<String, Value>) -> Result<Headers, Vec<FieldError>> {
    if fields.len() > MAX {
        return Err(vec![FieldError::new("headers", "out_of_range", format!("must have at most {MAX} headers"))]);
    }
    let (mut headers, mut errors) = (Headers::new(), Vec::new());
    for (name, value) in fields {
        let mut refuse = |code, message| errors.push(FieldError::new(format!("headers.{name}"), code, message));
        let known = headers.keys().any(|known| known.eq_ignore_ascii_case(&name));
        match value {
            _ if !is_name(&name) => refuse("invalid", "is not a name of a header".to_owned()),
            _ if is_reserved(&name) => refuse("reserved", "is a header that cannot be set".to_owned()),
            _ if known => refuse("duplicate", "must be given only once".to_owned()),
            Value::String(text) if is_value(&text) => drop(headers.insert(name, text)),
            _ => refuse("invalid", format!("must be text of at most {MAX_VALUE} visible ASCII characters")),
        }
    }
    if errors.is_empty() { Ok(headers) } else { Err(errors) }
}

/// Whether it is a token of RFC 9110.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_part)
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_value(text: &str) -> bool {
    text.len() <= MAX_VALUE
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && text.trim() == text
        && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_neither_steer_the_connection_nor_forge_the_message() {
        let read_all = |value: Value| read(value.as_object().unwrap().clone());
        let headers = read_all(json!({ "Authorization": "Bearer abc def", "X-Team": "1" })).unwrap();
        assert_eq!(headers["Authorization"], "Bearer abc def");
        for (name, value, code) in [
            ("Host", json!("a"), "reserved"),
            ("content-length", json!("1"), "reserved"),
            ("Content-Type", json!("text/plain"), "reserved"),
            ("Cookie", json!("a=b"), "reserved"),
            ("Transfer-Encoding", json!("chunked"), "reserved"),
            ("Webhook-Id", json!("x"), "reserved"),
            ("Proxy-Authorization", json!("x"), "reserved"),
            ("X-Forwarded-For", json!("127.0.0.1"), "reserved"),
            ("X Team", json!("x"), "invalid"),
            ("", json!("x"), "invalid"),
            ("X-Team\r\nHost", json!("x"), "invalid"),
            ("X-Team", json!("a\r\nHost: b"), "invalid"),
            ("X-Team", json!("ä"), "invalid"),
            ("X-Team", json!(" a"), "invalid"),
            ("X-Team", json!(1), "invalid"),
        ] {
            assert_eq!(read_all(json!({ name: value })).unwrap_err()[0].code, code, "{name}: {value}");
        }
        assert_eq!(read_all(json!({ "X-A": "1", "x-a": "2" })).unwrap_err()[0].code, "duplicate");
        let many: Map<String, Value> = (0..21).map(|n| (format!("X-{n}"), json!("1"))).collect();
        assert_eq!(read(many).unwrap_err()[0].field, "headers");
    }
}
