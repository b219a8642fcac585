//! Every kind of job, one file each.

use shared::imports::{ImportCustomers, ImportLeads, UndoImport};

use crate::task::Tasks;

mod import_customers;
mod import_leads;
mod undo_import;

/// All kinds.
pub fn all() -> Tasks {
    Tasks::new().with::<ImportLeads>().with::<ImportCustomers>().with::<UndoImport>()
}
