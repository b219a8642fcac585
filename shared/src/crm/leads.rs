//! Leads: people who may become customers.

mod convert;
mod enrolment;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings;
use crate::bulk::{BulkAction, BulkChanged, Enrolment};
use crate::crm::customers::Customer;
use crate::crm::interactions::LeadInteraction;
use crate::crm::names::{self, NameParts};
use crate::error::Result;
use crate::imports::dictionary::{Headers, Table};
use crate::imports::{Given, Importable, RowKey};
use crate::mail::{self, Cancel, Event};
use crate::platform::{db, email_keys};
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::records::history::{Actor, Deletions};
use crate::records::link::{self, Linked};
use crate::records::{FieldFault, Fields, Outcome, Record, RecordType, UniqueKey};
use crate::values::json_body::Object;
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Company, CustomFields, Email, ExternalId, Name, Notes, Phone, Score, Time};
use crate::{deleted_list, record, string_enum};

pub use convert::{Conversion, convert};
pub use enrolment::{NurtureExit, request_enrolment};

string_enum! {
    /// The source of a lead.
    LeadSource {
        /// A marketing campaign or advertisement.
        Campaign = "campaign",
        /// The company's website.
        Website = "website",
        /// A recommendation.
        Referral = "referral",
        /// Direct contact.
        Direct = "direct",
        /// A social network.
        Social = "social",
        /// An email campaign.
        Email = "email",
        /// Anything else; the default.
        Other = "other",
    }
}

string_enum! {
    /// The stage of a lead.
    LeadStatus {
        /// Not contacted yet; the default.
        New = "new",
        /// Contacted.
        Contacted = "contacted",
        /// Qualified as a potential customer.
        Qualified = "qualified",
        /// Received an offer.
        Proposal = "proposal",
        /// Negotiating an offer.
        Negotiation = "negotiation",
        /// Converted to a customer.
        Converted = "converted",
        /// Will not become a customer.
        Lost = "lost",
        /// Bought.
        Won = "won",
    }
}

record! {
    /// A lead.
    Lead, LeadChanges in "leads" {
        /// The person's name. If it is left out, it is made of `first_name` and `last_name`. Changing it
        /// alone clears both; changing one of them makes it anew, if it was made of them.
        composed name: Name,
        /// The first name.
        optional first_name: Option<Name>,
        /// The last name.
        optional last_name: Option<Name>,
        /// The email address, unique among the workspace's leads.
        required email: Email,
        /// The phone number.
        optional phone: Option<Phone>,
        /// The company that the lead works for.
        optional company: Option<Company>,
        /// The source of the lead.
        defaulted source: LeadSource = LeadSource::Other,
        /// The stage of the lead.
        defaulted status: LeadStatus = LeadStatus::New,
        /// The score, from 0 to 100.
        defaulted score: Score = Score::default(),
        /// Notes.
        optional notes: Option<Notes>,
        /// The campaign's id in another system of yours.
        optional campaign_id: Option<Uuid>,
        /// The user responsible for the lead.
        optional assigned_to: Option<Uuid>,
        /// The customer to which the lead was converted.
        fixed customer_id: Option<Uuid>,
        /// When the lead was last contacted.
        optional last_contact: Option<Time>,
        /// The id of the lead in another system of yours, unique among the workspace's leads.
        optional external_id: Option<ExternalId>,
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
        /// When the lead first became `contacted`.
        fixed contacted_at: Option<Time>,
        /// When the lead first became `qualified`.
        fixed qualified_at: Option<Time>,
        /// When the lead first entered the stage `proposal`.
        fixed proposal_at: Option<Time>,
        /// When the lead first entered the stage `negotiation`.
        fixed negotiation_at: Option<Time>,
        /// When the lead first became `converted`.
        fixed converted_at: Option<Time>,
        /// When the lead first became `won`.
        fixed won_at: Option<Time>,
        /// When the lead first became `lost`.
        fixed lost_at: Option<Time>,
        /// When the lead was enrolled for nurture.
        fixed nurture_enrolled_at: Option<Time>,
        /// When the lead left the nurture sequence.
        fixed nurture_left_at: Option<Time>,
        /// Why the lead left the nurture sequence.
        fixed nurture_left: Option<NurtureExit>,
    }
}

impl Linked for Lead {
    type Other = Customer;

    const LINK: &'static str = "customer_id";

    fn link(&self) -> Option<Uuid> {
        self.customer_id
    }

    fn set_link(&mut self, other: Option<Uuid>) {
        self.customer_id = other;
    }
}

impl Importable for Lead {
    const EMAIL: Option<&'static UniqueKey<Self>> = Some(&EMAIL);
    const EXTERNAL_ID: &'static UniqueKey<Self> = &EXTERNAL_ID;
    const KEYS: &'static [RowKey] = RowKey::ALL;
    const HEADERS: Headers = Headers::People;
    const NAMED_BY: &'static [&'static str] = names::NAMED_BY;
    const WORDS: &'static [(&'static str, Table)] = &[("source", Table::Sources), ("status", Table::Statuses)];
    const CONVERTED: Option<&'static str> = Some(LeadStatus::Converted.as_str());
    const ENROLLED: bool = true;

    fn row_external_id(changes: &LeadChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    fn email(changes: &LeadChanges) -> Option<&Email> {
        changes.email.as_ref()
    }

    fn address(&self) -> Option<&Email> {
        Some(&self.email)
    }

    fn complete(changes: &mut LeadChanges, _given: &mut Given) {
        names::complete(&mut changes.name, changes.company.value(), changes.email.as_ref());
    }

    fn custom_fields_mut(changes: &mut LeadChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
    }

    fn enroll(&mut self, at: Time) {
        self.enroll_new(at);
    }
}

impl BulkChanged for Lead {
    const JOB: &'static str = "bulk_leads";
    const ACTIONS: &'static [BulkAction] = BulkAction::ALL;

    fn check_conversion(set: Object) -> Result<()> {
        convert::check(set)
    }

    async fn convert(
        connection: &mut PgConnection,
        actor: &Actor,
        id: Uuid,
        set: Object,
        dry_run: bool,
    ) -> Result<Outcome> {
        convert::convert_one(connection, actor, id, set, dry_run).await
    }

    async fn enroll(
        connection: &mut PgConnection,
        actor: &Actor,
        ids: &[Uuid],
        enrolment: Enrolment,
        dry_run: bool,
    ) -> Result<Vec<Outcome>> {
        enrolment::request_all(connection, actor, ids, enrolment, dry_run).await
    }
}

impl Lead {
    /// When the lead first reached its current stage; `None` for a new lead.
    fn reached_mut(&mut self) -> Option<&mut Option<Time>> {
        Some(match self.status {
            LeadStatus::New => return None,
            LeadStatus::Contacted => &mut self.contacted_at,
            LeadStatus::Qualified => &mut self.qualified_at,
            LeadStatus::Proposal => &mut self.proposal_at,
            LeadStatus::Negotiation => &mut self.negotiation_at,
            LeadStatus::Converted => &mut self.converted_at,
            LeadStatus::Won => &mut self.won_at,
            LeadStatus::Lost => &mut self.lost_at,
        })
    }
}

/// The email, by which callers and files know a lead.
const EMAIL: UniqueKey<Lead> =
    UniqueKey::email("leads_email_key", "another lead has this email", |lead| Some(lead.email.key()));

/// The id by which another system knows a lead.
pub(crate) const EXTERNAL_ID: UniqueKey<Lead> =
    UniqueKey::external_id("leads_external_id_key", "another lead has this external_id", |lead| {
        lead.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

impl Record for Lead {
    const TYPE: RecordType = RecordType::Lead;
    const SEARCHABLE: bool = true;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const NOT_EXPORTED: &'static [&'static str] = &["nurture_enrolled_at", "nurture_left_at", "nurture_left"];
    const UNIQUE: &'static [UniqueKey<Self>] = &[EMAIL, EXTERNAL_ID];
    const MATCHED_BY: &'static [&'static str] = &["external_id", "email"];
    const CHILDREN: &'static [(&'static str, &'static str)] = &[("lead_interactions", "lead_id")];
    const LIST: Spec = Spec {
        table: "leads",
        fields: Self::FIELDS,
        filters: &[ListField::new("import_job_id", Kind::Id)],
        orders: &[
            Order { name: "created_at", expression: "created_at", kind: OrderKind::Time },
            Order { name: "email", expression: email_keys::COLUMN, kind: OrderKind::Text },
        ],
        indexed: &["email", "external_id"],
        searchable: true,
        branches: Some(("status", LeadStatus::WORDS)),
        only: None,
    };
    const DELETED: Option<Spec> = Some(deleted_list!(
        "lead" in "leads",
        ListField::computed("email", Kind::Email, email_keys::OF_DELETED),
        ListField::computed("import_job_id", Kind::Id, "(former ->> 'import_job_id')::uuid"),
    ));

    fn example() -> Value {
        json!({
            "name": "John Doe",
            "email": "john@example.com",
            "phone": "+1234567890",
            "company": "Acme Corp",
            "source": "website",
            "status": "new",
            "score": 75,
            "notes": "Interested in premium plan"
        })
    }

    fn texts(&self) -> Vec<&str> {
        let optional = [self.company.as_ref().map(AsRef::as_ref), self.phone.as_ref().map(AsRef::as_ref)];
        [self.name.as_ref(), self.email.as_ref()].into_iter().chain(optional.into_iter().flatten()).collect()
    }

    fn compose(changes: &mut LeadChanges, present: Option<&Self>) -> Result<(), FieldFault> {
        let present = present.map(|present| NameParts {
            name: &present.name,
            first: present.first_name.as_ref(),
            last: present.last_name.as_ref(),
        });
        let LeadChanges { name, first_name, last_name, .. } = changes;
        names::compose(name, (first_name, last_name), present)
    }

    /// Enrols new leads, unless the workspace has set otherwise.
    async fn before_create(connection: &mut PgConnection, actor: &Actor, leads: Vec<&mut Self>) -> Result<()> {
        if settings::enrolls_created(connection, actor.workspace_id).await? {
            leads.into_iter().for_each(|lead| lead.enroll_new(lead.created_at));
        }
        Ok(())
    }

    /// Records when the lead first reached its stage, and that it left the sequence with it.
    fn derive_fields(&mut self, before: Option<&Self>) {
        let now = self.updated_at;
        if before.is_none_or(|before| before.status != self.status)
            && let Some(reached) = self.reached_mut()
        {
            reached.get_or_insert(now);
        }
        if let Some(exit) = self.status.exit()
            && before.is_some_and(|before| before.status != self.status)
        {
            self.leave(exit, now);
        }
    }

    async fn after_changes(connection: &mut PgConnection, actor: &Actor, changes: &[(Self, Self)]) -> Result<()> {
        let cancelled = changes.iter().filter_map(|(before, after)| Some((after.id, after.cancels(before)?)));
        let cancelled: Vec<_> = cancelled.collect();
        mail::cancel_to_all(connection, actor.workspace_id, Self::TYPE, &cancelled).await?;
        Ok(())
    }

    fn has_consequences(body: &Object) -> bool {
        body.names("email") || body.names("status")
    }

    /// Deletes the leads' interactions as well, and unlinks their customers.
    async fn before_delete(
        connection: &mut PgConnection,
        actor: &Actor,
        leads: &[Self],
        deletions: &Deletions,
    ) -> Result<()> {
        let cancelled: Vec<_> = leads.iter().map(|lead| (lead.id, Cancel::All)).collect();
        mail::cancel_to_all(connection, actor.workspace_id, Self::TYPE, &cancelled).await?;
        deletions.cascade_delete::<LeadInteraction>(connection, actor).await?;
        link::cut::<Customer>(connection, actor, leads.iter().filter_map(|lead| lead.customer_id)).await
    }

    async fn before_restore(connection: &mut PgConnection, actor: &Actor, leads: &mut [Self]) -> Result<()> {
        // A lead that was deleted before stages were recorded has no time for its own yet.
        leads.iter_mut().for_each(|lead| lead.derive_fields(None));
        let now = db::now();
        leads.iter_mut().for_each(|lead| lead.leave(NurtureExit::Deleted, now));
        link::keep_free(connection, actor.workspace_id, leads).await?;
        Ok(())
    }

    async fn after_restore(
        connection: &mut PgConnection,
        actor: &Actor,
        leads: &[Self],
        deletions: &Deletions,
    ) -> Result<()> {
        deletions.restore_children::<LeadInteraction>(connection, actor).await?;
        link::tie::<Customer>(connection, actor, &link::pairs(leads)).await
    }
}

impl Lead {
    /// The queued emails that a change cancels: all after a new address, and nurture emails once
    /// the lead is won, lost, converted or unenrolled.
    fn cancels(&self, before: &Self) -> Option<Cancel> {
        if self.email.key() != before.email.key() {
            return Some(Cancel::All);
        }
        self.ends_nurture(before).then_some(Cancel::Of(Event::Nurture))
    }
}
