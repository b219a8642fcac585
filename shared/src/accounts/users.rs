//! Users: the people of a workspace, who are responsible for leads and customers.
//!
//! A record names its user in `assigned_to`, and users receive their digests by email. `assigned_to` may
//! also name a person of another system, who is not a user here.

use serde_json::{Value, json};

use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::record;
use crate::records::{Record, RecordType};
use crate::values::{Email, Name};

record! {
    /// A user as callers see it.
    User, UserChanges in "users" {
        /// The name of the user.
        required name: Name,
        /// The address of the user's emails; unique among the workspace's users.
        required email: Email,
    }
}

impl Record for User {
    const TYPE: RecordType = RecordType::User;
    const UNIQUE: &'static [(&'static str, &'static str, &'static str)] =
        &[("email", "lower(email COLLATE \"C\")", "text")];
    const LIST: Spec = Spec {
        table: "users",
        filters: &[
            Filter { name: "email", kind: FilterKind::Email },
            Filter { name: "name", kind: FilterKind::Text },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[
            Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            Order { name: "email", expression: "lower(email COLLATE \"C\")", kind: OrderKind::Text },
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
