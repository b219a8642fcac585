//! Spans: what is done in a trace, and for how long.

use std::fmt::Arguments;

use uuid::Uuid;

use super::exporter::Recording;
use super::{TraceContext, current};

/// The role of a span in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers a request.
    Server,
    /// Sends a request, and waits for the answer.
    Client,
    /// Does what was asked for earlier.
    Consumer,
    /// A part of another span.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span, which ends when it is dropped. Its attributes and its name have no personal data.
#[derive(Debug)]
pub struct Span {
    /// The span, if it is recorded; else what it continues.
    context: Option<TraceContext>,
    recording: Option<Recording>,
}

impl Span {
    /// Begins a span that continues a trace; without one, it may begin a trace.
    pub fn begin(kind: Kind, name: Arguments<'_>, parent: Option<TraceContext>) -> Self {
        let recording = Recording::begin(kind, name, parent.as_ref());
        let context = recording.as_ref().map(Recording::context).or(parent);
        Self { context, recording }
    }

    /// Begins a span that continues a stored trace, if there is one.
    pub fn resume(kind: Kind, name: Arguments<'_>, stored: Option<&str>) -> Self {
        match stored.and_then(TraceContext::from_stored) {
            Some(parent) => Self::begin(kind, name, Some(parent)),
            None => Self::none(),
        }
    }

    /// Begins a span that is a part of the present one, if there is one.
    pub fn part(name: Arguments<'_>) -> Self {
        match current() {
            Some(parent) => Self::begin(Kind::Internal, name, Some(parent)),
            None => Self::none(),
        }
    }

    /// What belongs to no trace.
    pub fn none() -> Self {
        Self { context: None, recording: None }
    }

    /// Whether the span is recorded, so that its attributes are of use.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// What continues the trace after this span: the span itself, or what it continues if it is not recorded.
    pub fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// The id of the trace, for the log.
    pub fn trace_id(&self) -> Option<&str> {
        self.context.as_ref().map(TraceContext::trace_id)
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.set(name, value.into());
        }
    }

    /// Sets an attribute that may have no value.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Marks what was done as failed, with the kind of error.
    pub fn fail(&mut self, error_type: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.set("error.type", error_type.into());
            recording.fail();
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Text(id.to_string())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}
