//! Accepting a bulk change.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BulkChange, BulkChanged, Request, targets};
use crate::error::{Error, FieldError, Result};
use crate::query;
use crate::queue::{self, Job, NewJob};
use crate::records::history::Actor;

/// Stores the ids of the records that match a request, and enqueues its job. Needs a transaction.
///
/// # Errors
/// [`Error::Invalid`] if the number of records is not confirmed; [`Error::Missing`] if `set` refers to a record that
/// does not exist.
pub async fn accept<R: BulkChanged>(connection: &mut PgConnection, actor: &Actor, request: &Request) -> Result<Job> {
    check_references::<R>(connection, actor.workspace_id, request).await?;
    if request.confirm.is_none() {
        // Most requests that must be confirmed end here, before anything is written.
        request.check_number(query::count(connection, &request.list, actor.workspace_id).await?)?;
    }
    let (id, payload) = (Uuid::now_v7(), request.job::<R>());
    let job = NewJob::new(actor.workspace_id, &payload)?.id(id).request_id(actor.request_id.as_deref());
    queue::enqueue(connection, job).await?;
    let of = (actor.workspace_id, id);
    let matched = targets::keep(connection, of, &request.list, request.action.chunk()).await?;
    request.check_number(matched)?;
    queue::set_total(connection, actor.workspace_id, id, matched).await
}

/// Checks that the records exist to which `set` refers.
///
/// # Errors
/// [`Error::Missing`].
pub async fn check_references<R: BulkChanged>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request: &Request,
) -> Result<()> {
    for (reference, find) in R::REFERENCES.iter().zip(&R::statements().references) {
        let id = request.set.get(reference.column).and_then(|id| Uuid::try_parse(id.as_str()?.trim()).ok());
        let Some(id) = id else { continue };
        let found: Option<Uuid> =
            sqlx::query_scalar(find.clone()).bind(workspace_id).bind([id]).fetch_optional(&mut *connection).await?;
        if found.is_none()
            && let Error::Missing(reason) = Error::missing(reference.column)
        {
            return Err(Error::Missing(reason.inside("set").into()));
        }
    }
    Ok(())
}

impl Request {
    fn job<R: BulkChanged>(&self) -> BulkChange<R> {
        let Self { action, set, again, dry_run, .. } = self;
        let records = std::marker::PhantomData;
        BulkChange { action: *action, set: set.clone(), again: *again, dry_run: *dry_run, records }
    }

    /// Checks that the request may change this number of records.
    fn check_number(&self, matched: i64) -> Result<()> {
        if let Some(field) = self.unique.filter(|_| matched > 1) {
            let message = format!("must be different for each record, and {matched} match");
            return Err(Error::invalid(format!("set.{field}"), "not_unique", message));
        }
        let is_needed = self.action.needs_confirmation(matched);
        match self.confirm {
            _ if self.dry_run => Ok(()),
            Some(confirmed) if confirmed == matched => Ok(()),
            Some(_) => {
                Err(unconfirmed("confirm_mismatch", format!("must be {matched}, the number of records that match now")))
            }
            None if is_needed => {
                Err(unconfirmed("confirm_required", format!("must be {matched}, the number of records that match")))
            }
            None => Ok(()),
        }
    }
}

fn unconfirmed(code: &'static str, message: String) -> Error {
    Error::Invalid(vec![FieldError::new("confirm", code, message)])
}
