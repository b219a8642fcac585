//! The jobs of imports, one kind for each kind of record.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ImportResult;
use crate::queue::Payload;

/// The job of an import.
pub trait ImportJob: Payload {
    /// Creates the job of an [`Import`](super::Import).
    fn new(import_id: Uuid, dry_run: bool) -> Self;
}

macro_rules! import_jobs {
    ($($(#[doc = $about:literal])* $job:ident = $kind:literal,)+) => {
        $(
            $(#[doc = $about])*
            #[derive(Debug, Serialize, Deserialize)]
            pub struct $job {
                /// The [`Import`](super::Import).
                pub import_id: Uuid,
                /// See [`Plan::dry_run`](super::Plan::dry_run).
                #[serde(default)]
                pub dry_run: bool,
            }

            impl Payload for $job {
                const KIND: &'static str = $kind;
                const QUEUE: &'static str = "imports";
                const WRITES_RECORDS: bool = true;

                type Result = ImportResult;

                fn is_dry_run(&self) -> bool {
                    self.dry_run
                }
            }

            impl ImportJob for $job {
                fn new(import_id: Uuid, dry_run: bool) -> Self {
                    Self { import_id, dry_run }
                }
            }
        )+
    };
}

import_jobs! {
    /// The job that imports leads.
    ImportLeads = "import_leads",
    /// The job that imports customers.
    ImportCustomers = "import_customers",
    /// The job that imports orders.
    ImportOrders = "import_orders",
    /// The job that imports interactions with leads.
    ImportLeadInteractions = "import_lead_interactions",
    /// The job that imports interactions with customers.
    ImportCustomerInteractions = "import_customer_interactions",
    /// The job that imports feedback.
    ImportFeedback = "import_feedback",
    /// The job that imports suppressions.
    ImportSuppressions = "import_suppressions",
}
