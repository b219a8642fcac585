//! Settings of traces.

use serde::Deserialize;

use super::Secret;
use crate::platform::trace;

/// Whether and where spans are exported.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The base URL of the collector; empty means that no spans are exported.
    pub otlp_endpoint: String,
    /// Headers of the requests to the collector: `name=value`, separated by commas.
    pub otlp_headers: Secret,
    /// The share of the traces to record that begin here.
    pub sample_ratio: f64,
}

impl Telemetry {
    /// The headers of the requests to the collector.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let headers = self.otlp_headers.split(',').filter_map(|header| header.split_once('='));
        headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    }

    /// Checks what the types cannot express.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        self.check_with(trace::IS_BUILT)
    }

    /// Checks the settings for a program that can export spans, or cannot.
    pub(super) fn check_with(&self, can_export: bool) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, key, what: &str| {
            if !holds {
                faults.push((key, what.to_owned()));
            }
        };
        must((0.0..=1.0).contains(&self.sample_ratio), "telemetry.sample_ratio", "it must be from 0 to 1");
        let headers = self.otlp_headers.split(',').filter(|header| !header.trim().is_empty());
        let are_pairs =
            headers.clone().all(|header| header.split_once('=').is_some_and(|(name, _)| is_name(name.trim())));
        must(are_pairs, "telemetry.otlp_headers", "it must be a list of name=value, separated by commas");
        if self.otlp_endpoint.is_empty() {
            return faults;
        }
        let key = "telemetry.otlp_endpoint";
        must(can_export, key, "this program is built without the cargo feature otel, so it exports no spans");
        let url = url::Url::parse(&self.otlp_endpoint).ok();
        let is_web = url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        must(is_web, key, "it must be a URL with http:// or https://, such as http://localhost:4318");
        faults
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(otlp_endpoint: &str, otlp_headers: &str, sample_ratio: f64) -> Telemetry {
        let otlp_headers = serde_json::from_value(otlp_headers.into()).unwrap();
        Telemetry { otlp_endpoint: otlp_endpoint.to_owned(), otlp_headers, sample_ratio }
    }

    #[test]
    fn an_endpoint_needs_a_program_that_exports() {
        let set = telemetry("https://collector.example:4318", "authorization=Basic YTpi==, x-tenant=acme", 0.1);
        assert_eq!(set.check_with(true), []);
        let headers = [("authorization", "Basic YTpi=="), ("x-tenant", "acme")];
        assert!(set.headers().eq(headers.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        let (key, reason) = set.check_with(false).remove(0);
        assert_eq!(key, "telemetry.otlp_endpoint");
        assert_eq!(reason, "this program is built without the cargo feature otel, so it exports no spans");
        assert_eq!(telemetry("", "", 1.0).check_with(false), []);
    }

    #[test]
    fn faults_name_their_setting() {
        for (set, key) in [
            (telemetry("collector:4318", "", 1.0), "telemetry.otlp_endpoint"),
            (telemetry("ftp://collector", "", 1.0), "telemetry.otlp_endpoint"),
            (telemetry("http://collector", "authorization", 1.0), "telemetry.otlp_headers"),
            (telemetry("http://collector", "a b=c", 1.0), "telemetry.otlp_headers"),
            (telemetry("http://collector", "", 1.5), "telemetry.sample_ratio"),
            (telemetry("http://collector", "", f64::NAN), "telemetry.sample_ratio"),
        ] {
            assert_eq!(set.check_with(true)[0].0, key, "{set:?}");
        }
    }
}
