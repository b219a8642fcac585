//! The link between a lead and the customer it was converted to.
//!
//! The customer's `lead_id` and the lead's `customer_id` are the two sides of one link: a lead has at
//! most one customer, and a customer at most one lead. This module writes both sides in the same
//! transaction.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::bulk;
use super::model::{Fields, Record};
use crate::error::Result;
use crate::events::Actor;
use crate::platform::db;

/// A record that can be linked to a record of another kind. A kind without links is its own `Other`.
pub trait Linked: Record {
    /// The other kind.
    type Other: Linked<Other = Self>;

    /// The column of the link.
    const LINK: &'static str = "";

    /// The id of the linked record.
    fn link(&self) -> Option<Uuid> {
        None
    }

    /// Sets the id of the linked record.
    fn set_link(&mut self, _other: Option<Uuid>) {}
}

/// Returns the ids of the linked records, each with the id of the other side.
pub fn pairs<L: Linked>(records: &[L]) -> Vec<(Uuid, Uuid)> {
    records.iter().filter_map(|record| record.link().map(|other| (record.id(), other))).collect()
}

/// Removes links that are not possible, because the other record does not exist, or is linked to
/// another record or to an earlier one of these records. Returns the number of removed links.
pub async fn keep_free<L: Linked>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    records: &mut [L],
) -> Result<usize> {
    let others: Vec<Uuid> = records.iter().filter_map(L::link).collect();
    if others.is_empty() {
        return Ok(0);
    }
    let found: Vec<L::Other> = bulk::lock(connection, workspace_id, &others).await?;
    let held: HashMap<Uuid, Option<Uuid>> = found.iter().map(|other| (other.id(), other.link())).collect();
    let (mut claimed, mut removed) = (HashSet::new(), 0);
    for record in records {
        let Some(other) = record.link() else { continue };
        let free = held.get(&other).is_some_and(|link| link.is_none() || *link == Some(record.id()));
        if !free || !claimed.insert(other) {
            record.set_link(None);
            removed += 1;
        }
    }
    Ok(removed)
}

/// Writes the other side of links, given as pairs of an `L::Other` and the `L` to write.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if an `L` is linked to another record.
pub async fn tie<L: Linked>(connection: &mut PgConnection, actor: &Actor, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    tie_with::<L>(connection, actor, pairs, true).await
}

/// Like [`tie`], for links that an import restores: they are no change of the other record, so its `updated_at`
/// stays.
///
/// # Errors
/// As [`tie`].
pub async fn restore<L: Linked>(connection: &mut PgConnection, actor: &Actor, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    tie_with::<L>(connection, actor, pairs, false).await
}

async fn tie_with<L: Linked>(
    connection: &mut PgConnection,
    actor: &Actor,
    pairs: &[(Uuid, Uuid)],
    is_change: bool,
) -> Result<()> {
    let ids: Vec<Uuid> = pairs.iter().map(|(_, id)| *id).collect();
    let others: HashMap<Uuid, Uuid> = pairs.iter().map(|(other, id)| (*id, *other)).collect();
    rewrite::<L>(connection, actor, &ids, |id| others.get(&id).copied(), is_change).await
}

/// Removes the links from records whose other sides are deleted or linked to other records.
pub async fn cut<L: Linked>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    rewrite::<L>(connection, actor, &ids, |_| None, true).await
}

async fn rewrite<L: Linked>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
    link: impl Fn(Uuid) -> Option<Uuid>,
    is_change: bool,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let present: Vec<L> = bulk::lock(connection, actor.workspace_id, ids).await?;
    let now = db::now();
    let changed = present.into_iter().map(|before| {
        let mut after = before.clone();
        after.set_link(link(before.id()));
        if is_change {
            after.touch(now);
        }
        (before, after)
    });
    let changed: Vec<(L, L)> = changed.filter(|(before, after)| before.link() != after.link()).collect();
    bulk::update_all(connection, actor, &changed).await
}
