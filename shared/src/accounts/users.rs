//! Users: the people of a workspace, who are responsible for leads and customers.
//!
//! A record names its user in `assigned_to`, and users receive their digests by email. `assigned_to` may
//! also name a person of another system, who is not a user here.

use serde_json::{Value, json};

use crate::platform::email_keys;
use crate::query::{Order, OrderKind, Spec};
use crate::record;
use crate::records::{Fields, Record, RecordType, UniqueKey};
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

/// The email, which no two users share.
const EMAIL: UniqueKey<User> =
    UniqueKey::email("users_email_key", "another user has this email", |user| Some(user.email.key()));

impl Record for User {
    const TYPE: RecordType = RecordType::User;
    const UNIQUE: &'static [UniqueKey<Self>] = &[EMAIL];
    const LIST: Spec = Spec {
        table: "users",
        fields: Self::FIELDS,
        filters: &[],
        orders: &[
            Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            Order { name: "email", expression: email_keys::COLUMN, kind: OrderKind::Text },
        ],
        indexed: &["email"],
        searchable: false,
        branches: None,
        only: None,
    };

    fn example() -> Value {
        json!({ "name": "Grace Hopper", "email": "grace@example.com" })
    }
}
