//! Interactions with leads and customers, and their next actions.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::query::{Order, OrderKind, Spec};
use crate::records::{Fields, Parent, Record, RecordType, UniqueKey};
use crate::values::{ExternalId, Notes, Summary, Time};
use crate::{record, string_enum};

string_enum! {
    /// The type of an interaction with a lead.
    LeadInteractionType {
        /// A phone call.
        Call = "call",
        /// An email.
        Email = "email",
        /// A meeting.
        Meeting = "meeting",
        /// A note.
        Note = "note",
    }
}

string_enum! {
    /// The type of an interaction with a customer.
    CustomerInteractionType {
        /// An email.
        Email = "email",
        /// A phone call.
        Call = "call",
        /// A meeting.
        Meeting = "meeting",
        /// A support request.
        Support = "support",
        /// A purchase.
        Purchase = "purchase",
        /// Anything else.
        Other = "other",
    }
}

record! {
    /// An interaction with a lead.
    LeadInteraction, LeadInteractionChanges in "lead_interactions" {
        /// The lead.
        parent lead_id: Uuid,
        /// The type of the interaction.
        required kind as "type": LeadInteractionType,
        /// Notes.
        optional notes: Option<Notes>,
        /// The next action to take.
        optional next_action: Option<Summary>,
        /// When the next action is due.
        optional next_action_date: Option<Time>,
        /// The id of the interaction in another system of yours, unique among the workspace's interactions
        /// with leads.
        optional external_id: Option<ExternalId>,
        /// When the responsible user was notified of the next action. Changing the action or its
        /// date resets it.
        fixed followed_up_at: Option<Time>,
        /// The nurture email that this interaction records; `null` if a client recorded the
        /// interaction.
        fixed email_id: Option<Uuid>,
    }
}

record! {
    /// An interaction with a customer.
    CustomerInteraction, CustomerInteractionChanges in "customer_interactions" {
        /// The customer.
        parent customer_id: Uuid,
        /// The type of the interaction.
        required kind as "type": CustomerInteractionType,
        /// The subject.
        required subject: Summary,
        /// The description.
        optional description: Option<Notes>,
        /// When the interaction took place.
        required date: Time,
        /// The outcome.
        optional outcome: Option<Summary>,
        /// The next action to take.
        optional next_action: Option<Summary>,
        /// When the next action is due.
        optional next_action_date: Option<Time>,
        /// The id of the interaction in another system of yours, unique among the workspace's interactions
        /// with customers.
        optional external_id: Option<ExternalId>,
        /// When the responsible user was notified of the next action. Changing the action or its
        /// date resets it.
        fixed followed_up_at: Option<Time>,
    }
}

/// The parts of both types of interactions that follow-ups need.
pub(crate) trait Interaction: Record {
    /// `lead` or `customer`.
    const WITH: &'static str;

    /// The id of the lead or customer.
    fn parent_id(&self) -> Uuid;
    fn subject(&self) -> Option<&str>;
    /// The next action and its due date.
    fn next(&self) -> (Option<&Summary>, Option<Time>);
    /// When the responsible user was notified of the next action.
    fn followed_up_at(&self) -> Option<Time>;
    /// Records that the responsible user was notified.
    fn follow_up(&mut self, at: Time);

    /// Whether the next action is due by that time and nobody was notified yet.
    fn is_due(&self, by: Time) -> bool {
        self.followed_up_at().is_none() && self.next().1.is_some_and(|date| date <= by)
    }
}

const SAME_EXTERNAL_ID: &str = "another interaction has this external_id";

const BY_CREATION: Order = Order { name: "created_at", expression: "created_at", kind: OrderKind::Time };

impl Record for LeadInteraction {
    const TYPE: RecordType = RecordType::LeadInteraction;
    const UNIQUE: &'static [UniqueKey<Self>] =
        &[UniqueKey::external_id("lead_interactions_external_id_key", SAME_EXTERNAL_ID, |interaction| {
            interaction.external_id.as_ref().map(|id| id.as_ref().to_owned())
        })];
    const PARENT: Option<Parent> = Some(Parent { column: "lead_id", table: "leads" });
    const LIST: Spec = Spec {
        table: "lead_interactions",
        fields: Self::FIELDS,
        filters: &[],
        orders: &[BY_CREATION],
        indexed: &[],
        searchable: false,
        branches: None,
        only: None,
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
    const UNIQUE: &'static [UniqueKey<Self>] =
        &[UniqueKey::external_id("customer_interactions_external_id_key", SAME_EXTERNAL_ID, |interaction| {
            interaction.external_id.as_ref().map(|id| id.as_ref().to_owned())
        })];
    const PARENT: Option<Parent> = Some(Parent { column: "customer_id", table: "customers" });
    const LIST: Spec = Spec {
        table: "customer_interactions",
        fields: Self::FIELDS,
        filters: &[],
        orders: &[BY_CREATION, Order { name: "date", expression: "date", kind: OrderKind::Time }],
        indexed: &[],
        searchable: false,
        branches: None,
        only: None,
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
