//! The context of a trace, by the W3C standard Trace Context.

use std::fmt::{self, Display, Formatter};

/// The longest `tracestate`; a longer one is left out, as the standard allows.
const MAX_STATE: usize = 512;
/// The most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// The trace that the present task works for, if there is one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// The present trace, as it is stored with what continues it later.
pub fn stored() -> Option<String> {
    current().map(|context| context.to_string())
}

/// Runs a future in a trace: what it stores for later continues the trace.
pub async fn scope<T>(context: Option<TraceContext>, future: impl Future<Output = T>) -> T {
    CURRENT.scope(context, future).await
}

/// Names a span of a trace. Stored and displayed as `traceparent`, followed by a space and `tracestate` if
/// there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Valid, of version 00.
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    /// Reads the headers `traceparent` and `tracestate`. `None` for an invalid `traceparent`; an invalid
    /// `tracestate` is left out.
    pub fn from_headers<'a>(parent: &str, states: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let parent = valid_parent(parent.trim())?;
        let states: Vec<&str> = states.into_iter().map(str::trim).filter(|state| !state.is_empty()).collect();
        let state = Some(states.join(",")).filter(|state| is_valid_state(state));
        Some(Self { parent, state })
    }

    /// Reads a stored context.
    pub fn from_stored(stored: &str) -> Option<Self> {
        let (parent, state) = stored.split_once(' ').map_or((stored, None), |(parent, state)| (parent, Some(state)));
        Self::from_headers(parent, state)
    }

    /// The context of a span that this process has begun.
    #[cfg(feature = "otel")]
    pub(super) fn of_span(trace_id: impl Display, span_id: impl Display, state: &str) -> Self {
        let state = Some(state.to_owned()).filter(|state| !state.is_empty());
        Self { parent: format!("00-{trace_id}-{span_id}-01"), state }
    }

    /// The value of the header `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The value of the header `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.parent[3..35]
    }

    /// The id of the span: 16 hexadecimal digits.
    #[cfg(feature = "otel")]
    pub(super) fn span_id(&self) -> &str {
        &self.parent[36..52]
    }

    /// Whether whoever began the trace records it.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.parent[53..], 16).is_ok_and(|flags| flags & 1 == 1)
    }
}

impl Display for TraceContext {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent)?;
        self.state.iter().try_for_each(|state| write!(f, " {state}"))
    }
}

/// Checks a `traceparent`. One of a later version is returned as one of version 00, with the flag that this
/// version knows.
fn valid_parent(parent: &str) -> Option<String> {
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |id: &str, length| id.len() == length && is_hex(id) && id.bytes().any(|digit| digit != b'0');
    let mut parts = parent.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_two_digits = |text: &str| text.len() == 2 && is_hex(text);
    if !is_two_digits(version)
        || version == "ff"
        || !is_id(trace_id, 32)
        || !is_id(span_id, 16)
        || !is_two_digits(flags)
    {
        return None;
    }
    match version {
        "00" => (parent.len() == LENGTH).then(|| parent.to_owned()),
        _ => {
            let flags = u8::from_str_radix(flags, 16).ok()? & 1;
            Some(format!("00-{trace_id}-{span_id}-{flags:02x}"))
        }
    }
}

/// Whether a `tracestate` may be handed on: a list of `key=value`.
fn is_valid_state(state: &str) -> bool {
    let is_key = |key: &str| {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
        (1..=256).contains(&key.len()) && key.bytes().all(is_known)
    };
    let is_value = |value: &str| {
        let is_known = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
        (1..=256).contains(&value.len()) && value.bytes().all(is_known)
    };
    let mut members = state.split(',').map(str::trim).filter(|member| !member.is_empty());
    (1..=MAX_STATE).contains(&state.len())
        && members.clone().count() <= MAX_MEMBERS
        && members.all(|member| member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_stored_and_read_again() {
        let context = TraceContext::from_headers(PARENT, ["congo=t61rcWkgMzE", " rojo=00f067aa0ba902b7"]).unwrap();
        assert_eq!(context.parent(), PARENT);
        assert_eq!(context.state(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled());
        assert_eq!(TraceContext::from_stored(&context.to_string()), Some(context));
        let without = TraceContext::from_headers(&PARENT.replace("-01", "-00"), []).unwrap();
        assert!(!without.is_sampled());
        assert_eq!(without.to_string().len(), LENGTH);
        assert_eq!(TraceContext::from_stored(&without.to_string()), Some(without));
    }

    #[test]
    fn an_invalid_parent_is_ignored() {
        for invalid in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bü-01",
        ] {
            assert_eq!(TraceContext::from_headers(invalid, []), None, "{invalid}");
        }
    }

    #[test]
    fn a_parent_of_a_later_version_is_read_as_one_of_this_version() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-comes-later";
        assert_eq!(TraceContext::from_headers(later, []).unwrap().parent(), PARENT);
    }

    #[test]
    fn an_invalid_state_is_left_out() {
        let long = format!("a={}", "b".repeat(600));
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for invalid in ["", "a", "=b", "a=", "A=b", "a=b=c", "a=\u{7f}", &long, &many] {
            let context = TraceContext::from_headers(PARENT, [invalid]).unwrap();
            assert_eq!(context.state(), None, "{invalid}");
        }
    }
}
