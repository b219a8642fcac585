//! Emails that a release sets aside: they fell due while another database may have sent them.
//!
//! What fell due is marked as done and not sent. Each kind of email has a function that does so with
//! one page of a workspace's records, in the caller's transaction, and returns the emails and where
//! the next page starts. Its work can be repeated: what is marked is no longer due.

use serde::Serialize;
use uuid::Uuid;

use crate::mail::Event;
use crate::records::RecordType;
use crate::values::{Email, Time};

/// An email that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// What would have caused it.
    pub event: Event,
    /// The kind of record that was marked.
    pub record_type: RecordType,
    /// The id of that record.
    pub record_id: Uuid,
    /// The recipient.
    pub email: Email,
    /// When it fell due.
    pub due_at: Time,
}
