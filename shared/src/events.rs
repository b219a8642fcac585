//! Events: what happened in a workspace, for the feed and for webhooks.
//!
//! An event is written in the transaction of what happened, into `new_events`. So nothing acknowledged
//! is without its event, and nothing rolled back has one. When it is visible, a worker moves it into
//! `events` and gives it a number, which is its cursor in the [`feed`]. Numbers are given in one
//! transaction at a time for each workspace, so a reader that has seen a number will never meet a
//! smaller one that is new. Nobody waits for transactions that are still open.
//!
//! What records were before a change is in their [history](crate::records::history). The event of a
//! change has the id of its entry there, and is read together with it.

mod actor;
pub mod feed;
pub mod numbering;
mod record;
mod types;

pub use actor::{Actor, ActorKind};
pub use feed::{Event, EventId};
pub use record::{NewEvent, record};
pub use types::{EventType, Subject, SubjectType};
