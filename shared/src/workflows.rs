//! What happens to records by itself: nurture, follow-ups, requests for feedback and their reminders.

pub mod followups;
pub mod nurture;
