//! Interactions with leads and customers, and their next actions.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable};
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::records::link::Linked;
use crate::records::{Fields, Parent, Record, RecordType, UniqueKey};
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{CustomFields, ExternalId, Field, Notes, Summary, Time};
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
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
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
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
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

/// The order of exports, which the primary key serves: an interaction is listed only under its parent.
const BY_ID: Order = Order { name: "id", expression: "id", kind: OrderKind::Id };
/// The filter by the import that created an interaction.
const IMPORT: ListField = ListField::new("import_job_id", Kind::Id);
const BY_CREATION: Order = Order { name: "created_at", expression: "created_at", kind: OrderKind::Time };

/// The id by which another system knows an interaction with a lead.
const LEAD_EXTERNAL_ID: UniqueKey<LeadInteraction> =
    UniqueKey::external_id("lead_interactions_external_id_key", SAME_EXTERNAL_ID, |interaction| {
        interaction.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

impl Linked for LeadInteraction {
    type Other = Self;
}

impl Record for LeadInteraction {
    const TYPE: RecordType = RecordType::LeadInteraction;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const UNIQUE: &'static [UniqueKey<Self>] = &[LEAD_EXTERNAL_ID];
    const PARENT: Option<Parent> = Some(Parent { column: "lead_id", table: "leads" });
    const LIST: Spec = Spec {
        table: "lead_interactions",
        fields: Self::FIELDS,
        filters: &[IMPORT],
        orders: &[BY_CREATION],
        indexed: &[],
        searchable: false,
        branches: None,
        only: None,
    };
    const EXPORT: Spec = Spec { orders: &[BY_ID], indexed: &["lead_id", "external_id"], ..Self::LIST };

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

impl Importable for LeadInteraction {
    const EXTERNAL_ID: &'static UniqueKey<Self> = &LEAD_EXTERNAL_ID;
    const HEADERS: Headers = Headers::Interactions;
    const WORDS: &'static [(&'static str, Table)] = &[("type", Table::InteractionTypes)];
    const NEAREST_WORDS: &'static [(&'static str, &'static str)] =
        &[("support", "note"), ("purchase", "note"), ("other", "note")];
    const RENAMED: &'static [(&'static str, &'static str)] = &[("description", "notes"), ("date", "created_at")];
    const SUPPLIED: &'static [&'static str] = &["type"];
    const NAMED_BY: &'static [&'static str] = &["lead_id", "lead_email", "lead_external_id"];

    fn row_external_id(changes: &LeadInteractionChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    fn complete(changes: &mut LeadInteractionChanges, _given: &mut Given) {
        changes.kind.get_or_insert(LeadInteractionType::Note);
    }

    fn custom_fields_mut(changes: &mut LeadInteractionChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
    }
}

impl Importable for CustomerInteraction {
    const EXTERNAL_ID: &'static UniqueKey<Self> = &CUSTOMER_EXTERNAL_ID;
    const HEADERS: Headers = Headers::Interactions;
    const WORDS: &'static [(&'static str, Table)] = &[("type", Table::InteractionTypes)];
    const NEAREST_WORDS: &'static [(&'static str, &'static str)] = &[("note", "other")];
    const RENAMED: &'static [(&'static str, &'static str)] = &[("notes", "description")];
    const SUPPLIED: &'static [&'static str] = &["type", "subject"];
    const NAMED_BY: &'static [&'static str] = &["customer_id", "customer_email", "customer_external_id"];

    fn row_external_id(changes: &CustomerInteractionChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    /// The subject is the first line of the description, else the type. It took place when it was recorded.
    fn complete(changes: &mut CustomerInteractionChanges, given: &mut Given) {
        let kind = *changes.kind.get_or_insert(CustomerInteractionType::Other);
        if changes.subject.is_none() {
            let description = changes.description.value().map(AsRef::as_ref).unwrap_or_default();
            let first = description.lines().map(str::trim).find(|line| !line.is_empty());
            let short = |line: &str| Summary::from_text(&line.replace('\t', " ").chars().take(200).collect::<String>());
            let subject = first.and_then(|line| short(line).ok());
            changes.subject = subject.or_else(|| Summary::from_text(kind.as_str()).ok());
        }
        changes.date = changes.date.or(given.created_at);
    }

    fn custom_fields_mut(changes: &mut CustomerInteractionChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
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

/// The id by which another system knows an interaction with a customer.
const CUSTOMER_EXTERNAL_ID: UniqueKey<CustomerInteraction> =
    UniqueKey::external_id("customer_interactions_external_id_key", SAME_EXTERNAL_ID, |interaction| {
        interaction.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

impl Linked for CustomerInteraction {
    type Other = Self;
}

impl Record for CustomerInteraction {
    const TYPE: RecordType = RecordType::CustomerInteraction;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const UNIQUE: &'static [UniqueKey<Self>] = &[CUSTOMER_EXTERNAL_ID];
    const PARENT: Option<Parent> = Some(Parent { column: "customer_id", table: "customers" });
    const LIST: Spec = Spec {
        table: "customer_interactions",
        fields: Self::FIELDS,
        filters: &[IMPORT],
        orders: &[BY_CREATION, Order { name: "date", expression: "date", kind: OrderKind::Time }],
        indexed: &[],
        searchable: false,
        branches: None,
        only: None,
    };
    const EXPORT: Spec = Spec { orders: &[BY_ID], indexed: &["customer_id", "external_id"], ..Self::LIST };

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
