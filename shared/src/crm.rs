//! The record types of the CRM, one file each, with its fields, rules and SQL.

pub mod bulk;
pub mod customers;
pub mod feedback;
pub mod interactions;
pub mod leads;
mod names;
pub mod orders;
pub mod suppressions;
mod walk;

pub use walk::walk;

/// Calls a macro with the kinds of records that files are imported into: the job, and the kind of record.
#[macro_export]
macro_rules! import_kinds {
    ($then:ident) => {
        $then! {
            $crate::imports::ImportLeads => $crate::crm::leads::Lead,
            $crate::imports::ImportCustomers => $crate::crm::customers::Customer,
            $crate::imports::ImportOrders => $crate::crm::orders::Order,
            $crate::imports::ImportLeadInteractions => $crate::crm::interactions::LeadInteraction,
            $crate::imports::ImportCustomerInteractions => $crate::crm::interactions::CustomerInteraction,
            $crate::imports::ImportFeedback => $crate::crm::feedback::Feedback,
            $crate::imports::ImportSuppressions => $crate::crm::suppressions::Suppression,
        }
    };
}
