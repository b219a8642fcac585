//! `/dev/crm/customers`

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use shared::Error;
use shared::accounts::scopes::Scope;
use shared::crm::customers::Customer;
use shared::crm::interactions::CustomerInteraction;
use shared::insight::health::{self, CustomerHealth, SnapshotHealth};
use shared::insight::scoring::{self, Freshness};
use shared::insight::segments::SegmentReport;
use shared::insight::table;
use shared::platform::db::Transaction;
use shared::queue::Payload;
use shared::records::Record;
use uuid::Uuid;

use super::{records, reports};
use crate::AppState;
use crate::extract::{Path, Query, Under};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;

const INTERACTIONS: &str = "/customers/{customerId}/interactions";
const INTERACTION: &str = "/customers/{customerId}/interactions/{interactionId}";

pub(crate) fn operations() -> Vec<Operation> {
    let customers = [
        Operation::get("/customers", list)
            .needs(Scope::RecordsRead)
            .named("list", "List customers")
            .lists_records::<Customer>(),
        Operation::post("/customers", records::create::<Customer>)
            .needs(Scope::RecordsWrite)
            .named("create", "Create a customer")
            .creates::<Customer>(),
        Operation::get("/customers/export", export)
            .needs(Scope::RecordsRead)
            .named("export", "Export customers as CSV")
            .exports::<Customer>(),
        Operation::post("/customers/batch", records::batch::<Customer>)
            .needs(Scope::RecordsWrite)
            .named("batch", "Create and update many customers")
            .writes_many::<Customer>(),
        Operation::get("/customers/{customerId}", records::read::<Customer>)
            .needs(Scope::RecordsRead)
            .named("get", "Get a customer")
            .reads::<Customer>(),
        Operation::put("/customers/{customerId}", records::update::<Customer>)
            .needs(Scope::RecordsWrite)
            .named("update", "Update a customer")
            .updates::<Customer>(),
        Operation::delete("/customers/{customerId}", records::delete::<Customer>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete a customer")
            .about(
                "Also deletes the customer's interactions, orders and feedback, but not its lead. The customer can be \
                 restored for 30 days.",
            )
            .deletes(),
        Operation::get("/customers/{customerId}/history", records::history::<Customer>)
            .needs(Scope::RecordsRead)
            .named("history", "List the changes of a customer")
            .lists_history(),
        Operation::post("/customers/{customerId}/restore", records::restore::<Customer>)
            .needs(Scope::RecordsWrite)
            .named("restore", "Restore a deleted customer")
            .restores::<Customer>("The restored customer. Everything that was deleted with it is restored as well."),
    ];
    let insight = [
        Operation::get("/customers/segments", segments)
            .needs(Scope::RecordsRead)
            .named("segments", "Count customers by segment")
            .about(
                "Every customer is in exactly one segment, by the recency, frequency and quantity of their orders in the \
                 last 24 months.",
            )
            .reports::<SegmentReport>(),
        Operation::get("/customers/{customerId}/health", health)
            .needs(Scope::RecordsRead)
            .named("health", "Get customer health")
            .about("Today's score from 0 to 100, its components, and its history by day.")
            .with([parameters::of_table(health::TABLES)])
            .returns_or_csv::<CustomerHealth>("The score, its components and its history."),
    ];
    let interactions = [
        Operation::get(INTERACTIONS, records::list::<CustomerInteraction>)
            .needs(Scope::RecordsRead)
            .named("list", "List the interactions with a customer")
            .lists_records::<CustomerInteraction>(),
        Operation::get("/customers/interactions/export", records::export::<CustomerInteraction>)
            .needs(Scope::RecordsRead)
            .named("export", "Export interactions with customers as CSV")
            .exports::<CustomerInteraction>(),
        Operation::post(INTERACTIONS, records::create::<CustomerInteraction>)
            .needs(Scope::RecordsWrite)
            .named("create", "Record an interaction with a customer")
            .creates::<CustomerInteraction>(),
        Operation::get(INTERACTION, records::read::<CustomerInteraction>)
            .needs(Scope::RecordsRead)
            .named("get", "Get an interaction with a customer")
            .reads::<CustomerInteraction>(),
        Operation::put(INTERACTION, records::update::<CustomerInteraction>)
            .needs(Scope::RecordsWrite)
            .named("update", "Update an interaction with a customer")
            .updates::<CustomerInteraction>(),
        Operation::delete(INTERACTION, records::delete::<CustomerInteraction>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete an interaction with a customer")
            .deletes(),
    ];
    let nouns =
        [tagged("Customers", customers), tagged("Customers", insight), tagged("Customer interactions", interactions)];
    nouns.into_iter().flatten().collect()
}

async fn list(state: State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    refresh_for(&state, caller.workspace_id, &query.0).await?;
    records::list::<Customer>(state, caller, Under(None), uri, query).await
}

async fn export(state: State<AppState>, caller: Caller, query: Query) -> Result {
    refresh_for(&state, caller.workspace_id, &query.0).await?;
    records::export::<Customer>(state, caller, query).await
}

async fn segments(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    reports::answer(&state, &caller, &headers, &query, SegmentReport).await
}

async fn health(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    headers: HeaderMap,
    Query(parameters): Query,
) -> Result {
    let table = table::parse(reports::format(&headers, health::TABLES), &parameters)?;
    let health = health::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    match table {
        Some(table) => {
            let figures = serde_json::to_value(&health).map_err(Error::from)?;
            reports::file("customers-health", table, &figures)
        }
        None => Ok(reports::json(serde_json::to_string(&health).map_err(Error::from)?)),
    }
}

/// Refreshes the scores for a list that is filtered or sorted by them. Later pages use the scores as they are.
pub(super) async fn refresh_for(state: &AppState, workspace_id: Uuid, parameters: &[(String, String)]) -> Result<()> {
    let is_later_page = parameters.iter().any(|(name, _)| name == "cursor");
    if (const { &Customer::LIST }).reads_joined(parameters) && !is_later_page {
        refresh_if_cheap(state, workspace_id).await?;
    }
    Ok(())
}

/// Refreshes the scores if few are stale.
pub(super) async fn refresh_if_cheap(state: &AppState, workspace_id: Uuid) -> Result<()> {
    let mut transaction = Transaction::begin(&state.pool).await?;
    match scoring::refresh_if_cheap(&mut transaction, workspace_id).await {
        Ok(Freshness::Queued) => {
            transaction.commit().await?;
            state.notifier.notify(SnapshotHealth::QUEUE);
        }
        Ok(Freshness::Fresh | Freshness::Busy) => transaction.commit().await?,
        // A write conflicted. The scores stay stale, and the report uses them as they are.
        Err(Error::Repeat(_)) => transaction.rollback().await?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
