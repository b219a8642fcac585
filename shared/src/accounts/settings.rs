//! The settings of a workspace: the sender of its emails, their templates, and its schedule.

mod change;
mod overrides;
mod schema;
mod sender;
mod values;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::mail::templates::{self, Template, Templates, shipped_sequence};
use crate::mail::{self, Event, senders};
use crate::platform::config;
use crate::values::etag::{Condition, Tagged};
use crate::values::hours::{Days, Hours};
use crate::values::json_body::Object;
use crate::values::{Email, Name};

pub(crate) use overrides::Overrides;
pub use schema::update_schema;
pub use sender::sender;
pub use values::{LocalTime, TimeZone, Whole};

/// The settings of a workspace; those that it has not set have the program's defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// The sender's name; `None` means `mail.from_name`.
    pub sender_name: Option<Name>,
    /// The sender's address; `None` means `mail.from_email`.
    pub sender_email: Option<Email>,
    /// The address for replies, if it is not the sender's.
    pub reply_to: Option<Email>,
    /// The recipient of notifications about records that are assigned to no user.
    pub notification_email: Option<Email>,
    /// The local time of the nightly run, in `time_zone`.
    pub nightly_at: LocalTime,
    /// The time zone of the workspace's dates and times.
    pub time_zone: TimeZone,
    /// The hours in which bulk emails leave; `None` means any time.
    pub send_between: Option<Hours>,
    /// The days on which bulk emails leave; `None` means any day.
    pub send_on: Option<Days>,
    /// The most emails of a run that nobody asked for at that moment; 0 means any number.
    pub max_emails_per_run: u32,
    /// The emails that leads receive, in this order.
    pub nurture_sequence: Vec<SequenceStep>,
    /// Whether leads that are created through the API are enrolled for nurture.
    pub nurture_enroll_created: bool,
    /// The days without an answer after which a customer is reminded of a feedback request.
    pub feedback_reminder_after_days: u32,
    /// The templates of the other emails.
    pub templates: Templates,
}

impl Tagged for Settings {}

/// A step of the nurture sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
pub struct SequenceStep {
    /// A permanent id: a lead receives the step with this id at most once.
    pub id: Uuid,
    /// Days to wait after the previous step, or, for the first step, after the lead was enrolled.
    pub delay_days: u32,
    /// A Jinja template of one line, at most 200 characters.
    pub subject: String,
    /// A Jinja template of plain text, at most 10,000 characters.
    pub body: String,
}

/// Days to wait before a step.
pub type Delay = Whole<0, 3650>;
/// Days to wait for an answer.
pub type Patience = Whole<1, 365>;
/// The most emails of a run.
pub type MaxEmails = Whole<0, 10_000_000>;
/// The most steps of a sequence. A sequence may be empty: leads then receive no emails.
pub const MAX_STEPS: usize = 50;

/// The default of [`Settings::nurture_enroll_created`].
const ENROLL_CREATED: bool = true;

/// The ids of the shipped steps, which are the same in every workspace, and their delays.
const SHIPPED_STEPS: [(Uuid, u32); 3] = [
    (Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0001), 0),
    (Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0002), 3),
    (Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0003), 7),
];

impl Default for Settings {
    fn default() -> Self {
        let steps = SHIPPED_STEPS.into_iter().zip(shipped_sequence()).map(|((id, delay_days), template)| {
            SequenceStep { id, delay_days, subject: template.subject, body: template.body }
        });
        Self {
            sender_name: None,
            sender_email: None,
            reply_to: None,
            notification_email: None,
            nightly_at: LocalTime::default(),
            time_zone: TimeZone::default(),
            send_between: None,
            send_on: None,
            max_emails_per_run: 20_000,
            nurture_sequence: steps.collect(),
            nurture_enroll_created: ENROLL_CREATED,
            feedback_reminder_after_days: 3,
            templates: Templates::default(),
        }
    }
}

impl Settings {
    /// Every template with its name, which is the id of the step or the event.
    pub fn all_templates(&self) -> Vec<(String, Event, Template)> {
        let steps = self.nurture_sequence.iter().map(|step| {
            let template = Template { subject: step.subject.clone(), body: step.body.clone() };
            (step.id.to_string(), Event::Nurture, template)
        });
        let others = Event::ALL
            .iter()
            .filter_map(|event| Some((event.as_str().to_owned(), *event, self.templates.get(*event)?.clone())));
        steps.chain(others).collect()
    }
}

/// Reads the settings of a workspace.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Settings> {
    let set: Option<Json<Overrides>> = sqlx::query_scalar("SELECT fields FROM settings WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(set.map(|Json(overrides)| overrides).unwrap_or_default().settings())
}

/// Whether the workspace enrols leads that are created through the API.
pub(crate) async fn enrolls_created(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    let set: Option<Option<bool>> = sqlx::query_scalar(
        "SELECT (fields ->> 'nurture_enroll_created')::boolean FROM settings WHERE workspace_id = $1",
    )
    .bind(workspace_id)
    .fetch_optional(connection)
    .await?;
    Ok(set.flatten().unwrap_or(ENROLL_CREATED))
}

/// Changes the settings that the body of a request names; `null` resets a setting to its default. Needs a
/// transaction, which locks the settings, so that concurrent changes of different settings both take effect.
///
/// # Errors
/// [`Error::Changed`](crate::Error::Changed) if the condition does not hold;
/// [`Error::Invalid`](crate::Error::Invalid) with every fault of the body.
pub async fn update(
    connection: &mut PgConnection,
    actor: &Actor,
    body: Object,
    condition: &Condition,
    mail: &config::Mail,
) -> Result<Settings> {
    let workspace_id = actor.workspace_id;
    sqlx::query(
        "INSERT INTO settings (workspace_id, fields, updated_at) VALUES ($1, '{}', now()) ON CONFLICT DO NOTHING",
    )
    .bind(workspace_id)
    .execute(&mut *connection)
    .await?;
    let Json(present): Json<Overrides> =
        sqlx::query_scalar("SELECT fields FROM settings WHERE workspace_id = $1 FOR UPDATE")
            .bind(workspace_id)
            .fetch_one(&mut *connection)
            .await?;
    condition.check(&present.clone().settings())?;
    let domains = senders::Domains::of_workspace(connection, workspace_id, mail).await?;
    let mut overrides = present.clone();
    // Changing settings parses and renders templates, which takes time.
    let overrides = templates::aside(move || {
        overrides.change(body, &domains)?;
        overrides.prune();
        Ok::<_, Error>(overrides)
    })
    .await??;
    if overrides != present {
        sqlx::query("UPDATE settings SET fields = $2, updated_at = now() WHERE workspace_id = $1")
            .bind(workspace_id)
            .bind(Json(&overrides))
            .execute(&mut *connection)
            .await?;
    }
    if overrides.window() != present.window() {
        mail::reconsider(connection, workspace_id).await?;
    }
    let is_changed = overrides != present;
    let settings = overrides.settings();
    if is_changed {
        let subject = Subject { kind: SubjectType::Settings, id: workspace_id };
        let updated = NewEvent::new(EventType::SettingsUpdated, subject, &settings)?;
        events::record(connection, actor, vec![updated]).await?;
    }
    Ok(settings)
}
