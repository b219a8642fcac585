//! The link between a lead and the customer it became.
//!
//! The customer's `lead_id` and the lead's `customer_id` say the same from both sides: a lead has at
//! most one customer, and a customer at most one lead. Whoever writes one side writes the other in
//! the same transaction, through this module.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::actor::Actor;
use super::bulk;
use super::model::{Fields, Record};
use crate::error::Result;
use crate::platform::db;

/// A record that can be linked with one of the other kind. For a kind without links, `Other` is itself.
pub trait Linked: Record {
    /// The other kind.
    type Other: Linked<Other = Self>;

    /// The other's id.
    fn link(&self) -> Option<Uuid> {
        None
    }

    /// Writes the other's id.
    fn set_link(&mut self, _other: Option<Uuid>) {}
}

/// The records that have a link, each with the other's id.
pub fn pairs<L: Linked>(records: &[L]) -> Vec<(Uuid, Uuid)> {
    records.iter().filter_map(|record| record.link().map(|other| (record.id(), other))).collect()
}

/// Takes from records the links they cannot have: the other record does not exist here, or is
/// linked with another one, or with an earlier one of these. Returns how many were taken.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
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
    let (mut claimed, mut taken) = (HashSet::new(), 0);
    for record in records {
        let Some(other) = record.link() else { continue };
        let free = held.get(&other).is_some_and(|link| link.is_none() || *link == Some(record.id()));
        if !free || !claimed.insert(other) {
            record.set_link(None);
            taken += 1;
        }
    }
    Ok(taken)
}

/// Writes the other side of links: each pair is a record of `L::Other` and its `L`, whose side is
/// written.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if the `L` is linked with another one.
pub async fn tie<L: Linked>(connection: &mut PgConnection, actor: &Actor, pairs: &[(Uuid, Uuid)]) -> Result<()> {
    let ids: Vec<Uuid> = pairs.iter().map(|(_, id)| *id).collect();
    let others: HashMap<Uuid, Uuid> = pairs.iter().map(|(other, id)| (*id, *other)).collect();
    rewrite::<L>(connection, actor, &ids, |id| others.get(&id).copied()).await
}

/// Takes the link from a record, as its other is deleted or linked elsewhere.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn cut<L: Linked>(connection: &mut PgConnection, actor: &Actor, id: Option<Uuid>) -> Result<()> {
    rewrite::<L>(connection, actor, id.as_slice(), |_| None).await
}

async fn rewrite<L: Linked>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
    link: impl Fn(Uuid) -> Option<Uuid>,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let present: Vec<L> = bulk::lock(connection, actor.workspace_id, ids).await?;
    let now = db::now();
    let changed = present.into_iter().map(|before| {
        let mut after = before.clone();
        after.set_link(link(before.id()));
        after.touch(now);
        (before, after)
    });
    let changed: Vec<(L, L)> = changed.filter(|(before, after)| before.link() != after.link()).collect();
    bulk::update_all(connection, actor, &changed).await
}
