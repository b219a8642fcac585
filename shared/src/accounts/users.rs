//! Users: the people of a workspace, who look after leads and customers.
//!
//! They are those that `assigned_to` names, and their digests go to their addresses. A record may name
//! somebody of another system, who is no user here.

use serde_json::{Value, json};

use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::record;
use crate::records::{Record, RecordType};
use crate::values::{Email, Name, email_key};

record! {
    /// A user as callers see it.
    User, UserChanges in "users" {
        /// What they are called.
        required name: Name,
        /// Where their mails go; unique among the workspace's users.
        required email: Email,
    }
}

impl Record for User {
    const TYPE: RecordType = RecordType::User;
    const UNIQUE: &'static [(&'static str, &'static str, &'static str)] = &[("email", email_key!("email"), "text")];
    const LIST: Spec = Spec {
        table: "users",
        filters: &[
            Filter { name: "email", kind: FilterKind::Email(email_key!("email")) },
            Filter { name: "name", kind: FilterKind::Text },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[
            Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            Order { name: "email", expression: email_key!("email"), kind: OrderKind::Text },
        ],
        indexed: &["email"],
        searchable: false,
        branches: None,
    };

    fn example() -> Value {
        json!({ "name": "Grace Hopper", "email": "grace@example.com" })
    }

    fn keys(&self) -> Vec<Option<String>> {
        vec![Some(self.email.key())]
    }
}
