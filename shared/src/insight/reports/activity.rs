//! The recent activity of a workspace.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::dashboard::Scope;
use crate::crm::customers::Customer;
use crate::crm::leads::Lead;
use crate::crm::orders::Order;
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::query::{self, List};
use crate::records::Record;
use crate::string_enum;

/// The number of activities reported.
const MAX: usize = 20;
/// The number of records of each type among which those that match a filter are found.
const FILTERED: u32 = 1_000;

string_enum! {
    /// The type of an activity.
    ActivityType {
        /// A lead was created.
        LeadCreated = "lead_created",
        /// A customer was created.
        CustomerCreated = "customer_created",
        /// An order was created.
        OrderCreated = "order_created",
        /// An interaction with a lead was recorded.
        LeadInteraction = "lead_interaction",
        /// An interaction with a customer was recorded.
        CustomerInteraction = "customer_interaction",
    }
}

/// An activity: a record that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, FromRow)]
pub struct Activity {
    /// When the record was created.
    pub at: DateTime<Utc>,
    /// The type of the activity.
    #[serde(rename = "type")]
    pub kind: ActivityType,
    /// The id of the record.
    pub id: Uuid,
    /// The lead that the activity is about, if any.
    pub lead_id: Option<Uuid>,
    /// The customer that the activity is about, if any.
    pub customer_id: Option<Uuid>,
    /// The name of the lead or customer, or the subject of the interaction.
    pub summary: Option<String>,
}

/// The latest activities, newest first. With a filter, those among the last thousand of each type.
pub(super) async fn recent(connection: &mut PgConnection, scope: Scope<'_>) -> Result<Vec<Activity>> {
    let Scope { workspace_id, filters } = scope;
    let limit = if filters.is_empty() { MAX as u32 } else { FILTERED };
    let mut all: Vec<Activity> = Vec::new();
    for Lead { id, name, created_at, .. } in newest(connection, workspace_id, limit).await? {
        let lead = Activity::new(created_at, ActivityType::LeadCreated, id);
        all.push(Activity { lead_id: Some(id), summary: Some(name.as_ref().to_owned()), ..lead });
    }
    for Customer { id, name, created_at, .. } in newest(connection, workspace_id, limit).await? {
        let customer = Activity::new(created_at, ActivityType::CustomerCreated, id);
        all.push(Activity { customer_id: Some(id), summary: Some(name.as_ref().to_owned()), ..customer });
    }
    for Order { id, customer_id, created_at, .. } in newest(connection, workspace_id, limit).await? {
        let order = Activity::new(created_at, ActivityType::OrderCreated, id);
        all.push(Activity { customer_id: Some(customer_id), ..order });
    }
    all.extend(interactions(connection, workspace_id, limit).await?);
    if !filters.is_empty() {
        let matching = matching(connection, scope, &all).await?;
        let mut counts: HashMap<ActivityType, usize> = HashMap::new();
        all.retain(|activity| {
            let is_matching = activity.about().is_some_and(|id| matching.contains(&id));
            let count = counts.entry(activity.kind).or_default();
            *count += usize::from(is_matching);
            is_matching && *count <= MAX
        });
    }
    all.sort_by_key(|activity| std::cmp::Reverse((activity.at, activity.id)));
    all.truncate(MAX);
    Ok(all)
}

/// The leads and customers of the activities that match the filters.
async fn matching(connection: &mut PgConnection, scope: Scope<'_>, all: &[Activity]) -> Result<HashSet<Uuid>> {
    let Scope { workspace_id, filters } = scope;
    let ids: Vec<Uuid> = all.iter().filter_map(Activity::about).collect();
    let mut sql = Sql::new("SELECT id FROM leads WHERE workspace_id = ");
    sql.push_bind(workspace_id).push(" AND id = ANY (").push_bind(ids.clone()).push(")");
    filters.push_leads(&mut sql);
    sql.push(" UNION ALL SELECT id FROM customers WHERE workspace_id = ").push_bind(workspace_id);
    sql.push(" AND id = ANY (").push_bind(ids).push(")");
    filters.push_customers(&mut sql, workspace_id);
    let matching: Vec<Uuid> = sql.build_query_scalar().fetch_all(connection).await?;
    Ok(matching.into_iter().collect())
}

impl Activity {
    fn new(at: DateTime<Utc>, kind: ActivityType, id: Uuid) -> Self {
        Self { at, kind, id, lead_id: None, customer_id: None, summary: None }
    }

    /// The lead or customer that it is about.
    fn about(&self) -> Option<Uuid> {
        self.lead_id.or(self.customer_id)
    }
}

/// The newest records of a type, in the default order of their list.
async fn newest<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, limit: u32) -> Result<Vec<R>> {
    let list = List::parse(const { &R::LIST }, workspace_id, &[])?;
    Ok(query::fetch(connection, &list, workspace_id, R::columns(), limit).await?.records)
}

/// The newest interactions, by id: they have no index by time alone, and ids increase with time.
async fn interactions(connection: &mut PgConnection, workspace_id: Uuid, limit: u32) -> Result<Vec<Activity>> {
    Ok(sqlx::query_as(
        "(SELECT created_at AS at, 'lead_interaction' AS kind, id, lead_id, NULL::uuid AS customer_id, type AS summary
          FROM lead_interactions WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2)
         UNION ALL
         (SELECT created_at, 'customer_interaction', id, NULL, customer_id, subject
          FROM customer_interactions WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(workspace_id)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?)
}
