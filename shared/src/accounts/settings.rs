//! The settings of a workspace: who its mails come from, what they say, and when they go.

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
use crate::mail::Event;
use crate::mail::senders;
use crate::mail::templates::{self, Template, Templates, shipped_sequence};
use crate::platform::config;
use crate::values::etag::Condition;
use crate::values::json_body::Object;
use crate::values::{Email, Name};

pub(crate) use overrides::Overrides;
pub use schema::update_schema;
pub use sender::sender;
pub use values::{Days, LocalTime, TimeZone};

/// The settings of a workspace, with the program's defaults where it has set nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Who mails come from; `None` is the program's own `mail.from`.
    pub sender_name: Option<Name>,
    /// The address mails come from; `None` is the program's own `mail.from`.
    pub sender_email: Option<Email>,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<Email>,
    /// Who is told what belongs to no user of the workspace.
    pub notification_email: Option<Email>,
    /// When the nightly run begins, by the clocks of `time_zone`.
    pub nightly_at: LocalTime,
    /// Whose days and clocks the workspace goes by.
    pub time_zone: TimeZone,
    /// What leads are sent, in this order.
    pub nurture_sequence: Vec<SequenceStep>,
    /// Days after which a customer who has not answered is asked again.
    pub feedback_reminder_after_days: u16,
    /// What the other mails say.
    pub templates: Templates,
}

/// A step of the sequence that leads are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
pub struct SequenceStep {
    /// Lasts: a lead gets each step once, ever.
    pub id: Uuid,
    /// Days to wait after the step before, or after the lead was made if it is the first one.
    pub delay_days: u16,
    /// One line in Jinja's syntax, at most 200 characters.
    pub subject: String,
    /// Plain text in Jinja's syntax, at most 10,000 characters.
    pub body: String,
}

/// Days to wait before a step.
pub type Delay = Days<0, 3650>;
/// Days to wait for an answer.
pub type Patience = Days<1, 365>;
/// The most steps that a sequence has. It may have none: then leads are sent nothing.
pub const MAX_STEPS: usize = 50;

/// The shipped steps, which have the same ids in every workspace, and their delays.
const SHIPPED_STEPS: [(Uuid, u16); 3] = [
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
            nurture_sequence: steps.collect(),
            feedback_reminder_after_days: 3,
            templates: Templates::default(),
        }
    }
}

impl Settings {
    /// Every template, each under the name by which it is rendered: the id of its step, or its event.
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

/// The settings of a workspace; the defaults where nothing is set.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Settings> {
    let set: Option<Json<Overrides>> = sqlx::query_scalar("SELECT fields FROM settings WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?;
    Ok(set.map(|Json(overrides)| overrides).unwrap_or_default().settings())
}

/// Changes the settings that the body of a request names; `null` sets the default. Needs a transaction:
/// who changes settings at the same moment waits, so that changes of different ones are both kept.
///
/// # Errors
/// [`Error::Changed`](crate::Error::Changed) if the condition does not hold;
/// [`Error::Invalid`](crate::Error::Invalid) with every fault of the body.
pub async fn update(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    body: Object,
    condition: &Condition,
    mail: &config::Mail,
) -> Result<Settings> {
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
    // Templates are read and tried on the way.
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
            .execute(connection)
            .await?;
    }
    Ok(overrides.settings())
}
