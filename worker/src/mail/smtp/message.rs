//! An email in its format for SMTP.

use std::fmt;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message as Built};
use shared::mail::{Content, one_line};
use shared::values::deliverable;
use uuid::Uuid;

use super::encoded;

/// A message that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Message {
    /// The sender, who also receives bounces.
    pub from: Address,
    /// The recipient.
    pub to: Address,
    /// The headers and the body, with CRLF line breaks.
    pub text: String,
}

impl Message {
    /// Builds the message. The error is a sentence for the operator; such an email can never be
    /// sent.
    pub fn build(id: Uuid, content: &Content) -> Result<Self, String> {
        let from = address(&content.from_email)?;
        let to = address(&content.to_email)?;
        let mut message = Built::builder()
            .from(mailbox(content.from_name.as_deref(), from.clone()))
            .to(mailbox(content.to_name.as_deref(), to.clone()))
            .subject(one_line(&content.subject))
            .date(content.date().into())
            .message_id(Some(content.message_id(id)));
        for (name, header) in [
            ("From", encoded::mailbox(content.from_name.as_deref(), from.as_ref())),
            ("To", encoded::mailbox(content.to_name.as_deref(), to.as_ref())),
            ("Subject", encoded::subject(&content.subject)),
        ] {
            if let Some((plain, encoded)) = header {
                let name = HeaderName::new_from_ascii(name.into()).map_err(|error| error.to_string())?;
                message = message.raw_header(HeaderValue::dangerous_new_pre_encoded(name, plain, encoded));
            }
        }
        if let Some(email) = &content.reply_to {
            message = message.reply_to(Mailbox::new(None, address(email)?));
        }
        for header in content.handling() {
            let name = HeaderName::new_from_ascii(header.name.into()).map_err(|error| error.to_string())?;
            // Encoding or folding would break the URL, so the line may be long.
            let value = HeaderValue::dangerous_new_pre_encoded(name, header.value.clone(), header.value);
            message = message.raw_header(value);
        }
        let text = content.text_body.clone();
        let built = match &content.html_body {
            Some(html) => message.multipart(MultiPart::alternative_plain_html(text, html.clone())),
            None => message.singlepart(SinglePart::plain(text)),
        };
        let built = built.map_err(|error| format!("the message cannot be built: {error}"))?;
        let text = String::from_utf8(built.formatted()).map_err(|_| "the message is not UTF-8".to_owned())?;
        Ok(Self { from, to, text: with_crlf(&text) })
    }

    /// Whether the server must support SMTPUTF8 (RFC 6531) to accept the message.
    pub fn is_international(&self) -> bool {
        let (from, to): (&str, &str) = (self.from.as_ref(), self.to.as_ref());
        !from.is_ascii() || !to.is_ascii()
    }

    /// The message after DATA, with leading dots doubled, and the final dot. All in one string, so
    /// that it is sent in one write.
    pub(super) fn data(&self) -> Data {
        let mut data = String::with_capacity(self.text.len() + 64);
        for line in self.text.split_inclusive("\r\n") {
            if line.starts_with('.') {
                data.push('.');
            }
            data.push_str(line);
        }
        if !data.ends_with("\r\n") {
            data.push_str("\r\n");
        }
        data.push_str(".\r\n");
        Data(data)
    }
}

/// The message and the final dot, as lettre's command.
#[derive(Debug)]
pub(super) struct Data(String);

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address in the form that every server accepts.
fn address(email: &str) -> Result<Address, String> {
    deliverable(email).parse().map_err(|error| format!("{email} is not a valid email address: {error}"))
}

fn mailbox(name: Option<&str>, address: Address) -> Mailbox {
    Mailbox::new(name.map(one_line).filter(|name| !name.is_empty()), address)
}

/// Text with all line breaks as CRLF. A server might accept a lone CR or LF as a line break, and so
/// find the end of the message or another message inside it.
fn with_crlf(text: &str) -> String {
    let mut clean = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' => {
                characters.next_if_eq(&'\n');
                clean.push_str("\r\n");
            }
            '\n' => clean.push_str("\r\n"),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use shared::mail::Event;

    use super::*;

    fn content() -> Content {
        Content {
            workspace_id: Uuid::nil(),
            event: Event::FeedbackRequest,
            event_key: "feedback:1".into(),
            from_name: Some("Acme".into()),
            from_email: "hello@acme.example".into(),
            reply_to: None,
            to_name: Some("Ann".into()),
            to_email: "ann@example.com".into(),
            subject: "Hello".into(),
            text_body: "Hello\n.\nBye".into(),
            html_body: None,
            unsubscribe: None,
            created_at: SystemTime::UNIX_EPOCH.into(),
            opens_at: None,
        }
    }

    fn build(content: &Content) -> Message {
        Message::build(Uuid::nil(), content).unwrap()
    }

    #[test]
    fn a_line_with_a_single_dot_does_not_end_the_message() {
        let data = build(&content()).data().to_string();
        assert!(data.ends_with("\r\n\r\nHello\r\n..\r\nBye\r\n.\r\n"), "{data}");
        let smuggling = Content { text_body: "Hello\n.\rMAIL FROM:<eve@example.com>\r.\n".into(), ..content() };
        let data = build(&smuggling).data().to_string();
        let body = data.strip_suffix("\r\n.\r\n").unwrap();
        assert!(body.split("\r\n").all(|line| line != "." && !line.contains(['\r', '\n'])), "{data}");
    }

    #[test]
    fn line_breaks_in_names_and_subjects_do_not_start_headers() {
        let evil = "Ann\r\nBcc: eve@example.com\r\n\r\nHi";
        let message = build(&Content {
            to_name: Some(evil.into()),
            from_name: Some(evil.into()),
            subject: evil.into(),
            unsubscribe: Some("https://crm.example/\r\nBcc: eve@example.com".into()),
            ..content()
        });
        let head = message.text.split("\r\n\r\n").next().unwrap();
        assert!(head.lines().all(|line| !line.to_ascii_lowercase().starts_with("bcc")), "{head}");
    }

    #[test]
    fn bulk_emails_have_headers_for_unsubscribing_and_for_their_kind_and_a_stable_id() {
        let url = format!("https://crm.example/unsubscribe/{}", "x".repeat(200));
        let content = Content { unsubscribe: Some(url.clone()), html_body: Some("<p>Hello</p>".into()), ..content() };
        let text = build(&content).text;
        assert!(text.contains(&format!("List-Unsubscribe: <{url}>\r\n")), "{text}");
        assert!(text.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{text}");
        for header in ["Auto-Submitted: auto-generated\r\n", "Precedence: bulk\r\n", "Feedback-ID: request:"] {
            assert!(text.contains(header), "{text}");
        }
        assert!(text.contains("Message-ID: <00000000-0000-0000-0000-000000000000@acme.example>\r\n"), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"), "{text}");
        assert!(text.contains("multipart/alternative") && text.contains("text/html"), "{text}");
    }

    #[test]
    fn names_in_other_scripts_are_encoded_and_only_addresses_need_smtputf8() {
        let message = build(&Content {
            to_name: Some("Jürgen \"J\" Müller".into()),
            subject: "Grüße 🎉".into(),
            text_body: "Schöne Grüße\n".repeat(3),
            ..content()
        });
        assert!(message.text.is_ascii() && !message.is_international(), "{}", message.text);
        let message = build(&Content { to_email: "jürgen@example.com".into(), ..content() });
        assert!(message.is_international());
    }

    #[test]
    fn domains_in_other_scripts_are_sent_in_punycode_in_all_headers() {
        let message = build(&Content {
            to_email: "ann@Bücher.example".into(),
            from_email: "hello@faß.example".into(),
            reply_to: Some("answers@пример.example".into()),
            ..content()
        });
        assert!(!message.is_international() && message.text.is_ascii(), "{}", message.text);
        assert_eq!(message.to.to_string(), "ann@xn--bcher-kva.example");
        for part in ["<hello@xn--fa-hia.example>", "Reply-To: answers@xn--e1afmkfd.example", "@xn--fa-hia.example>\r\n"]
        {
            assert!(message.text.contains(part), "{part} in {}", message.text);
        }
    }

    #[test]
    fn text_that_looks_like_an_encoded_word_arrives_unchanged() {
        let evil = "=?utf-8?q?=50ay_us?=";
        // Digests have no header that is too long for a line.
        let message = build(&Content {
            event: Event::Followups,
            to_name: Some(evil.into()),
            from_name: Some(format!("Grüße {evil}")),
            subject: format!("Hello {evil}, {}", "ß=?".repeat(60)),
            ..content()
        });
        let head = message.text.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains(evil) && head.is_ascii() && head.lines().all(|line| line.len() <= 78), "{head}");
        let unfolded = head.replace("\r\n ", " ");
        let header = |name: &str| {
            let line = unfolded.lines().find(|line| line.starts_with(name)).unwrap();
            encoded::tests::decode(line.split_once(": ").unwrap().1)
        };
        assert_eq!(header("Subject"), format!("Hello {evil}, {}", "ß=?".repeat(60)));
        assert_eq!(header("To"), format!("{evil} <ann@example.com>"));
        assert_eq!(header("From"), format!("Grüße {evil} <hello@acme.example>"));
    }
}
