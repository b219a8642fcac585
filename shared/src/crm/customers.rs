//! Customers: people and companies that buy.

mod classes;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::crm::feedback::Feedback;
use crate::crm::interactions::CustomerInteraction;
use crate::crm::leads::Lead;
use crate::crm::orders::Order;
use crate::error::Result;
use crate::imports::aliases::CUSTOMER_COLUMNS;
use crate::mail::{self, Cancel};
use crate::query::{Filter, FilterKind, Order as ListOrder, OrderKind, Spec};
use crate::records::history::{Actor, Deletion};
use crate::records::link;
use crate::records::{Record, RecordType};
use crate::values::json_body::Object;
use crate::values::{Address, Company, CustomFields, Email, Money, Name, Notes, Phone, Summary, TaxId};
use crate::{importable, record, string_enum};

pub use classes::{Band, Segment};

string_enum! {
    /// The type of a customer.
    CustomerType {
        /// A person; the default.
        Individual = "individual",
        /// A company.
        Business = "business",
    }
}

string_enum! {
    /// The status of a customer.
    CustomerStatus {
        /// A current customer; the default.
        Active = "active",
        /// A former customer.
        Inactive = "inactive",
        /// A customer to whom nothing may be sent or sold.
        Blocked = "blocked",
    }
}

record! {
    /// A customer.
    Customer, CustomerChanges in "customers" {
        /// The name of the person or company.
        required name: Name,
        /// The email address, unique among the workspace's customers.
        required email: Email,
        /// The phone number.
        optional phone: Option<Phone>,
        /// The company that the customer works for.
        optional company: Option<Company>,
        /// Whether the customer is a person or a business.
        defaulted kind as "type": CustomerType = CustomerType::Individual,
        /// The customer's status.
        defaulted status: CustomerStatus = CustomerStatus::Active,
        /// The lead from which the customer was converted.
        optional lead_id: Option<Uuid>,
        /// The address for invoices.
        optional billing_address: Option<Address>,
        /// The address for deliveries.
        optional shipping_address: Option<Address>,
        /// The payment terms.
        optional payment_terms: Option<Summary>,
        /// The credit limit.
        optional credit_limit: Option<Money>,
        /// The tax number.
        optional tax_id: Option<TaxId>,
        /// Notes.
        optional notes: Option<Notes>,
        /// The user responsible for the customer.
        optional assigned_to: Option<Uuid>,
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
    }
}

importable!(Customer, CUSTOMER_COLUMNS, Lead, lead_id);

impl Record for Customer {
    const TYPE: RecordType = RecordType::Customer;
    const SEARCHABLE: bool = true;
    const IMPORTED: bool = true;
    const UNIQUE: &'static [(&'static str, &'static str, &'static str)] =
        &[("email", "lower(email COLLATE \"C\")", "text"), ("lead_id", "lead_id", "uuid")];
    const REFERENCES: &'static [(&'static str, &'static str)] = &[("lead_id", "leads")];
    const CHILDREN: &'static [(&'static str, &'static str)] =
        &[("customer_interactions", "customer_id"), ("orders", "customer_id"), ("feedback", "customer_id")];
    const LINKS: &'static [&'static str] = &["lead_id"];
    const LIST: Spec = Spec {
        table: "customers",
        filters: &[
            Filter { name: "status", kind: FilterKind::Word(CustomerStatus::WORDS) },
            Filter { name: "type", kind: FilterKind::Word(CustomerType::WORDS) },
            Filter { name: "segment", kind: FilterKind::Joined(&classes::SEGMENT, Segment::WORDS) },
            Filter { name: "health", kind: FilterKind::Joined(&classes::BAND, Band::WORDS) },
            Filter { name: "email", kind: FilterKind::Email },
            Filter { name: "name", kind: FilterKind::Text },
            Filter { name: "phone", kind: FilterKind::Text },
            Filter { name: "company", kind: FilterKind::Text },
            Filter { name: "tax_id", kind: FilterKind::Text },
            Filter { name: "credit_limit", kind: FilterKind::Number },
            Filter { name: "assigned_to", kind: FilterKind::Id },
            Filter { name: "lead_id", kind: FilterKind::Id },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[
            ListOrder { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            ListOrder { name: "email", expression: "lower(email COLLATE \"C\")", kind: OrderKind::Text },
        ],
        indexed: &["email", "lead_id"],
        searchable: true,
        branches: Some(("status", CustomerStatus::WORDS)),
    };

    fn example() -> Value {
        json!({
            "name": "Jane Smith",
            "email": "jane@example.com",
            "phone": "+1234567890",
            "company": "Tech Corp",
            "type": "business",
            "status": "active",
            "billing_address": "123 Main St",
            "payment_terms": "Net 30"
        })
    }

    fn texts(&self) -> Vec<&str> {
        let optional = [self.company.as_ref().map(AsRef::as_ref), self.phone.as_ref().map(AsRef::as_ref)];
        [self.name.as_ref(), self.email.as_ref()].into_iter().chain(optional.into_iter().flatten()).collect()
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![Some(self.email.key()), self.lead_id.map(|id| id.to_string())]
    }

    async fn after_write(&self, connection: &mut PgConnection, actor: &Actor, before: Option<&Self>) -> Result<()> {
        let previous = before.and_then(|before| before.lead_id);
        if previous == self.lead_id {
            return Ok(());
        }
        link::cut::<Lead>(connection, actor, previous).await?;
        link::tie::<Lead>(connection, actor, &link::pairs(std::slice::from_ref(self))).await
    }

    async fn after_changes(connection: &mut PgConnection, actor: &Actor, changes: &[(Self, Self)]) -> Result<()> {
        let cancelled = changes.iter().filter_map(|(before, after)| Some((after.id, after.cancels(before)?)));
        let cancelled: Vec<_> = cancelled.collect();
        mail::cancel_to_all(connection, actor.workspace_id, Self::TYPE, &cancelled).await?;
        Ok(())
    }

    fn has_consequences(body: &Object) -> bool {
        body.names("email") || body.text("status") == Some(CustomerStatus::Blocked.as_str())
    }

    /// Deletes the customer's interactions, orders and feedback as well, and unlinks its lead.
    async fn before_delete(&self, connection: &mut PgConnection, actor: &Actor, deletion: &Deletion) -> Result<()> {
        mail::cancel_to(connection, actor.workspace_id, (Self::TYPE, self.id), Cancel::All).await?;
        deletion.cascade_delete::<CustomerInteraction>(connection, actor, ("customer_id", self.id)).await?;
        deletion.cascade_delete::<Order>(connection, actor, ("customer_id", self.id)).await?;
        deletion.cascade_delete::<Feedback>(connection, actor, ("customer_id", self.id)).await?;
        link::cut::<Lead>(connection, actor, self.lead_id).await
    }

    async fn before_restore(&mut self, connection: &mut PgConnection, actor: &Actor) -> Result<()> {
        link::keep_free(connection, actor.workspace_id, std::slice::from_mut(self)).await?;
        Ok(())
    }

    async fn after_restore(&self, connection: &mut PgConnection, actor: &Actor, deletion: &Deletion) -> Result<()> {
        deletion.restore_children::<CustomerInteraction>(connection, actor).await?;
        deletion.restore_children::<Order>(connection, actor).await?;
        deletion.restore_children::<Feedback>(connection, actor).await?;
        link::tie::<Lead>(connection, actor, &link::pairs(std::slice::from_ref(self))).await
    }
}

impl Customer {
    /// The queued emails that a change cancels: all, if the customer was blocked or has a new
    /// address.
    fn cancels(&self, before: &Self) -> Option<Cancel> {
        let blocked = self.status == CustomerStatus::Blocked && before.status != CustomerStatus::Blocked;
        (blocked || self.email.key() != before.email.key()).then_some(Cancel::All)
    }
}
