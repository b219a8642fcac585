//! The feedback dashboard: analytics, open requests, latest answers and themes.

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FeedbackFigures, figures};
use crate::accounts::settings;
use crate::crm::feedback::{Feedback, MAX_REMINDERS};
use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::reports::Report;
use crate::insight::themes::{Theme, ThemesReport};
use crate::records::Fields;
use crate::values::Time;

/// The number of answers shown.
const LATEST: i64 = 10;
/// The number of themes shown; `/feedback/themes` lists all of them.
const THEMES: usize = 5;

/// The feedback dashboard.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackDashboard {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The feedback analytics of the period.
    pub analytics: FeedbackFigures,
    /// The requests that are open now.
    pub open_requests: OpenRequests,
    /// The latest answers, newest first.
    pub latest_answers: Vec<Feedback>,
    /// The five most significant themes of the period.
    pub themes: Vec<Theme>,
}

/// The requests that are open now: neither answered nor expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, FromRow)]
pub struct OpenRequests {
    /// The number of open requests.
    pub count: i64,
    /// When the oldest open request was sent.
    pub oldest_requested_at: Option<DateTime<Utc>>,
    /// The number of open requests that are due for a reminder.
    pub due_reminders: i64,
    /// The number of open requests that are due to expire after the last reminder.
    pub due_to_expire: i64,
}

/// The report of [`FeedbackDashboard`].
#[derive(Debug)]
pub struct FeedbackDashboardReport {
    /// The period of the figures.
    pub period: Period,
}

impl Report for FeedbackDashboardReport {
    const NAME: &'static str = "feedback/dashboard";
    type Figures = FeedbackDashboard;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
    ) -> Result<FeedbackDashboard> {
        dashboard(connection, workspace_id, as_of, &self.period).await
    }
}

async fn dashboard(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    as_of: Time,
    period: &Period,
) -> Result<FeedbackDashboard> {
    let themes = ThemesReport { period: period.clone(), limit: THEMES };
    Ok(FeedbackDashboard {
        as_of,
        analytics: figures(connection, workspace_id, as_of, period).await?,
        open_requests: open_requests(connection, workspace_id, as_of).await?,
        latest_answers: latest_answers(connection, workspace_id).await?,
        themes: themes.compute(connection, workspace_id, as_of).await?.themes,
    })
}

async fn open_requests(connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<OpenRequests> {
    let days = settings::get(connection, workspace_id).await?.feedback_reminder_after_days;
    Ok(sqlx::query_as(
        "SELECT count(*), min(requested_at) AS oldest_requested_at,
             count(*) FILTER (WHERE greatest(last_reminder_at, requested_at) <= $2 AND reminders < $3) AS due_reminders,
             count(*) FILTER (WHERE greatest(last_reminder_at, requested_at) <= $2 AND reminders >= $3) AS due_to_expire
         FROM feedback WHERE workspace_id = $1 AND status = 'requested'",
    )
    .bind(workspace_id)
    .bind(as_of - Duration::days(days.into()))
    .bind(MAX_REMINDERS)
    .fetch_one(connection)
    .await?)
}

async fn latest_answers(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Feedback>> {
    let columns = Feedback::COLUMN_LIST;
    let latest = format!(
        "SELECT {columns} FROM feedback WHERE workspace_id = $1 AND answered_at IS NOT NULL
         ORDER BY answered_at DESC, id DESC LIMIT $2"
    );
    Ok(sqlx::query_as(AssertSqlSafe(latest)).bind(workspace_id).bind(LATEST).fetch_all(connection).await?)
}
