//! The orders and interactions of customers, packed into one value for each customer.
//!
//! A value is written together with the scores, and so it lacks what changed since: the records of stale customers
//! are read themselves. Reports about the orders of all customers then read a tenth of the rows, in any period.

use futures_util::TryStreamExt;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use crate::crm::orders::OrderStatus;
use crate::error::{Error, Result};
use crate::insight::filters::{Filters, Sql};
use crate::values::Time;

/// The most records that are packed. A customer with more is read from the records, so that a new order does not
/// rewrite a large value.
const MAX_RECORDS: usize = 500;
/// The customers whose records are read by one statement.
const RECORDS_PAGE: usize = 1_000;

/// The sizes of a packed order and interaction in bytes.
const ORDER: usize = 17;
const INTERACTION: usize = 8;

/// An order of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedOrder {
    /// The date of the order, in microseconds since 1970.
    pub at: i64,
    /// The quantity.
    pub quantity: i64,
    /// The status.
    pub status: OrderStatus,
}

/// The orders and interactions of a customer.
#[derive(Debug, Clone, Copy)]
pub struct Activity<'a> {
    orders: &'a [u8],
    interactions: &'a [u8],
}

impl<'a> Activity<'a> {
    /// The orders, in no particular order.
    pub fn orders(&self) -> impl Iterator<Item = PlacedOrder> + use<'a> {
        self.orders.chunks_exact(ORDER).filter_map(|order| {
            let (at, rest) = number(order)?;
            let (quantity, rest) = number(rest)?;
            let status = *OrderStatus::ALL.get(usize::from(*rest.first()?))?;
            Some(PlacedOrder { at, quantity, status })
        })
    }

    /// The dates of the interactions in microseconds since 1970, in no particular order.
    pub fn interactions(&self) -> impl Iterator<Item = i64> + use<'a> {
        self.interactions.chunks_exact(INTERACTION).filter_map(|at| number(at).map(|(at, _)| at))
    }

    /// Reads the first of several packed values; returns the others.
    fn split(packed: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (orders, rest) = length(packed)?;
        let (interactions, rest) = length(rest)?;
        let (orders, rest) = rest.split_at_checked(orders.checked_mul(ORDER)?)?;
        let (interactions, rest) = rest.split_at_checked(interactions.checked_mul(INTERACTION)?)?;
        Some((Self { orders, interactions }, rest))
    }
}

fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (i64::from_be_bytes(*number), rest))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_be_bytes(*length)).ok()?, rest))
}

/// The orders and interactions of a customer, as the database returns them.
#[derive(Debug, Clone, Default, PartialEq, Eq, FromRow)]
pub(super) struct ActivityRecords {
    pub ordered_at: Vec<Time>,
    pub quantities: Vec<i64>,
    pub statuses: Vec<String>,
    pub met_at: Vec<Time>,
}

impl ActivityRecords {
    /// The orders.
    pub fn orders(&self) -> impl Iterator<Item = (Time, i64, OrderStatus)> {
        let status = |word: &String| OrderStatus::ALL.iter().copied().find(|status| status.as_str() == word);
        let orders = self.ordered_at.iter().zip(&self.quantities).zip(&self.statuses);
        orders.filter_map(move |((at, quantity), word)| Some((*at, *quantity, status(word)?)))
    }

    /// The packed value; `None` for too many records.
    pub fn packed(&self) -> Option<Vec<u8>> {
        (self.ordered_at.len() + self.met_at.len() <= MAX_RECORDS).then(|| self.pack())
    }

    fn pack(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(8 + ORDER * self.ordered_at.len() + INTERACTION * self.met_at.len());
        for length in [self.ordered_at.len(), self.met_at.len()] {
            packed.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        for (at, quantity, status) in self.orders() {
            packed.extend(at.timestamp_micros().to_be_bytes());
            packed.extend(quantity.to_be_bytes());
            let number = OrderStatus::ALL.iter().position(|other| *other == status);
            packed.push(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
        }
        self.met_at.iter().for_each(|at| packed.extend(at.timestamp_micros().to_be_bytes()));
        packed
    }
}

/// Calls `visit` with the activity of each customer who matches the filters and has orders or interactions, as they
/// are in the snapshot of the transaction.
pub(in crate::insight) async fn each_activity(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    filters: &Filters,
    mut visit: impl FnMut(Activity<'_>) + Send,
) -> Result<()> {
    let stale = stale(connection, workspace_id).await?;
    let mut of_records = packed(connection, workspace_id, filters, &stale, &mut visit).await?;
    of_records.extend(stale);
    for ids in of_records.chunks(RECORDS_PAGE) {
        for records in records(connection, workspace_id, filters, ids).await? {
            visit_all(&records.pack(), &mut visit)?;
        }
    }
    Ok(())
}

/// The customers whose packed values are not up to date.
async fn stale(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("SELECT DISTINCT customer_id FROM stale_customers WHERE workspace_id = $1")
        .bind(workspace_id)
        .fetch_all(connection)
        .await?)
}

/// Visits the packed values of customers who are not stale; returns the customers without a value.
async fn packed(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    filters: &Filters,
    stale: &[Uuid],
    visit: &mut (impl FnMut(Activity<'_>) + Send),
) -> Result<Vec<Uuid>> {
    let mut sql = Sql::new(
        "SELECT scores.activity, CASE WHEN scores.activity IS NULL THEN scores.customer_id END
         FROM customer_scores AS scores WHERE scores.workspace_id = ",
    );
    sql.push_bind(workspace_id);
    if !stale.is_empty() {
        sql.push(" AND scores.customer_id <> ALL (").push_bind(stale.to_vec()).push(")");
    }
    filters.push_scored(&mut sql, workspace_id);
    let mut without = Vec::new();
    let mut rows = sql.build().fetch(connection);
    while let Some(row) = rows.try_next().await? {
        match row.try_get::<Option<&[u8]>, _>(0)? {
            Some(value) => visit_all(value, visit)?,
            None => without.push(row.try_get(1)?),
        }
    }
    Ok(without)
}

fn visit_all(mut values: &[u8], visit: &mut impl FnMut(Activity<'_>)) -> Result<()> {
    while !values.is_empty() {
        let (activity, rest) =
            Activity::split(values).ok_or_else(|| Error::internal("a packed activity is incomplete"))?;
        visit(activity);
        values = rest;
    }
    Ok(())
}

/// The records of those of the customers who match the filters.
async fn records(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    filters: &Filters,
    ids: &[Uuid],
) -> Result<Vec<ActivityRecords>> {
    let mut sql = Sql::new("SELECT placed.ordered_at, placed.quantities, placed.statuses, met.met_at FROM unnest(");
    sql.push_bind(ids.to_vec());
    sql.push(
        "::uuid[]) AS wanted (id)
         CROSS JOIN LATERAL (
             SELECT coalesce(array_agg(order_date), '{}') AS ordered_at, coalesce(array_agg(quantity), '{}') AS quantities,
                 coalesce(array_agg(status), '{}') AS statuses
             FROM orders WHERE workspace_id = ",
    );
    sql.push_bind(workspace_id);
    sql.push(
        " AND customer_id = wanted.id
         ) AS placed
         CROSS JOIN LATERAL (
             SELECT coalesce(array_agg(date), '{}') AS met_at FROM customer_interactions WHERE workspace_id = ",
    );
    sql.push_bind(workspace_id).push(" AND customer_id = wanted.id) AS met WHERE TRUE");
    filters.push_customer_of(&mut sql, workspace_id, "wanted.id");
    Ok(sql.build_query_as().fetch_all(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Field;

    #[test]
    fn packed_activities_are_read_as_they_were() {
        let time = |text: &str| Time::from_text(text).unwrap();
        let some = ActivityRecords {
            ordered_at: vec![time("1969-07-20T20:17:40Z"), time("2026-11-29T23:59:59.999999Z")],
            quantities: vec![1, i64::MAX],
            statuses: vec!["cancelled".into(), "pending".into()],
            met_at: vec![time("2026-11-29")],
        };
        let packed = [some.packed().unwrap(), ActivityRecords::default().packed().unwrap(), some.pack()].concat();
        let mut read = Vec::new();
        visit_all(&packed, &mut |activity: Activity<'_>| {
            let orders = activity.orders().map(|order| (order.at, order.quantity, order.status)).collect::<Vec<_>>();
            read.push((orders, activity.interactions().collect::<Vec<_>>()));
        })
        .unwrap();
        let orders: Vec<_> =
            some.orders().map(|(at, quantity, status)| (at.timestamp_micros(), quantity, status)).collect();
        let expected = (orders, vec![some.met_at[0].timestamp_micros()]);
        assert_eq!(read, [expected.clone(), (Vec::new(), Vec::new()), expected]);
        assert!(visit_all(&packed[..packed.len() - 1], &mut |_| ()).is_err());
    }

    #[test]
    fn many_records_are_not_packed() {
        let met = |count| ActivityRecords { met_at: vec![Time::UNIX_EPOCH; count], ..ActivityRecords::default() };
        assert!(met(MAX_RECORDS).packed().is_some());
        assert!(met(MAX_RECORDS + 1).packed().is_none());
    }
}
