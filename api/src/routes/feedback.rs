//! `/dev/crm/feedback`: what customers were asked, and what they answered.

use shared::feedback::Feedback;

use super::records;
use crate::operations::{Operation, tagged};

pub(crate) fn operations() -> Vec<Operation> {
    let feedback = [
        Operation::get("/feedback", records::list::<Feedback>)
            .named("listFeedback", "List feedback")
            .lists_records::<Feedback>(),
        Operation::get("/feedback/{feedbackId}", records::read::<Feedback>)
            .named("getFeedback", "Get feedback")
            .reads::<Feedback>(),
    ];
    tagged("Feedback", feedback)
}
