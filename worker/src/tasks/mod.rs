//! Every kind of job, one file each.

use shared::imports::ImportLeads;

use crate::task::Tasks;

mod import_leads;

/// All kinds.
pub fn all() -> Tasks {
    Tasks::new().with::<ImportLeads>()
}
