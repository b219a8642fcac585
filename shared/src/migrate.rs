//! Bringing a database up to this version: the migrations of the schema, then the backfills of its
//! rows, each listed once here.

mod email_keys;
mod enrolment;

use sqlx::{Connection, PgConnection};

use self::email_keys::{Emails, Followups, History, Suppressions};
use self::enrolment::Enrolment;
use crate::accounts::users::User;
use crate::crm::customers::Customer;
use crate::crm::leads::Lead;
use crate::error::{Error, Result};
use crate::platform::backfill::{self, Backfill, Progress};
use crate::platform::config::Database;
use crate::platform::db;
use crate::records::Rederive;

/// Every backfill, by the table that it rewrites.
const BACKFILLS: &[&dyn Backfill] = &[
    &Rederive::<Lead>::new(),
    &Rederive::<Customer>::new(),
    &Rederive::<User>::new(),
    &Suppressions,
    &Emails,
    &History,
    &Followups,
    &Enrolment,
];

/// Brings the database up to this version, and reports the progress of long backfills. Several
/// processes can do this at once, and a run that was interrupted resumes.
///
/// # Errors
/// [`Error::Internal`] if a migration fails.
pub async fn run(settings: &Database, report: impl FnMut(&Progress)) -> Result<()> {
    // Not a connection of the pool: a migration may take longer than the pool's statement timeout.
    let mut connection = PgConnection::connect(&settings.url).await.map_err(Error::while_connecting)?;
    db::apply_migrations(&mut connection).await?;
    backfill::run(&mut connection, BACKFILLS, report).await?;
    connection.close().await?;
    Ok(())
}
