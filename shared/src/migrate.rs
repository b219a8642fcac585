//! Bringing a database up to this version: the migrations of the schema, its distribution where Citus is
//! installed, then the backfills of its rows, each listed once here.

mod email_keys;
mod enrolment;

use std::fmt;

use sqlx::{Connection, PgConnection};

use self::email_keys::{Emails, Followups, History, Suppressions};
use self::enrolment::Enrolment;
use crate::accounts::users::User;
use crate::crm::customers::Customer;
use crate::crm::leads::Lead;
use crate::error::{Error, Result};
use crate::platform::backfill::{self, Backfill};
use crate::platform::config::Database;
use crate::platform::signed_links::Signer;
use crate::platform::{db, distribute};
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

/// What a long run is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It distributes a table.
    Table(distribute::Progress),
    /// It has rewritten a batch of rows.
    Rows(backfill::Progress),
}

impl Progress {
    /// The rows that were rewritten.
    pub fn rows(&self) -> Option<&backfill::Progress> {
        match self {
            Self::Rows(progress) => Some(progress),
            Self::Table(_) => None,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(progress) => progress.fmt(f),
            Self::Rows(progress) => progress.fmt(f),
        }
    }
}

/// Brings the database up to this version, and reports the progress of what may take long. Several
/// processes can do this at once, and a run that was interrupted resumes.
///
/// # Errors
/// [`Error::Internal`] if a migration fails.
pub async fn run(settings: &Database, mut report: impl FnMut(&Progress)) -> Result<()> {
    // Not a connection of the pool: a migration may take longer than the pool's statement timeout.
    let mut connection = PgConnection::connect(&settings.url).await.map_err(Error::while_connecting)?;
    distribute::prepare(&mut connection).await?;
    let mut distributed = |table: &distribute::Progress| report(&Progress::Table(table.clone()));
    if distribute::has_begun(&mut connection).await? {
        // A table is distributed before the next file, which may let it refer to tables of tenants.
        for version in db::missing_versions(&mut connection).await? {
            db::apply_migrations_to(&mut connection, version).await?;
            distribute::run(&mut connection, &mut distributed).await?;
        }
    }
    db::apply_migrations(&mut connection).await?;
    distribute::run(&mut connection, distributed).await?;
    backfill::run(&mut connection, BACKFILLS, |rows| report(&Progress::Rows(rows.clone()))).await?;
    // From now on it can be copied, to cells that must accept each other's links.
    Signer::load(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
