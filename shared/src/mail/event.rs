//! The events that cause emails.

use crate::string_enum;

string_enum! {
    /// The event that causes an email.
    Event {
        /// A step of the sequence for leads.
        Nurture = "nurture",
        /// A digest of the follow-ups that are due, for the user they are assigned to.
        Followups = "followups",
        /// A request for feedback to a customer.
        FeedbackRequest = "feedback_request",
        /// A reminder of a request for feedback.
        FeedbackReminder = "feedback_reminder",
        /// A webhook was disabled, for the workspace's notification address.
        WebhookDisabled = "webhook_disabled",
        /// A test of a template, for a user who asked for it.
        Test = "test",
    }
}

impl Event {
    /// Whether its emails are bulk email: sent to many people who did not ask for them at that
    /// moment, and who can unsubscribe. Messages to users are not.
    pub fn is_bulk(self) -> bool {
        match self {
            Self::Nurture | Self::FeedbackRequest | Self::FeedbackReminder => true,
            Self::Followups | Self::WebhookDisabled | Self::Test => false,
        }
    }
}
