//! The classes into which customers are put by what is known of them. Scoring computes them and keeps them
//! in a table of their own; here is what they are called, and how customers are listed by them.

use crate::query::Joined;
use crate::string_enum;

string_enum! {
    /// The group of a customer, by what they bought in the last 24 months.
    Segment {
        /// They bought lately, often and much.
        Champions = "champions",
        /// They buy often or much, and did not long ago.
        Loyal = "loyal",
        /// They buy now and then.
        Active = "active",
        /// They bought just now, for the first time or little.
        New = "new",
        /// They bought little, not long ago.
        Promising = "promising",
        /// They bought little, and a while ago.
        NeedsAttention = "needs_attention",
        /// They bought a good deal, but long ago.
        AtRisk = "at_risk",
        /// They were among the best, very long ago.
        PreviouslyLoyal = "previously_loyal",
        /// They bought little, and long ago.
        AlmostLost = "almost_lost",
        /// They bought little, and very long ago.
        Dormant = "dormant",
        /// They bought nothing.
        Prospects = "prospects",
    }
}

string_enum! {
    /// What a score means.
    Band {
        /// From 70 on.
        Healthy = "healthy",
        /// From 40 to 69.
        Watch = "watch",
        /// Below 40.
        AtRisk = "at_risk",
    }
}

/// The segments and bands of customers, by which they are listed.
pub const SEGMENT: Joined = Joined {
    table: "customer_scores",
    key: "customer_id",
    time: "created_at",
    column: "segment",
    absent: Some(Segment::Prospects.as_str()),
};
/// See [`SEGMENT`].
pub const BAND: Joined = Joined { column: "band", absent: None, ..SEGMENT };
