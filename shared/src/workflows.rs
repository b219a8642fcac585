//! What happens to records by itself: nurture, follow-ups, requests for feedback and their reminders.

pub mod feedback_reminders;
pub mod feedback_requests;
pub mod followups;
pub mod nurture;
pub mod preview;
