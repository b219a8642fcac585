//! The content and the headers of an email.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Event;
use crate::values::ascii_domain;

/// The sender, the recipient and the content of an email.
#[derive(Debug, Clone, FromRow)]
pub struct Content {
    /// The workspace that sends the email.
    pub workspace_id: Uuid,
    /// The event that causes the email.
    pub event: Event,
    /// Identifies the occurrence of the event.
    pub event_key: String,
    /// The sender's name.
    pub from_name: Option<String>,
    /// The sender's address, which also receives bounces.
    pub from_email: String,
    /// The address for replies, if it differs.
    pub reply_to: Option<String>,
    /// The recipient's name.
    pub to_name: Option<String>,
    /// The recipient's address.
    pub to_email: String,
    /// The subject.
    pub subject: String,
    /// The body as plain text.
    pub text_body: String,
    /// The body as HTML.
    pub html_body: Option<String>,
    /// The URL for unsubscribing.
    pub unsubscribe: Option<String>,
    /// When the email was added to the outbox.
    pub created_at: DateTime<Utc>,
    /// When the sending window opens for which it waits or waited.
    pub opens_at: Option<DateTime<Utc>>,
}

/// A header of a message, before it is encoded for transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Header {
    /// The header's name.
    pub name: &'static str,
    /// The header's value.
    pub value: String,
}

impl Content {
    /// The `Message-ID`, the same in every attempt, so that servers and mail programs can recognize
    /// two copies of one email.
    pub fn message_id(&self, id: Uuid) -> String {
        let domain = self.from_email.rsplit_once('@').map(|(_, domain)| ascii_domain(domain));
        format!("<{id}@{}>", domain.as_deref().unwrap_or("localhost"))
    }

    /// The message's date, the same in every attempt: an email that waits for its sending window is
    /// written when the window opens.
    pub fn date(&self) -> DateTime<Utc> {
        self.opens_at.map_or(self.created_at, |opens_at| opens_at.max(self.created_at))
    }

    /// The headers of the message, not encoded.
    pub fn headers(&self, id: Uuid) -> Vec<Header> {
        let mut headers = vec![
            Header { name: "From", value: mailbox(self.from_name.as_deref(), &self.from_email) },
            Header { name: "To", value: mailbox(self.to_name.as_deref(), &self.to_email) },
            Header { name: "Subject", value: one_line(&self.subject) },
            Header { name: "Date", value: self.date().to_rfc2822() },
            Header { name: "Message-ID", value: self.message_id(id) },
        ];
        headers.extend(self.reply_to.iter().map(|email| Header { name: "Reply-To", value: one_line(email) }));
        headers.extend(self.handling());
        headers
    }

    /// The headers for the programs that handle the message. Their values are ASCII.
    pub fn handling(&self) -> Vec<Header> {
        let mut headers = Vec::new();
        if let Some(url) = &self.unsubscribe {
            headers.push(Header { name: "List-Unsubscribe", value: format!("<{}>", one_line(url)) });
            // RFC 8058: the reader's mail program unsubscribes without opening a page.
            headers.push(Header { name: "List-Unsubscribe-Post", value: "List-Unsubscribe=One-Click".into() });
        }
        // RFC 3834: automatic responders do not answer.
        headers.push(Header { name: "Auto-Submitted", value: "auto-generated".into() });
        if self.event.is_bulk() {
            headers.push(Header { name: "Precedence", value: "bulk".into() });
            headers.push(Header { name: "Feedback-ID", value: self.feedback_id() });
        }
        headers
    }

    /// The identifiers under which Gmail reports complaints: campaign, customer, type of mail and
    /// sender. No identifier occurs in two fields, and none is that of a recipient; the sender's has
    /// from 5 to 15 characters.
    fn feedback_id(&self) -> String {
        let Self { workspace_id, event, .. } = self;
        format!("{}:{workspace_id}:{}:{}", self.campaign(), event.as_str(), self.sender_id())
    }

    /// The step of the sequence, or what the email does.
    fn campaign(&self) -> &str {
        match self.event {
            Event::Nurture => self.event_key.rsplit(':').next().unwrap_or_default(),
            Event::FeedbackRequest => "request",
            Event::FeedbackReminder => "reminder",
            Event::Followups => "digest",
            Event::WebhookDisabled => "notice",
            Event::Test => "test",
        }
    }

    /// Identifies the domain of the sender, which signs the message.
    fn sender_id(&self) -> String {
        let domain = self.from_email.rsplit_once('@').map(|(_, domain)| ascii_domain(domain)).unwrap_or_default();
        Sha256::digest(domain).iter().take(6).fold(String::new(), |id, byte| id + &format!("{byte:02x}"))
    }
}

fn mailbox(name: Option<&str>, email: &str) -> String {
    match name.map(one_line).filter(|name| !name.is_empty()) {
        Some(name) => format!("{name} <{email}>"),
        None => email.to_owned(),
    }
}

/// Text that cannot start a new header line: every run of control characters and spaces becomes one
/// space.
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn content() -> Content {
        Content {
            workspace_id: Uuid::from_u128(1),
            event: Event::Nurture,
            event_key: "nurture:019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44:019ab000-0000-7000-8000-000000000001".into(),
            from_name: Some("Acme".into()),
            from_email: "hello@acme.example".into(),
            reply_to: None,
            to_name: Some("Ann\r\nBcc: eve@example.com".into()),
            to_email: "ann@example.com".into(),
            subject: "Hello\nX-Evil: yes".into(),
            text_body: "Hello".into(),
            html_body: None,
            unsubscribe: Some("https://crm.example/unsubscribe/x".into()),
            created_at: DateTime::UNIX_EPOCH,
            opens_at: None,
        }
    }

    #[test]
    fn header_values_cannot_start_new_headers() {
        let headers = content().headers(Uuid::nil());
        assert!(headers.iter().all(|header| !header.value.contains(['\r', '\n'])));
        assert_eq!(headers[1].value, "Ann Bcc: eve@example.com <ann@example.com>");
        assert_eq!(headers[2].value, "Hello X-Evil: yes");
    }

    /// The headers that handle a message, one a line.
    fn handling(content: &Content) -> String {
        content.handling().into_iter().map(|Header { name, value }| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn bulk_emails_name_their_kind_and_support_one_click_unsubscribe() {
        assert_snapshot!(handling(&content()), @r"
        List-Unsubscribe: <https://crm.example/unsubscribe/x>
        List-Unsubscribe-Post: List-Unsubscribe=One-Click
        Auto-Submitted: auto-generated
        Precedence: bulk
        Feedback-ID: 019ab000-0000-7000-8000-000000000001:00000000-0000-0000-0000-000000000001:nurture:54667cc7be62
        ");
        let digest = Content { event: Event::Followups, unsubscribe: None, ..content() };
        assert_snapshot!(handling(&digest), @"Auto-Submitted: auto-generated");
    }

    #[test]
    fn a_feedback_id_has_four_different_identifiers_and_a_stable_sender() {
        let id = |event, from: &str| {
            let content = Content { event, from_email: from.into(), ..content() };
            content.feedback_id()
        };
        for event in Event::ALL.iter().filter(|event| event.is_bulk()) {
            let id = id(*event, "hello@acme.example");
            let fields: Vec<&str> = id.split(':').collect();
            let distinct: std::collections::HashSet<&str> = fields.iter().copied().collect();
            assert_eq!((fields.len(), distinct.len()), (4, 4), "{id}");
            assert!(fields.iter().all(|field| !field.is_empty() && field.is_ascii()), "{id}");
            assert!((5..=15).contains(&fields[3].len()), "{id}");
        }
        let sender = |from| id(Event::Nurture, from).rsplit(':').next().unwrap().to_owned();
        assert_eq!(sender("a@Acme.example"), sender("b@acme.EXAMPLE"));
        assert_ne!(sender("a@acme.example"), sender("a@other.example"));
    }

    #[test]
    fn the_message_id_contains_the_email_id() {
        assert_eq!(content().message_id(Uuid::nil()), "<00000000-0000-0000-0000-000000000000@acme.example>");
    }
}
