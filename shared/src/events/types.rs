//! The types of events.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::string_enum;

string_enum! {
    /// What an event is about.
    SubjectType {
        /// A lead.
        Lead = "lead",
        /// A customer.
        Customer = "customer",
        /// An interaction with a lead.
        LeadInteraction = "lead_interaction",
        /// An interaction with a customer.
        CustomerInteraction = "customer_interaction",
        /// An order.
        Order = "order",
        /// A feedback request or its answer.
        Feedback = "feedback",
        /// A user.
        User = "user",
        /// A job.
        Job = "job",
        /// An email.
        Email = "email",
        /// A suppression.
        Suppression = "suppression",
        /// The settings of a workspace, which have the workspace's id.
        Settings = "settings",
        /// An API key.
        ApiKey = "api_key",
        /// A session of the console.
        Session = "session",
        /// A webhook.
        Webhook = "webhook",
        /// A schedule.
        Schedule = "schedule",
        /// An email address whose data was erased.
        Person = "person",
        /// A workspace, which a `ping` is about.
        Workspace = "workspace",
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(as = EventSubject)]
pub struct Subject {
    /// The kind of subject.
    #[serde(rename = "type")]
    pub kind: SubjectType,
    /// Its id.
    pub id: Uuid,
}

/// Declares the types of events: those in the feed, and those that only the audit log shows.
macro_rules! event_types {
    (public: { $($(#[doc = $about:literal])* $public:ident = $word:literal,)+ }
     audited: { $($(#[doc = $hidden_about:literal])* $hidden:ident = $hidden_word:literal,)+ }) => {
        string_enum! {
            /// The type of an event.
            EventType {
                $($(#[doc = $about])* $public = $word,)+
                $($(#[doc = $hidden_about])* $hidden = $hidden_word,)+
            }
        }

        impl EventType {
            /// The types of the feed and of webhooks.
            pub const PUBLIC: &'static [Self] = &[$(Self::$public),+];

            /// The strings of [`EventType::PUBLIC`], in the same order.
            pub const PUBLIC_WORDS: &'static [&'static str] = &[$($word),+];

            /// Whether the feed and webhooks have events of the type; the others are only in the audit log.
            pub const fn is_public(self) -> bool {
                match self {
                    $(Self::$public => true,)+
                    $(Self::$hidden => false,)+
                }
            }
        }
    };
}

event_types! {
    public: {
        /// A lead was created.
        LeadCreated = "lead.created",
        /// A lead was changed.
        LeadUpdated = "lead.updated",
        /// A lead was deleted.
        LeadDeleted = "lead.deleted",
        /// A deleted lead was restored.
        LeadRestored = "lead.restored",
        /// A lead became a customer, or was linked with one.
        LeadConverted = "lead.converted",
        /// A customer was created.
        CustomerCreated = "customer.created",
        /// A customer was changed.
        CustomerUpdated = "customer.updated",
        /// A customer was deleted.
        CustomerDeleted = "customer.deleted",
        /// A deleted customer was restored.
        CustomerRestored = "customer.restored",
        /// An interaction with a lead was created.
        LeadInteractionCreated = "lead_interaction.created",
        /// An interaction with a lead was changed.
        LeadInteractionUpdated = "lead_interaction.updated",
        /// An interaction with a lead was deleted.
        LeadInteractionDeleted = "lead_interaction.deleted",
        /// A deleted interaction with a lead was restored.
        LeadInteractionRestored = "lead_interaction.restored",
        /// An interaction with a customer was created.
        CustomerInteractionCreated = "customer_interaction.created",
        /// An interaction with a customer was changed.
        CustomerInteractionUpdated = "customer_interaction.updated",
        /// An interaction with a customer was deleted.
        CustomerInteractionDeleted = "customer_interaction.deleted",
        /// A deleted interaction with a customer was restored.
        CustomerInteractionRestored = "customer_interaction.restored",
        /// An order was created.
        OrderCreated = "order.created",
        /// An order was changed.
        OrderUpdated = "order.updated",
        /// An order was deleted.
        OrderDeleted = "order.deleted",
        /// A deleted order was restored.
        OrderRestored = "order.restored",
        /// A customer is asked for feedback.
        FeedbackCreated = "feedback.created",
        /// Feedback was changed.
        FeedbackUpdated = "feedback.updated",
        /// A customer answered.
        FeedbackAnswered = "feedback.answered",
        /// Feedback was deleted.
        FeedbackDeleted = "feedback.deleted",
        /// Deleted feedback was restored.
        FeedbackRestored = "feedback.restored",
        /// A user was created.
        UserCreated = "user.created",
        /// A user was changed.
        UserUpdated = "user.updated",
        /// A user was deleted.
        UserDeleted = "user.deleted",
        /// A deleted user was restored.
        UserRestored = "user.restored",
        /// A job wrote records: once a minute while it runs, and at its end.
        JobChanged = "job.changed",
        /// A job succeeded.
        JobSucceeded = "job.succeeded",
        /// A job failed.
        JobFailed = "job.failed",
        /// A job was cancelled.
        JobCancelled = "job.cancelled",
        /// The mail server accepted an email, or an operator says so.
        EmailSent = "email.sent",
        /// The recipient's mail server confirmed the delivery.
        EmailDelivered = "email.delivered",
        /// An email could not be delivered.
        EmailBounced = "email.bounced",
        /// It is not known whether an email was sent.
        EmailUnknown = "email.unknown",
        /// An email was not sent, because its address is suppressed.
        EmailSuppressed = "email.suppressed",
        /// The recipient reported an email as spam.
        EmailComplained = "email.complained",
        /// The recipient answered an email.
        EmailReplied = "email.replied",
        /// An address gets no more email, or less than before.
        SuppressionCreated = "suppression.created",
        /// A suppression was removed.
        SuppressionDeleted = "suppression.deleted",
        /// The settings were changed.
        SettingsUpdated = "settings.updated",
        /// An API key was created.
        ApiKeyCreated = "api_key.created",
        /// An API key was revoked.
        ApiKeyRevoked = "api_key.revoked",
        /// A webhook was disabled, because every delivery of the last days failed.
        WebhookDisabled = "webhook.disabled",
        /// All data about an email address was erased.
        PersonErased = "person.erased",
        /// A test of a webhook.
        Ping = "ping",
    }
    audited: {
        /// A job was requested.
        JobCreated = "job.created",
        /// A job was retried.
        JobRetried = "job.retried",
        /// Someone decided to send an email again.
        EmailResent = "email.resent",
        /// Someone decided that an email was sent.
        EmailMarkedSent = "email.marked_sent",
        /// Someone cancelled an email that waited.
        EmailCancelled = "email.cancelled",
        /// Leads were exported.
        LeadExported = "lead.exported",
        /// Customers were exported.
        CustomerExported = "customer.exported",
        /// Interactions with leads were exported.
        LeadInteractionExported = "lead_interaction.exported",
        /// Interactions with customers were exported.
        CustomerInteractionExported = "customer_interaction.exported",
        /// Orders were exported.
        OrderExported = "order.exported",
        /// Feedback was exported.
        FeedbackExported = "feedback.exported",
        /// Suppressions were exported.
        SuppressionExported = "suppression.exported",
        /// An API key was changed or rotated.
        ApiKeyUpdated = "api_key.updated",
        /// Someone signed in to the console.
        SessionStarted = "session.started",
        /// A session of the console was ended.
        SessionEnded = "session.ended",
        /// A webhook was created.
        WebhookCreated = "webhook.created",
        /// A webhook was changed, or its secret was.
        WebhookUpdated = "webhook.updated",
        /// A webhook was deleted.
        WebhookDeleted = "webhook.deleted",
        /// A schedule was created.
        ScheduleCreated = "schedule.created",
        /// A schedule was changed, paused or resumed.
        ScheduleUpdated = "schedule.updated",
        /// A schedule was deleted.
        ScheduleDeleted = "schedule.deleted",
    }
}

impl EventType {
    /// The part of the type before the point: what it is about, except for `ping`.
    pub fn family(self) -> &'static str {
        self.as_str().split('.').next().unwrap_or_default()
    }
}
