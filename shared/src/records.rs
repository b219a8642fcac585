//! Records: the common behaviour of leads, customers, interactions, orders and feedback.
//!
//! A kind of record declares its fields with [`record!`](crate::record), and implements [`Record`]
//! for its own behaviour: its list, its search, and its dependent records. Creating, reading,
//! updating, deleting and restoring are implemented once, here.

mod actor;
mod alike;
mod batch;
mod bulk;
mod cascade;
mod change;
mod constraints;
mod creation;
mod crud;
pub mod csv;
mod decode;
mod define;
mod deleted;
mod events;
pub mod history;
mod json;
mod keys;
pub mod link;
mod model;
mod rederive;
mod restore;
pub mod schema;
mod statements;

pub use batch::{Answer, ConflictMode, MAX_BATCH, batch, create_or_update};
pub use bulk::{delete_all, insert_all, lock, page_end, update_all, update_all_as};
pub use change::{Outcome, change_all};
pub use crud::{changes_alone, check_parent, create, delete, get, is_alone, update};
pub use decode::InOrder;
pub use deleted::Deleted;
pub use history::RESTORABLE_DAYS;
pub use keys::{KeyForm, Reference, UniqueKey};
pub use model::{Difference, FieldFault, Fields, Parent, Place, Record, RecordType, Statement};
pub use rederive::Rederive;
pub use restore::{Restored, existing, restore, restore_all};
pub use statements::Statements;

pub(crate) use constraints::{keys_of, lock_by, owners};
pub(crate) use crud::mark_changed;
pub(crate) use events::report_created;
pub(crate) use model::as_object;
