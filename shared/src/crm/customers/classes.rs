//! Segments and health bands of customers. Scoring computes them and stores them in a table of their
//! own, in which lists look them up.

use crate::query::Joined;
use crate::string_enum;

string_enum! {
    /// A customer's segment, by the recency, frequency and quantity of their orders in the last 24
    /// months.
    Segment {
        /// Bought recently, often and in large quantities.
        Champions = "champions",
        /// Bought often or in large quantities, not long ago.
        Loyal = "loyal",
        /// Buys now and then.
        Active = "active",
        /// Bought very recently, for the first time or in small quantities.
        New = "new",
        /// Bought in small quantities, not long ago.
        Promising = "promising",
        /// Bought in small quantities, some time ago.
        NeedsAttention = "needs_attention",
        /// Bought often or in large quantities, but long ago.
        AtRisk = "at_risk",
        /// Was among the best customers, very long ago.
        PreviouslyLoyal = "previously_loyal",
        /// Bought in small quantities, long ago.
        AlmostLost = "almost_lost",
        /// Bought in small quantities, very long ago.
        Dormant = "dormant",
        /// Bought nothing.
        Prospects = "prospects",
    }
}

impl Default for Segment {
    /// The segment of customers who have not been scored.
    fn default() -> Self {
        Self::Prospects
    }
}

string_enum! {
    /// The band of a health score.
    Band {
        /// 70 and above.
        Healthy = "healthy",
        /// From 40 to 69.
        Watch = "watch",
        /// Below 40.
        AtRisk = "at_risk",
    }
}

/// The segment of customers.
pub const SEGMENT: Joined = Joined {
    table: "customer_scores",
    key: "customer_id",
    time: "created_at",
    column: "segment",
    absent: Some(Segment::Prospects.as_str()),
};
/// The health score of customers.
pub const HEALTH: Joined = Joined { column: "health", absent: None, ..SEGMENT };
/// The health band of customers.
pub const BAND: Joined = Joined { column: "band", absent: None, ..SEGMENT };
