//! Webhooks: the events of a workspace, delivered to the receivers that it names.
//!
//! A worker claims a workspace with new events or due deliveries ([`Hold`]). It adds the deliveries of new events, each
//! once for each endpoint that wants it, and moves the workspace's position in the feed in the same transaction. Then it
//! sends what is due and records each attempt. If it dies, another worker claims the workspace when the lease expires,
//! and repeats the attempts that were not recorded: receivers get each event at least once, with the same body.

pub mod callbacks;
mod changes;
pub mod deliveries;
mod disable;
pub mod endpoint;
mod fan_out;
pub mod guard;
mod headers;
mod insert;
mod patterns;
mod plan;
mod prune;
mod queue;
mod receiver;
pub mod replay;
mod scopes;
mod seal;
mod sealed;
mod secret;
mod target;
mod walks;
mod work;

use crate::string_enum;

pub use changes::{create_schema, update_schema};
pub use deliveries::Delivery;
pub use endpoint::{Webhook, WebhookWithSecret};
pub use fan_out::{FannedOut, fan_out};
pub use prune::prune;
pub use queue::{Candidate, Depth, Hold, acknowledge, candidates, claim, depth, release, renew, rescue};
pub use seal::Sealer;
pub use sealed::{Sealed, sealed};
pub use target::{Target, Targets, targets};
pub use walks::{Step, Walk, advance, walks};
pub use work::{Attempt, Due, Health, Recorded, load, record};

/// The queue to notify of new work.
pub const QUEUE: &str = "webhooks";

string_enum! {
    /// How an endpoint learns of what a job writes.
    Bulk {
        /// By the events of the job (`job.changed`), which count the records.
        Summary = "summary",
        /// Also by an event for each record.
        Each = "each",
    }
}

string_enum! {
    /// The order in which an endpoint gets events.
    Ordering {
        /// None: many at once.
        None = "none",
        /// The events of one subject one after the other.
        Subject = "subject",
    }
}

string_enum! {
    /// The state of a delivery.
    DeliveryState {
        /// Due now, or later after a failed attempt.
        Pending = "pending",
        /// Waiting for an earlier event of the same subject.
        Waiting = "waiting",
        /// Accepted by the receiver.
        Delivered = "delivered",
        /// All attempts failed.
        Failed = "failed",
    }
}
