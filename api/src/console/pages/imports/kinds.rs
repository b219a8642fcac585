//! The kinds of records that files have.

use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::{CustomerInteraction, LeadInteraction};
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::crm::suppressions::Suppression;
use shared::imports::columns::{CUSTOM_FIELDS, targets};
use shared::imports::{Importable, RowKey};

use crate::console::parts::words;

/// A kind of records.
pub(super) struct Kind {
    /// Its name in the API.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// The path that imports it.
    pub path: &'static str,
    /// The kind of its jobs.
    pub job: &'static str,
    /// What its files must have.
    pub about: &'static str,
    /// The fields by which a row finds its record, the default first.
    pub keys: &'static [RowKey],
    /// What a column can become.
    pub targets: fn() -> Vec<&'static str>,
    /// Whether it has custom fields.
    pub has_custom_fields: fn() -> bool,
}

const fn kind<R: Importable>([name, title, path, job, about]: [&'static str; 5]) -> Kind {
    Kind {
        name,
        title,
        path,
        job,
        about,
        keys: R::KEYS,
        targets: targets::<R>,
        has_custom_fields: || R::COLUMNS.contains(&CUSTOM_FIELDS),
    }
}

/// All of them.
pub(super) const KINDS: [Kind; 7] = [
    kind::<Lead>(["leads", "Leads", "/leads/import", "import_leads", "Each row has an email address."]),
    kind::<Customer>([
        "customers",
        "Customers",
        "/customers/import",
        "import_customers",
        "Each row has an email address.",
    ]),
    kind::<Order>([
        "orders",
        "Orders",
        "/orders/import",
        "import_orders",
        "Each row names its customer by email, by id or by the id of the other system; import customers first.",
    ]),
    kind::<LeadInteraction>([
        "lead_interactions",
        "Lead interactions",
        "/leads/interactions/import",
        "import_lead_interactions",
        "Each row names its lead by email, by id or by the id of the other system; import leads first.",
    ]),
    kind::<CustomerInteraction>([
        "customer_interactions",
        "Customer interactions",
        "/customers/interactions/import",
        "import_customer_interactions",
        "Each row names its customer by email, by id or by the id of the other system; import customers first.",
    ]),
    kind::<Feedback>([
        "feedback",
        "Feedback",
        "/feedback/import",
        "import_feedback",
        "Each row names its customer and has a rating from 1 to 5. Nobody is emailed.",
    ]),
    kind::<Suppression>([
        "suppressions",
        "Suppressions",
        "/suppressions/import",
        "import_suppressions",
        "A list of addresses that get no email, with or without a header.",
    ]),
];

/// The kind of this name, or leads.
pub(super) fn kind_of(name: Option<&str>) -> &'static Kind {
    KINDS.iter().find(|kind| Some(kind.name) == name).unwrap_or(&KINDS[0])
}

/// What people call an import.
pub(super) fn name_of_job(job: &str) -> String {
    KINDS.iter().find(|kind| kind.job == job).map_or_else(|| words(job), |kind| kind.title.to_owned())
}
