//! The feedback dashboard: analytics, open requests, latest answers and themes.

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BY_CATEGORY, BY_INTERVAL, DISTRIBUTION, FILTERS, FeedbackFigures, Scope, figures};
use crate::accounts::settings;
use crate::crm::feedback::{Feedback, MAX_REMINDERS};
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;
use crate::insight::reports::Report;
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::insight::themes::{self, Theme};
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
    /// The period.
    pub period: Period,
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
#[derive(Debug, Clone, Copy)]
pub struct FeedbackDashboardReport;

impl Report for FeedbackDashboardReport {
    const NAME: &'static str = "feedback/dashboard";
    const OFFERS: Offers = Offers { period: true, interval: true, filters: FILTERS };
    const TABLES: &'static [Table] = &[
        Table { name: "by_interval", at: "/analytics/by_interval", rows: BY_INTERVAL },
        Table { name: "by_category", at: "/analytics/by_category", rows: BY_CATEGORY },
        Table { name: "distribution", at: "/analytics/distribution", rows: DISTRIBUTION },
        Table { name: "themes", at: "/themes", rows: themes::ROWS },
        Table {
            name: "latest_answers",
            at: "/latest_answers",
            rows: Rows::Items(&["id", "customer_id", "rating", "comment", "category", "requested_at", "answered_at"]),
        },
    ];
    type Figures = FeedbackDashboard;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<FeedbackDashboard>> {
        let filters = request.filters.with_spellings(connection, workspace_id).await?;
        let scope = Scope { workspace_id, filters: &filters };
        let open_requests = open_requests(connection, scope, as_of).await?;
        let latest_answers = latest_answers(connection, scope).await?;
        let mut all = Vec::new();
        for (period, before) in request.with_those_before() {
            let themes = themes::of_period(connection, workspace_id, as_of, (period, before), &filters, THEMES).await?;
            all.push(FeedbackDashboard {
                as_of,
                period: period.clone(),
                analytics: figures(connection, scope, as_of, period).await?,
                open_requests,
                latest_answers: latest_answers.clone(),
                themes: themes.themes,
            });
        }
        Ok(all)
    }
}

async fn open_requests(connection: &mut PgConnection, scope: Scope<'_>, as_of: Time) -> Result<OpenRequests> {
    let days = settings::get(connection, scope.workspace_id).await?.feedback_reminder_after_days;
    let waited = as_of - Duration::days(days.into());
    let mut sql = Sql::new(
        "SELECT count(*), min(requested_at) AS oldest_requested_at,
             count(*) FILTER (WHERE greatest(last_reminder_at, requested_at) <= ",
    );
    sql.push_bind(waited).push(" AND reminders < ").push_bind(MAX_REMINDERS).push(") AS due_reminders");
    sql.push(", count(*) FILTER (WHERE greatest(last_reminder_at, requested_at) <= ").push_bind(waited);
    sql.push(" AND reminders >= ").push_bind(MAX_REMINDERS).push(") AS due_to_expire");
    sql.push(" FROM feedback WHERE workspace_id = ").push_bind(scope.workspace_id).push(" AND status = 'requested'");
    scope.push(&mut sql);
    Ok(sql.build_query_as().fetch_one(connection).await?)
}

async fn latest_answers(connection: &mut PgConnection, scope: Scope<'_>) -> Result<Vec<Feedback>> {
    let columns = Feedback::COLUMN_LIST;
    let mut sql = Sql::new(format!("SELECT {columns} FROM feedback WHERE workspace_id = "));
    sql.push_bind(scope.workspace_id).push(" AND answered_at IS NOT NULL");
    scope.push(&mut sql);
    sql.push(" ORDER BY answered_at DESC, id DESC LIMIT ").push_bind(LATEST);
    Ok(sql.build_query_as().fetch_all(connection).await?)
}
