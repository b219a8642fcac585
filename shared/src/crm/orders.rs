//! Orders of customers.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::bulk::{BulkAction, BulkChanged};
use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable};
use crate::platform::db;
use crate::query::{ListField, Order as ListOrder, OrderKind, Spec};
use crate::records::link::Linked;
use crate::records::{Fields, Record, RecordType, Reference, UniqueKey};
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Address, CustomFields, ExternalId, Notes, Quantity, Time};
use crate::{deleted_list, record, string_enum};

string_enum! {
    /// The status of an order.
    OrderStatus {
        /// Received; the default.
        Pending = "pending",
        /// Being processed.
        Processing = "processing",
        /// Shipped to the customer.
        Shipped = "shipped",
        /// Delivered to the customer.
        Delivered = "delivered",
        /// Cancelled.
        Cancelled = "cancelled",
    }
}

record! {
    /// An order.
    Order, OrderChanges in "orders" {
        /// The customer who ordered.
        required customer_id: Uuid,
        /// The product's id in another system of yours.
        required product_id: Uuid,
        /// The quantity.
        required quantity: Quantity,
        /// The order's status.
        defaulted status: OrderStatus = OrderStatus::Pending,
        /// When the order was placed; by default now.
        defaulted order_date: Time = db::now(),
        /// The delivery address.
        optional shipping_address: Option<Address>,
        /// The address of the invoice.
        optional billing_address: Option<Address>,
        /// Notes.
        optional notes: Option<Notes>,
        /// The id of the order in another system of yours, unique among the workspace's orders.
        optional external_id: Option<ExternalId>,
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
    }
}

impl Linked for Order {
    type Other = Self;
}

impl BulkChanged for Order {
    const JOB: &'static str = "bulk_orders";
    const ACTIONS: &'static [BulkAction] = &[BulkAction::Update, BulkAction::Delete, BulkAction::Restore];
}

/// The id by which another system knows an order.
pub(crate) const EXTERNAL_ID: UniqueKey<Order> =
    UniqueKey::external_id("orders_external_id_key", "another order has this external_id", |order| {
        order.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

impl Importable for Order {
    const EXTERNAL_ID: &'static UniqueKey<Self> = &EXTERNAL_ID;
    const HEADERS: Headers = Headers::Orders;
    const WORDS: &'static [(&'static str, Table)] = &[("status", Table::OrderStatuses)];
    const NAMED_IDS: &'static [&'static str] = &["product_id"];
    const NAMED_BY: &'static [&'static str] = &["customer_id", "customer_email", "customer_external_id"];
    const CANCELLED: Option<&'static str> = Some(OrderStatus::Cancelled.as_str());
    const OF_ALL_LINES: &'static [&'static str] = &["status", "order_date", "shipping_address", "billing_address"];

    fn row_external_id(changes: &OrderChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    /// A line without a quantity is one piece.
    fn complete(changes: &mut OrderChanges, _given: &mut Given) {
        changes.quantity.get_or_insert(Quantity::ONE);
    }

    fn custom_fields_mut(changes: &mut OrderChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
    }
}

impl Record for Order {
    const TYPE: RecordType = RecordType::Order;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const UNIQUE: &'static [UniqueKey<Self>] = &[EXTERNAL_ID];
    const MATCHED_BY: &'static [&'static str] = &["external_id"];
    const REFERENCES: &'static [Reference<Self>] = &[Reference {
        column: "customer_id",
        table: "customers",
        constraint: "orders_customer_id_fkey",
        of: |order| Some(order.customer_id),
    }];
    const OWNER: Option<&'static str> = Some("customer_id");
    const LIST: Spec = Spec {
        table: "orders",
        fields: Self::FIELDS,
        filters: &[ListField::new("import_job_id", Kind::Id)],
        orders: &[
            ListOrder { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            ListOrder { name: "order_date", expression: "order_date", kind: OrderKind::Time },
        ],
        indexed: &["customer_id", "external_id"],
        searchable: false,
        branches: Some(("status", OrderStatus::WORDS)),
        only: None,
    };
    const DELETED: Option<Spec> = Some(deleted_list!(
        "order" in "orders",
        ListField::computed("import_job_id", Kind::Id, "(former ->> 'import_job_id')::uuid"),
    ));

    fn example() -> Value {
        json!({
            "customer_id": "019ab3f2-5c11-7d02-8e6b-0f4c2d9b1a37",
            "product_id": "6f1c2b7e-93a4-4c58-b0de-7a5e41c8f290",
            "quantity": 2,
            "status": "pending",
            "order_date": "2024-01-15T10:00:00Z",
            "shipping_address": "123 Main St",
            "billing_address": "123 Main St",
            "notes": "Rush delivery"
        })
    }
}
