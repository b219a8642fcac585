//! Customers: people and companies that buy.

mod classes;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::bulk::{BulkAction, BulkChanged};
use crate::crm::feedback::Feedback;
use crate::crm::interactions::CustomerInteraction;
use crate::crm::leads::Lead;
use crate::crm::names::{self, NameParts};
use crate::crm::orders::Order;
use crate::error::{Reason, Result};
use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable, RowKey};
use crate::mail::{self, Cancel};
use crate::platform::email_keys;
use crate::query::{ListField, Order as ListOrder, OrderKind, Spec};
use crate::records::history::{Actor, Deletions};
use crate::records::link::{self, Linked};
use crate::records::{FieldFault, Fields, KeyForm, Record, RecordType, Reference, UniqueKey};
use crate::values::json_body::Object;
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Address, Company, CustomFields, Email, ExternalId, Money, Name, Notes, Phone, Summary, TaxId};
use crate::{deleted_list, record, string_enum};

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
        /// The name of the person or company. If it is left out, it is made of `first_name` and
        /// `last_name`. Changing it alone clears both; changing one of them makes it anew, if it was made
        /// of them.
        composed name: Name,
        /// The first name.
        optional first_name: Option<Name>,
        /// The last name.
        optional last_name: Option<Name>,
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
        /// The id of the customer in another system of yours, unique among the workspace's customers.
        optional external_id: Option<ExternalId>,
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
    }
    computed {
        /// The segment, by the orders of the last 24 months; computed within seconds of a change.
        segment: Segment = &classes::SEGMENT,
        /// The health score, from 0 to 100; `null` if too little is known.
        health_score: Option<i16> = &classes::HEALTH,
        /// The band of the health score; `null` if too little is known.
        health_band: Option<Band> = &classes::BAND,
    }
}

impl Linked for Customer {
    type Other = Lead;

    const LINK: &'static str = "lead_id";

    fn link(&self) -> Option<Uuid> {
        self.lead_id
    }

    fn set_link(&mut self, other: Option<Uuid>) {
        self.lead_id = other;
    }
}

impl Importable for Customer {
    const EMAIL: Option<&'static UniqueKey<Self>> = Some(&EMAIL);
    const EXTERNAL_ID: &'static UniqueKey<Self> = &EXTERNAL_ID;
    const KEYS: &'static [RowKey] = RowKey::ALL;
    const HEADERS: Headers = Headers::People;
    const NAMED_BY: &'static [&'static str] = names::NAMED_BY;
    const WORDS: &'static [(&'static str, Table)] = &[("type", Table::Types), ("status", Table::CustomerStatuses)];

    fn row_external_id(changes: &CustomerChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    fn email(changes: &CustomerChanges) -> Option<&Email> {
        changes.email.as_ref()
    }

    fn address(&self) -> Option<&Email> {
        Some(&self.email)
    }

    fn complete(changes: &mut CustomerChanges, _given: &mut Given) {
        names::complete(&mut changes.name, changes.company.value(), changes.email.as_ref());
    }

    fn custom_fields_mut(changes: &mut CustomerChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
    }
}

impl BulkChanged for Customer {
    const JOB: &'static str = "bulk_customers";
    const ACTIONS: &'static [BulkAction] =
        &[BulkAction::Update, BulkAction::Assign, BulkAction::Delete, BulkAction::Restore];
}

/// The email, by which callers and files know a customer.
pub(crate) const EMAIL: UniqueKey<Customer> =
    UniqueKey::email("customers_email_key", "another customer has this email", |customer| Some(customer.email.key()));

/// The lead that became the customer, which is no other one's.
const LEAD_ID: UniqueKey<Customer> = UniqueKey {
    field: "lead_id",
    form: KeyForm::Id,
    column: "lead_id",
    condition: None,
    constraint: "customers_lead_id_key",
    reason: Reason::Taken,
    message: "another customer belongs to this lead",
    of: |customer| customer.lead_id.map(|id| id.to_string()),
};

/// The id by which another system knows a customer.
pub(crate) const EXTERNAL_ID: UniqueKey<Customer> =
    UniqueKey::external_id("customers_external_id_key", "another customer has this external_id", |customer| {
        customer.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

impl Record for Customer {
    const TYPE: RecordType = RecordType::Customer;
    const SEARCHABLE: bool = true;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const UNIQUE: &'static [UniqueKey<Self>] = &[EMAIL, LEAD_ID, EXTERNAL_ID];
    const MATCHED_BY: &'static [&'static str] = &["external_id", "email"];
    const REFERENCES: &'static [Reference<Self>] = &[Reference {
        column: "lead_id",
        table: "leads",
        constraint: "customers_lead_id_fkey",
        of: |customer| customer.lead_id,
    }];
    const CHILDREN: &'static [(&'static str, &'static str)] =
        &[("customer_interactions", "customer_id"), ("orders", "customer_id"), ("feedback", "customer_id")];
    const LINKS: &'static [&'static str] = &["lead_id"];
    const LIST: Spec = Spec {
        table: "customers",
        fields: Self::FIELDS,
        filters: &[
            ListField::new("import_job_id", Kind::Id),
            // An earlier name of `health_band`.
            ListField::joined("health", Kind::Word(Band::WORDS), &classes::BAND),
        ],
        orders: &[
            ListOrder { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            ListOrder { name: "email", expression: email_keys::COLUMN, kind: OrderKind::Text },
        ],
        indexed: &["email", "lead_id", "external_id"],
        searchable: true,
        branches: Some(("status", CustomerStatus::WORDS)),
        only: None,
    };
    const DELETED: Option<Spec> = Some(deleted_list!(
        "customer" in "customers",
        ListField::computed("email", Kind::Email, email_keys::OF_DELETED),
        ListField::computed("import_job_id", Kind::Id, "(former ->> 'import_job_id')::uuid"),
    ));

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

    fn compose(changes: &mut CustomerChanges, present: Option<&Self>) -> Result<(), FieldFault> {
        let present = present.map(|present| NameParts {
            name: &present.name,
            first: present.first_name.as_ref(),
            last: present.last_name.as_ref(),
        });
        let CustomerChanges { name, first_name, last_name, .. } = changes;
        names::compose(name, (first_name, last_name), present)
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

    /// Deletes the customers' interactions, orders and feedback as well, and unlinks their leads.
    async fn before_delete(
        connection: &mut PgConnection,
        actor: &Actor,
        customers: &[Self],
        deletions: &Deletions,
    ) -> Result<()> {
        let cancelled: Vec<_> = customers.iter().map(|customer| (customer.id, Cancel::All)).collect();
        mail::cancel_to_all(connection, actor.workspace_id, Self::TYPE, &cancelled).await?;
        deletions.cascade_delete::<CustomerInteraction>(connection, actor).await?;
        deletions.cascade_delete::<Order>(connection, actor).await?;
        deletions.cascade_delete::<Feedback>(connection, actor).await?;
        link::cut::<Lead>(connection, actor, customers.iter().filter_map(|customer| customer.lead_id)).await
    }

    async fn before_restore(connection: &mut PgConnection, actor: &Actor, customers: &mut [Self]) -> Result<()> {
        link::keep_free(connection, actor.workspace_id, customers).await?;
        Ok(())
    }

    async fn after_restore(
        connection: &mut PgConnection,
        actor: &Actor,
        customers: &[Self],
        deletions: &Deletions,
    ) -> Result<()> {
        deletions.restore_children::<CustomerInteraction>(connection, actor).await?;
        deletions.restore_children::<Order>(connection, actor).await?;
        deletions.restore_children::<Feedback>(connection, actor).await?;
        link::tie::<Lead>(connection, actor, &link::pairs(customers)).await
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
