//! The owners of leads, with their names.

use std::cmp::Reverse;
use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::tally::{Converted, Owners};
use super::{OwnerCount, OwnerMetrics};
use crate::error::Result;
use crate::insight::ratio::Rate;

/// The most owners that are reported.
const MAX_OWNERS: usize = 1_000;

/// An owner and its leads.
struct Owner {
    id: Option<Uuid>,
    name: Option<String>,
    of: Converted,
}

/// The number of leads of each owner.
pub(super) async fn counts(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    owners: &Owners,
) -> Result<Vec<OwnerCount>> {
    let owners = named(connection, workspace_id, owners).await?.into_iter();
    Ok(owners.map(|Owner { id, name, of }| OwnerCount { assigned_to: id, name, leads: of.leads }).collect())
}

/// The leads and conversions of each owner.
pub(super) async fn metrics(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    owners: &Owners,
) -> Result<Vec<OwnerMetrics>> {
    let metrics = |Owner { id, name, of }: Owner| OwnerMetrics {
        assigned_to: id,
        name,
        leads: of.leads,
        conversions: of.conversions,
        rate: Rate::new(of.conversions, of.leads),
    };
    Ok(named(connection, workspace_id, owners).await?.into_iter().map(metrics).collect())
}

/// The owners with the most leads, most first; unassigned leads come after others with as many. Those who are users
/// have names.
async fn named(connection: &mut PgConnection, workspace_id: Uuid, owners: &Owners) -> Result<Vec<Owner>> {
    let mut owners: Vec<(Option<Uuid>, Converted)> = owners.iter().map(|(id, of)| (*id, *of)).collect();
    owners.sort_unstable_by_key(|(id, of)| (Reverse(of.leads), id.is_none(), *id));
    owners.truncate(MAX_OWNERS);
    let ids: Vec<Uuid> = owners.iter().filter_map(|(id, _)| *id).collect();
    let names: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, name FROM users WHERE workspace_id = $1 AND id = ANY ($2)")
            .bind(workspace_id)
            .bind(ids)
            .fetch_all(connection)
            .await?;
    let names: HashMap<Uuid, String> = names.into_iter().collect();
    let name = |id: Option<Uuid>| names.get(&id?).cloned();
    Ok(owners.into_iter().map(|(id, of)| Owner { id, name: name(id), of }).collect())
}
