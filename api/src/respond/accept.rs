//! Which media type a client prefers.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Whether a client prefers CSV to JSON (RFC 9110, 12.5.1).
pub fn wants_csv(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let ranges: Vec<(String, f32)> = values.flat_map(|accept| accept.split(',')).filter_map(media_range).collect();
    // The most specific range counts.
    let quality = |names: [&str; 3]| {
        let named = |name: &&str| ranges.iter().find(|(range, _)| range == name);
        names.iter().find_map(named).map_or(0.0, |(_, quality)| *quality)
    };
    quality(["text/csv", "text/*", "*/*"]) > quality(["application/json", "application/*", "*/*"])
}

/// A media range and its quality from 0 to 1. Malformed ranges are ignored.
fn media_range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let range = parts.next()?;
    let quality = match parts.find_map(|part| part.strip_prefix("q=").map(str::to_owned)) {
        Some(quality) => quality.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
        None => 1.0,
    };
    Some((range, quality))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header::ACCEPT};

    use super::wants_csv;

    #[test]
    fn csv_is_sent_to_clients_that_prefer_it_to_json() {
        for (accept, expected) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/csv"], true),
            (&["Text/CSV; header=present; Q=0.1"], true),
            (&["text/*"], true),
            (&["text/csv;q=0"], false),
            (&["text/csv;q=0, text/*"], false),
            (&["application/json, text/csv"], false),
            (&["text/csv, application/json"], false),
            (&["text/csv, */*"], false),
            (&["text/csv;q=0.5, application/json"], false),
            (&["text/csv, application/json;q=0.9"], true),
            (&["text/csv;q=0.9, */*;q=0.1"], true),
            (&["application/json;q=0, */*"], true),
            (&["application/json;q=0.2", "text/csv;q=0.3"], true),
            (&["text/csv;q=much"], false),
            (&["text/csv;q=7, application/json;q=0.1"], false),
            (&["text/html, ,;"], false),
        ] {
            let headers: HeaderMap = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect();
            assert_eq!(wants_csv(&headers), expected, "{accept:?}");
        }
    }
}
