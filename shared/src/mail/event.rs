//! What emails are sent for.

use crate::string_enum;

string_enum! {
    /// What causes an email.
    Event {
        /// A step of the sequence for leads.
        Nurture = "nurture",
        /// The next actions that are due, told to whoever looks after them.
        Followups = "followups",
        /// A customer is asked for feedback.
        FeedbackRequest = "feedback_request",
        /// A customer is reminded of that.
        FeedbackReminder = "feedback_reminder",
    }
}
