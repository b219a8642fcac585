//! The place of the database, and whether email is on hold.
//!
//! A restored backup or a clone contains emails that the original sends. So the database remembers
//! its place, and a worker that finds the database in another place sends nothing until an operator
//! releases it. An operator can also hold email in the remembered place.
//!
//! The statement that marks an email as `sending` checks this itself (`is_released!`), so nothing
//! that a worker leased or decided earlier matters. A run that writes emails checks it in the
//! transaction of each page, under a lock that a hold waits for ([`hold_for_page`]).

use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::values::Time;

/// How the reason of every hold begins, in the errors of jobs that wait.
pub const ON_HOLD: &str = "email is on hold";

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The system identifier of the server: the same on its standbys, another after `initdb`.
    #[serde(serialize_with = "as_text")]
    pub system_identifier: i64,
    /// The oid of the database in that server.
    pub database_oid: i64,
    /// `public_url`; `None` if it is not set, and then not compared.
    pub public_url: Option<String>,
}

/// It exceeds the integers of JSON readers.
fn as_text<S: Serializer>(identifier: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&identifier.cast_unsigned())
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { system_identifier, database_oid, public_url } = self;
        write!(f, "system {}, database {database_oid}", system_identifier.cast_unsigned())?;
        public_url.iter().try_for_each(|url| write!(f, ", {url}"))
    }
}

/// Why email is on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An operator holds it.
    Operator,
    /// A release with `--lost-since` has begun and not ended.
    Release,
    /// The database is in another place than it remembers.
    Place,
}

impl Display for Hold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::Operator => "an operator holds it",
            Self::Release => "a release has begun and not ended",
            Self::Place => "the database was restored, copied or moved, and an operator must release it",
        };
        write!(f, "{ON_HOLD}: {why}")
    }
}

/// The present place, the remembered one, and the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Where the database is.
    pub place: Place,
    /// Where it was when it last sent email or was released; `None` before the first worker ran.
    pub remembered: Option<Place>,
    /// Since when an operator or a release holds email.
    pub held_since: Option<Time>,
    /// `--lost-since` of a release that has begun and not ended.
    pub lost_since: Option<Time>,
}

impl Status {
    /// Why email is on hold, if it is.
    pub fn hold(&self) -> Option<Hold> {
        match self {
            Self { lost_since: Some(_), .. } => Some(Hold::Release),
            Self { held_since: Some(_), .. } => Some(Hold::Operator),
            Self { remembered: Some(remembered), place, .. } if !remembered.is(place) => Some(Hold::Place),
            _ => None,
        }
    }
}

impl Place {
    fn is(&self, other: &Self) -> bool {
        let same_url = self.public_url.is_none() || other.public_url.is_none() || self.public_url == other.public_url;
        (self.system_identifier, self.database_oid) == (other.system_identifier, other.database_oid) && same_url
    }
}

/// The condition that email is not on hold for a process with the public URL in a parameter, as
/// [`Status::hold`] decides it.
macro_rules! is_released {
    ($public_url:literal) => {
        concat!(
            "EXISTS (
                 SELECT 1 FROM mail_place
                 WHERE held_since IS NULL AND lost_since IS NULL
                     AND (system_identifier IS NULL
                         OR system_identifier = (SELECT system_identifier FROM pg_control_system()))
                     AND (database_oid IS NULL
                         OR database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()))
                     AND (public_url = ",
            $public_url,
            " OR public_url IS NULL OR ",
            $public_url,
            "::text IS NULL)
             )"
        )
    };
}

pub(crate) use is_released;

#[derive(FromRow)]
struct Row {
    system_identifier: Option<i64>,
    database_oid: Option<i64>,
    public_url: Option<String>,
    held_since: Option<Time>,
    lost_since: Option<Time>,
    present_system_identifier: i64,
    present_database_oid: i64,
}

macro_rules! status {
    () => {
        "SELECT place.system_identifier, place.database_oid, place.public_url, held_since, lost_since,
             control.system_identifier AS present_system_identifier, present.oid::bigint AS present_database_oid
         FROM mail_place AS place, pg_control_system() AS control, pg_database AS present
         WHERE present.datname = current_database()"
    };
}

async fn read(connection: &mut PgConnection, statement: &'static str, public_url: Option<&str>) -> Result<Status> {
    let row: Row = sqlx::query_as(statement).fetch_one(connection).await?;
    let remembered = row.system_identifier.zip(row.database_oid);
    Ok(Status {
        place: Place {
            system_identifier: row.present_system_identifier,
            database_oid: row.present_database_oid,
            public_url: public_url.map(str::to_owned),
        },
        remembered: remembered.map(|(system_identifier, database_oid)| Place {
            system_identifier,
            database_oid,
            public_url: row.public_url,
        }),
        held_since: row.held_since,
        lost_since: row.lost_since,
    })
}

/// Returns the place and the hold, for a process with this public URL, and changes nothing.
pub async fn status(connection: &mut PgConnection, public_url: Option<&str>) -> Result<Status> {
    read(connection, status!(), public_url).await
}

/// Returns the status as [`status`] does. A database that remembers no place, or that has sent and
/// waits to send nothing, adopts its present place.
pub async fn check(connection: &mut PgConnection, public_url: Option<&str>) -> Result<Status> {
    let status = status(connection, public_url).await?;
    let is_new = match &status.remembered {
        None => true,
        Some(remembered) if !remembered.is(&status.place) => !is_in_use(connection).await?,
        // The first public URL is part of the place from now on.
        Some(remembered) => remembered.public_url.is_none() && public_url.is_some(),
    };
    if !is_new {
        return Ok(status);
    }
    remember(connection, &status).await?;
    self::status(connection, public_url).await
}

/// Whether a copy of the database could email somebody, or send webhooks.
async fn is_in_use(connection: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM emails)
             OR EXISTS (SELECT 1 FROM leads WHERE nurture_enrolled_at IS NOT NULL AND nurture_left_at IS NULL)
             OR EXISTS (SELECT 1 FROM webhooks WHERE deleted_at IS NULL)",
    )
    .fetch_one(connection)
    .await?)
}

/// Remembers the present place, unless another process has remembered one meanwhile.
async fn remember(connection: &mut PgConnection, Status { place, remembered, .. }: &Status) -> Result<()> {
    let (before, url) = (remembered.as_ref(), remembered.as_ref().and_then(|place| place.public_url.as_deref()));
    sqlx::query(
        "UPDATE mail_place SET system_identifier = $1, database_oid = $2, public_url = $3
         WHERE system_identifier IS NOT DISTINCT FROM $4 AND database_oid IS NOT DISTINCT FROM $5
             AND public_url IS NOT DISTINCT FROM $6",
    )
    .bind(place.system_identifier)
    .bind(place.database_oid)
    .bind(&place.public_url)
    .bind(before.map(|place| place.system_identifier))
    .bind(before.map(|place| place.database_oid))
    .bind(url)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the hold for the transaction of a page that may write emails. A hold that begins later
/// waits until the transaction has ended.
pub async fn hold_for_page(connection: &mut PgConnection, public_url: Option<&str>) -> Result<Option<Hold>> {
    Ok(read(connection, concat!(status!(), " FOR SHARE OF place"), public_url).await?.hold())
}

/// Holds email, and returns since when. A release that is running ends with an error.
pub async fn hold(connection: &mut PgConnection) -> Result<Time> {
    let held = "UPDATE mail_place SET held_since = coalesce(held_since, $1), release_id = NULL RETURNING held_since";
    let now = crate::platform::db::database_now(connection).await?;
    Ok(sqlx::query_scalar(held).bind(now).fetch_one(connection).await?)
}

/// Makes the present place the remembered one and ends the hold.
///
/// # Errors
/// [`Error::Invalid`] if a release with `--lost-since` has begun and not ended.
pub async fn release(connection: &mut PgConnection, public_url: Option<&str>) -> Result<()> {
    end(connection, None, public_url).await
}

/// Begins a release that sets aside what may have been sent since `lost_since`, and holds email
/// until it has ended. A release that began before and has not ended is taken over.
pub async fn begin_release(connection: &mut PgConnection, lost_since: Time) -> Result<Uuid> {
    let (id, now) = (Uuid::now_v7(), crate::platform::db::database_now(connection).await?);
    sqlx::query("UPDATE mail_place SET held_since = coalesce(held_since, $1), release_id = $2, lost_since = $3")
        .bind(now)
        .bind(id)
        .bind(lost_since)
        .execute(connection)
        .await?;
    Ok(id)
}

/// Checks, for the present transaction, that this release has not been taken over or stopped.
///
/// # Errors
/// [`Error::Invalid`] if it was.
pub async fn continue_release(connection: &mut PgConnection, id: Uuid) -> Result<()> {
    let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM mail_place WHERE release_id = $1 FOR SHARE")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    found.map(drop).ok_or_else(stopped)
}

/// Ends a release: the present place is the remembered one, and email is no longer on hold.
///
/// # Errors
/// [`Error::Invalid`] if the release was taken over or stopped.
pub async fn end_release(connection: &mut PgConnection, id: Uuid, public_url: Option<&str>) -> Result<()> {
    end(connection, Some(id), public_url).await
}

async fn end(connection: &mut PgConnection, id: Option<Uuid>, public_url: Option<&str>) -> Result<()> {
    let ended = sqlx::query(
        "UPDATE mail_place SET system_identifier = control.system_identifier, database_oid = present.oid,
             public_url = $1, held_since = NULL, release_id = NULL, lost_since = NULL
         FROM pg_control_system() AS control, pg_database AS present
         WHERE present.datname = current_database() AND release_id IS NOT DISTINCT FROM $2
             AND ($2 IS NOT NULL OR lost_since IS NULL)",
    )
    .bind(public_url)
    .bind(id)
    .execute(connection)
    .await?;
    match (ended.rows_affected(), id) {
        (0, Some(_)) => Err(stopped()),
        (0, None) => {
            let message = "must be given: a release with --lost-since has begun and not ended";
            Err(Error::invalid("--lost-since", "required", message))
        }
        _ => Ok(()),
    }
}

fn stopped() -> Error {
    Error::invalid("release", "stopped", "was stopped by `mail hold` or by another release; run it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(system_identifier: i64, database_oid: i64, public_url: Option<&str>) -> Place {
        Place { system_identifier, database_oid, public_url: public_url.map(str::to_owned) }
    }

    #[test]
    fn a_public_url_that_is_not_set_is_not_compared() {
        let own = place(1, 2, Some("https://crm.example"));
        assert!(own.is(&own) && own.is(&place(1, 2, None)) && place(1, 2, None).is(&own));
        for other in [place(3, 2, None), place(1, 3, None), place(1, 2, Some("https://staging.example"))] {
            assert!(!own.is(&other) && !other.is(&own), "{other}");
        }
    }

    #[test]
    fn a_system_identifier_is_shown_as_postgresql_shows_it() {
        let place = place(-1, 5, Some("https://crm.example"));
        assert_eq!(place.to_string(), "system 18446744073709551615, database 5, https://crm.example");
        assert_eq!(serde_json::to_value(&place).unwrap()["system_identifier"], "18446744073709551615");
    }
}
