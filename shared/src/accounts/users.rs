//! Users: the people of a workspace, who are responsible for leads and customers.
//!
//! A record names its user in `assigned_to`, and users receive their digests by email. `assigned_to` may
//! also name a person of another system, who is not a user here.

use serde_json::{Value, json};

use crate::error::Reason;
use crate::query::{Order, OrderKind, Spec};
use crate::record;
use crate::records::{Fields, KeyForm, Record, RecordType, UniqueKey};
use crate::values::{Email, Name, email_key};

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
const EMAIL: UniqueKey<User> = UniqueKey {
    field: "email",
    form: KeyForm::Email,
    expression: email_key!("email"),
    condition: None,
    constraint: "users_email_key",
    reason: Reason::Taken,
    message: "another user has this email",
    of: |user| Some(user.email.key()),
};

impl Record for User {
    const TYPE: RecordType = RecordType::User;
    const UNIQUE: &'static [UniqueKey<Self>] = &[EMAIL];
    const LIST: Spec = Spec {
        table: "users",
        fields: Self::FIELDS,
        filters: &[],
        orders: &[
            Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            Order { name: "email", expression: email_key!("email"), kind: OrderKind::Text },
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
