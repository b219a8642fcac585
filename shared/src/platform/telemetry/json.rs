//! Log lines in JSON.
//!
//! The JSON format of tracing-subscriber parses the fields of a span again for each event, which costs
//! up to an eighth of the time of a small read.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Program;

/// Writes each event as an object: the time, the level, the process, the event's fields, its target and the
/// innermost span, which carries the id of the request or job.
#[derive(Debug)]
pub(super) struct Objects {
    /// The members that name the process, with a comma after each.
    process: String,
}

impl Objects {
    pub fn of(Program { service, version, host, pid }: &Program) -> Self {
        let mut process = String::new();
        for (name, value) in [("service", *service), ("version", *version), ("host", host)] {
            // Writing to a string cannot fail.
            let _ = write!(process, "\"{name}\":").and_then(|()| text(&mut process, value));
            process.push(',');
        }
        let _ = write!(process, "\"pid\":{pid},");
        Self { process }
    }
}

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        write!(line, "\",\"level\":\"{}\",", meta.level())?;
        line.write_str(&self.process)?;
        members(&mut line, event)?;
        line.write_str("\"target\":")?;
        text(&mut line, meta.target())?;
        if let Some(span) = context.lookup_current() {
            line.write_str(",\"span\":{")?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.write_str(fields)?;
            }
            line.write_str("\"name\":")?;
            text(&mut line, span.name())?;
            line.write_char('}')?;
        }
        line.write_str("}\n")
    }
}

/// Writes fields as members of an object, with a comma after each.
#[derive(Debug)]
pub(super) struct Members;

impl<'w> FormatFields<'w> for Members {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        members(&mut writer, fields)
    }
}

fn members(writer: &mut impl Write, fields: impl RecordFields) -> fmt::Result {
    let mut visitor = Visitor { writer, written: Ok(()) };
    fields.record(&mut visitor);
    visitor.written
}

struct Visitor<'a, W> {
    writer: &'a mut W,
    written: fmt::Result,
}

impl<W: Write> Visitor<'_, W> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        if self.written.is_err() {
            return;
        }
        let name = field.name();
        self.written = text(self.writer, name.strip_prefix("r#").unwrap_or(name))
            .and_then(|()| self.writer.write_char(':'))
            .and_then(|()| value(self.writer))
            .and_then(|()| self.writer.write_char(','));
    }
}

impl<W: Write> Visit for Visitor<'_, W> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| text(writer, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinity nor NaN.
        self.member(
            field,
            |writer| if value.is_finite() { write!(writer, "{value}") } else { writer.write_str("null") },
        );
    }
}

fn text(writer: &mut impl Write, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_str(text)?;
    writer.write_char('"')
}

/// Writes the text inside the quotes of a string (RFC 8259, 7).
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some(at) = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            // Each of these bytes is a whole character.
            let (plain, rest) = text.split_at(at);
            self.0.write_str(plain)?;
            match rest.as_bytes()[0] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                control => write!(self.0, "\\u{control:04x}")?,
            }
            text = &rest[1..];
        }
        self.0.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Buffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// Returns the lines that `log` writes, without their times.
    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let buffer = Buffer::default();
        let program = Program { service: "crm-api", version: "1.2.3", host: "web\"1".to_owned(), pid: 17 };
        let objects = Objects::of(&program);
        let lines = tracing_subscriber::fmt().with_writer(buffer.clone()).fmt_fields(Members).event_format(objects);
        tracing::subscriber::with_default(lines.finish(), log);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines = text.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
            line
        });
        lines.collect()
    }

    #[test]
    fn an_event_is_an_object_with_its_innermost_span() {
        let lines = logged(|| {
            let outer = tracing::error_span!("outer", id = 1);
            let _outer = outer.enter();
            let span = tracing::error_span!("request", request_id = "a\"b", kind = tracing::field::Empty);
            span.record("kind", "c\\d");
            let _span = span.enter();
            tracing::info!(status = 200, slow = false, share = 0.5, r#type = "lead", what = ?[1], "answered {}", "well");
        });
        let span = json!({ "name": "request", "request_id": "a\"b", "kind": "c\\d" });
        let event = json!({
            "level": "INFO", "service": "crm-api", "version": "1.2.3", "host": "web\"1", "pid": 17, "message": "answered well", "status": 200, "slow": false, "share": 0.5, "type": "lead",
            "what": "[1]", "target": module_path!(), "span": span,
        });
        assert_eq!(lines, [event]);
    }

    #[test]
    fn control_characters_are_escaped_and_nan_is_null() {
        let lines = logged(|| tracing::warn!(text = "a\nb\u{0}\t\u{1b}ü", none = f64::NAN, "a line"));
        let event = json!({
            "level": "WARN", "service": "crm-api", "version": "1.2.3", "host": "web\"1", "pid": 17, "message": "a line", "text": "a\nb\u{0}\t\u{1b}ü", "none": null, "target": module_path!(),
        });
        assert_eq!(lines, [event]);
    }
}
