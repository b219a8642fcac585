//! The jobs of bulk changes, by their kind.

use sqlx::PgConnection;
use uuid::Uuid;

use super::customers::Customer;
use super::leads::Lead;
use super::orders::Order;
use crate::bulk::{self, BulkChange, Request};
use crate::error::{Error, Result};
use crate::queue::{Job, Payload};
use crate::records::history::Actor;
use crate::values::json_body::Object;

/// A bulk change of leads.
pub type BulkLeads = BulkChange<Lead>;
/// A bulk change of customers.
pub type BulkCustomers = BulkChange<Customer>;
/// A bulk change of orders.
pub type BulkOrders = BulkChange<Order>;

/// Reads the body of a bulk change that a job of this kind makes; `None` for other kinds.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) with every fault of the body.
pub fn read(kind: &str, workspace_id: Uuid, body: Object) -> Option<Result<Request>> {
    match kind {
        BulkLeads::KIND => Some(Request::read::<Lead>(workspace_id, body)),
        BulkCustomers::KIND => Some(Request::read::<Customer>(workspace_id, body)),
        BulkOrders::KIND => Some(Request::read::<Order>(workspace_id, body)),
        _ => None,
    }
}

/// Checks that the records exist to which a change of this kind refers.
///
/// # Errors
/// [`Error::Missing`].
pub async fn check_references(
    connection: &mut PgConnection,
    kind: &str,
    workspace_id: Uuid,
    request: &Request,
) -> Result<()> {
    match kind {
        BulkLeads::KIND => bulk::check_references::<Lead>(connection, workspace_id, request).await,
        BulkCustomers::KIND => bulk::check_references::<Customer>(connection, workspace_id, request).await,
        BulkOrders::KIND => bulk::check_references::<Order>(connection, workspace_id, request).await,
        other => Err(Error::internal(format!("{other} is no bulk change"))),
    }
}

/// Accepts a change of this kind, as [`bulk::accept`] does.
///
/// # Errors
/// Those of [`bulk::accept`].
pub async fn accept(connection: &mut PgConnection, kind: &str, actor: &Actor, request: &Request) -> Result<Job> {
    match kind {
        BulkLeads::KIND => bulk::accept::<Lead>(connection, actor, request).await,
        BulkCustomers::KIND => bulk::accept::<Customer>(connection, actor, request).await,
        BulkOrders::KIND => bulk::accept::<Order>(connection, actor, request).await,
        other => Err(Error::internal(format!("{other} is no bulk change"))),
    }
}
