//! The content and the headers of an email.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::values::ascii_domain;

/// The sender, the recipient and the content of an email.
#[derive(Debug, Clone, FromRow)]
pub struct Content {
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
    /// When the email was added to the outbox. Every attempt sends this as the message's date.
    pub created_at: DateTime<Utc>,
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

    /// The headers of the message, not encoded.
    pub fn headers(&self, id: Uuid) -> Vec<Header> {
        let mut headers = vec![
            Header { name: "From", value: mailbox(self.from_name.as_deref(), &self.from_email) },
            Header { name: "To", value: mailbox(self.to_name.as_deref(), &self.to_email) },
            Header { name: "Subject", value: one_line(&self.subject) },
            Header { name: "Date", value: self.created_at.to_rfc2822() },
            Header { name: "Message-ID", value: self.message_id(id) },
        ];
        headers.extend(self.reply_to.iter().map(|email| Header { name: "Reply-To", value: one_line(email) }));
        if let Some(url) = &self.unsubscribe {
            headers.push(Header { name: "List-Unsubscribe", value: format!("<{}>", one_line(url)) });
            // RFC 8058: the reader's mail program unsubscribes without opening a page.
            headers.push(Header { name: "List-Unsubscribe-Post", value: "List-Unsubscribe=One-Click".into() });
        }
        headers
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
    use super::*;

    fn content() -> Content {
        Content {
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
        }
    }

    #[test]
    fn header_values_cannot_start_new_headers() {
        let headers = content().headers(Uuid::nil());
        assert!(headers.iter().all(|header| !header.value.contains(['\r', '\n'])));
        assert_eq!(headers[1].value, "Ann Bcc: eve@example.com <ann@example.com>");
        assert_eq!(headers[2].value, "Hello X-Evil: yes");
    }

    #[test]
    fn bulk_emails_support_one_click_unsubscribe() {
        let names = |content: &Content| -> Vec<_> {
            content.headers(Uuid::nil()).into_iter().map(|header| header.name).collect()
        };
        assert!(names(&content()).ends_with(&["List-Unsubscribe", "List-Unsubscribe-Post"]));
        assert!(!names(&Content { unsubscribe: None, ..content() }).contains(&"List-Unsubscribe"));
    }

    #[test]
    fn the_message_id_contains_the_email_id() {
        assert_eq!(content().message_id(Uuid::nil()), "<00000000-0000-0000-0000-000000000000@acme.example>");
    }
}
