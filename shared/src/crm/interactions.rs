//! Interactions: what was said and done with a lead or a customer, and what comes next.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::records::{Parent, Record, RecordType};
use crate::values::{Notes, Summary, Time};
use crate::{record, string_enum};

string_enum! {
    /// What was done with a lead.
    LeadInteractionType {
        /// Somebody called.
        Call = "call",
        /// Somebody wrote.
        Email = "email",
        /// People met.
        Meeting = "meeting",
        /// Something to remember.
        Note = "note",
    }
}

string_enum! {
    /// What was done with a customer.
    CustomerInteractionType {
        /// Somebody wrote.
        Email = "email",
        /// Somebody called.
        Call = "call",
        /// People met.
        Meeting = "meeting",
        /// They needed help.
        Support = "support",
        /// They bought.
        Purchase = "purchase",
        /// Anything else.
        Other = "other",
    }
}

record! {
    /// An interaction with a lead, as callers see it.
    LeadInteraction, LeadInteractionChanges in "lead_interactions" {
        /// The lead.
        parent lead_id: Uuid,
        /// What was done.
        required kind as "type": LeadInteractionType,
        /// What is worth keeping of it.
        optional notes: Option<Notes>,
        /// What is to be done next.
        optional next_action: Option<Summary>,
        /// By when.
        optional next_action_date: Option<Time>,
        /// When its owner was told of the next action; changing the action or its date makes it due again.
        fixed followed_up_at: Option<Time>,
        /// The mail of the nurture sequence that it tells of; without one, a caller recorded it.
        fixed email_id: Option<Uuid>,
    }
}

record! {
    /// An interaction with a customer, as callers see it.
    CustomerInteraction, CustomerInteractionChanges in "customer_interactions" {
        /// The customer.
        parent customer_id: Uuid,
        /// What was done.
        required kind as "type": CustomerInteractionType,
        /// What it was about.
        required subject: Summary,
        /// What is worth keeping of it.
        optional description: Option<Notes>,
        /// When it took place.
        required date: Time,
        /// How it ended.
        optional outcome: Option<Summary>,
        /// What is to be done next.
        optional next_action: Option<Summary>,
        /// By when.
        optional next_action_date: Option<Time>,
        /// When its owner was told of the next action; changing the action or its date makes it due again.
        fixed followed_up_at: Option<Time>,
    }
}

/// What follow-ups need of both kinds of interactions.
pub(crate) trait Interaction: Record {
    /// What it is with.
    const WITH: &'static str;

    /// The lead or the customer.
    fn parent_id(&self) -> Uuid;
    /// What it was about.
    fn subject(&self) -> Option<&str>;
    /// What is to be done next, and by when.
    fn next(&self) -> (Option<&Summary>, Option<Time>);
    /// When its owner was told of that.
    fn followed_up_at(&self) -> Option<Time>;
    /// Says that its owner is told of it.
    fn follow_up(&mut self, at: Time);

    /// Whether the next action's date has passed by that time, and nobody was told of it yet.
    fn is_due(&self, by: Time) -> bool {
        self.followed_up_at().is_none() && self.next().1.is_some_and(|date| date <= by)
    }
}

const BY_CREATION: Order = Order { name: "created_at", expression: "created_at", kind: OrderKind::Time };

impl Record for LeadInteraction {
    const TYPE: RecordType = RecordType::LeadInteraction;
    const PARENT: Option<Parent> = Some(Parent { column: "lead_id", table: "leads" });
    const LIST: Spec = Spec {
        table: "lead_interactions",
        filters: &[
            Filter { name: "type", kind: FilterKind::Word(LeadInteractionType::WORDS) },
            Filter { name: "next_action_date", kind: FilterKind::Time },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[BY_CREATION],
        indexed: &[],
        searchable: false,
        branches: None,
    };

    fn example() -> Value {
        json!({
            "type": "call",
            "notes": "Discussed pricing and features",
            "next_action": "Send proposal",
            "next_action_date": "2024-01-15T10:00:00Z"
        })
    }

    fn derive_fields(&mut self, before: Option<&Self>) {
        if before.is_some_and(|before| before.next() != self.next()) {
            self.followed_up_at = None;
        }
    }
}

impl Interaction for LeadInteraction {
    const WITH: &'static str = "lead";

    fn parent_id(&self) -> Uuid {
        self.lead_id
    }

    fn subject(&self) -> Option<&str> {
        None
    }

    fn next(&self) -> (Option<&Summary>, Option<Time>) {
        (self.next_action.as_ref(), self.next_action_date)
    }

    fn followed_up_at(&self) -> Option<Time> {
        self.followed_up_at
    }

    fn follow_up(&mut self, at: Time) {
        self.followed_up_at = Some(at);
    }
}

impl Record for CustomerInteraction {
    const TYPE: RecordType = RecordType::CustomerInteraction;
    const PARENT: Option<Parent> = Some(Parent { column: "customer_id", table: "customers" });
    const LIST: Spec = Spec {
        table: "customer_interactions",
        filters: &[
            Filter { name: "type", kind: FilterKind::Word(CustomerInteractionType::WORDS) },
            Filter { name: "date", kind: FilterKind::Time },
            Filter { name: "next_action_date", kind: FilterKind::Time },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[BY_CREATION, Order { name: "date", expression: "date", kind: OrderKind::Time }],
        indexed: &[],
        searchable: false,
        branches: None,
    };

    fn example() -> Value {
        json!({
            "type": "call",
            "subject": "Product Discussion",
            "description": "Discussed new features and pricing",
            "date": "2024-01-15T10:00:00Z",
            "outcome": "positive",
            "next_action": "Send proposal",
            "next_action_date": "2024-01-20T10:00:00Z"
        })
    }

    fn derive_fields(&mut self, before: Option<&Self>) {
        if before.is_some_and(|before| before.next() != self.next()) {
            self.followed_up_at = None;
        }
    }
}

impl Interaction for CustomerInteraction {
    const WITH: &'static str = "customer";

    fn parent_id(&self) -> Uuid {
        self.customer_id
    }

    fn subject(&self) -> Option<&str> {
        Some(self.subject.as_ref())
    }

    fn next(&self) -> (Option<&Summary>, Option<Time>) {
        (self.next_action.as_ref(), self.next_action_date)
    }

    fn followed_up_at(&self) -> Option<Time> {
        self.followed_up_at
    }

    fn follow_up(&mut self, at: Time) {
        self.followed_up_at = Some(at);
    }
}
