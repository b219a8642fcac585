//! Orders: what customers bought.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::platform::db;
use crate::query::{Filter, FilterKind, Order as ListOrder, OrderKind, Spec};
use crate::records::{Record, RecordType, Reference};
use crate::values::{Address, Notes, Quantity, Time};
use crate::{record, string_enum};

string_enum! {
    /// How far an order is.
    OrderStatus {
        /// It came in.
        Pending = "pending",
        /// Somebody works on it.
        Processing = "processing",
        /// It is on its way.
        Shipped = "shipped",
        /// It is there.
        Delivered = "delivered",
        /// It was called off.
        Cancelled = "cancelled",
    }
}

record! {
    /// An order as callers see it.
    Order, OrderChanges in "orders" {
        /// Who ordered.
        required customer_id: Uuid,
        /// What: a product in another system of the caller's.
        required product_id: Uuid,
        /// How many of it.
        required quantity: Quantity,
        /// How far it is.
        defaulted status: OrderStatus = OrderStatus::Pending,
        /// When it was ordered; now, if nothing is said.
        defaulted order_date: Time = db::now(),
        /// Where it goes.
        optional shipping_address: Option<Address>,
        /// Where the invoice goes.
        optional billing_address: Option<Address>,
        /// Free text.
        optional notes: Option<Notes>,
    }
}

impl Record for Order {
    const TYPE: RecordType = RecordType::Order;
    const REFERENCES: &'static [Reference<Self>] = &[Reference {
        column: "customer_id",
        table: "customers",
        constraint: "orders_customer_id_fkey",
        of: |order| Some(order.customer_id),
    }];
    const OWNER: Option<&'static str> = Some("customer_id");
    const LIST: Spec = Spec {
        table: "orders",
        filters: &[
            Filter { name: "status", kind: FilterKind::Word(OrderStatus::WORDS) },
            Filter { name: "customer_id", kind: FilterKind::Id },
            Filter { name: "product_id", kind: FilterKind::Id },
            Filter { name: "quantity", kind: FilterKind::Number },
            Filter { name: "order_date", kind: FilterKind::Time },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[
            ListOrder { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            ListOrder { name: "order_date", expression: "order_date", kind: OrderKind::Time },
        ],
        indexed: &["customer_id"],
        searchable: false,
        branches: Some(("status", OrderStatus::WORDS)),
    };

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
