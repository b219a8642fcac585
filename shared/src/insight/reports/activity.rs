//! The recent activity of a workspace.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::crm::customers::Customer;
use crate::crm::leads::Lead;
use crate::crm::orders::Order;
use crate::error::Result;
use crate::query::{self, List};
use crate::records::Record;
use crate::string_enum;

/// The number of activities reported.
const MAX: u32 = 20;

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

/// The latest activities, newest first.
pub(super) async fn recent(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Activity>> {
    let mut all: Vec<Activity> = Vec::new();
    for Lead { id, name, created_at, .. } in newest(connection, workspace_id).await? {
        let lead = Activity::new(created_at, ActivityType::LeadCreated, id);
        all.push(Activity { lead_id: Some(id), summary: Some(name.as_ref().to_owned()), ..lead });
    }
    for Customer { id, name, created_at, .. } in newest(connection, workspace_id).await? {
        let customer = Activity::new(created_at, ActivityType::CustomerCreated, id);
        all.push(Activity { customer_id: Some(id), summary: Some(name.as_ref().to_owned()), ..customer });
    }
    for Order { id, customer_id, created_at, .. } in newest(connection, workspace_id).await? {
        let order = Activity::new(created_at, ActivityType::OrderCreated, id);
        all.push(Activity { customer_id: Some(customer_id), ..order });
    }
    all.extend(interactions(connection, workspace_id).await?);
    all.sort_by_key(|activity| std::cmp::Reverse((activity.at, activity.id)));
    all.truncate(MAX as usize);
    Ok(all)
}

impl Activity {
    fn new(at: DateTime<Utc>, kind: ActivityType, id: Uuid) -> Self {
        Self { at, kind, id, lead_id: None, customer_id: None, summary: None }
    }
}

/// The newest records of a type, in the default order of their list.
async fn newest<R: Record>(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<R>> {
    let list = List::parse(const { &R::LIST }, workspace_id, &[])?;
    Ok(query::fetch(connection, &list, workspace_id, R::columns(), MAX).await?.records)
}

/// The newest interactions, by id: they have no index by time alone, and ids increase with time.
async fn interactions(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Activity>> {
    Ok(sqlx::query_as(
        "(SELECT created_at AS at, 'lead_interaction' AS kind, id, lead_id, NULL::uuid AS customer_id, type AS summary
          FROM lead_interactions WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2)
         UNION ALL
         (SELECT created_at, 'customer_interaction', id, NULL, customer_id, subject
          FROM customer_interactions WHERE workspace_id = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(workspace_id)
    .bind(i64::from(MAX))
    .fetch_all(connection)
    .await?)
}
