//! What the filters of operators have in common.

use chrono::TimeDelta;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::workspaces;
use crate::error::{Error, Result};
use crate::platform::db;
use crate::query::parameters::Parameters;
use crate::values::{Fault, Time};

/// How many ids one transaction changes at most.
pub(super) const BATCH: usize = 500;

/// A filter by workspace and by the time of creation.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(super) struct Common {
    /// The name or the id of the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Time>,
}

impl Common {
    pub fn take(given: &mut Parameters<'_>) -> Self {
        let workspace = given.take_as("workspace", text);
        let created_after = given.take("created_after");
        let before: Option<Time> = given.take("created_before");
        let age = given.take_as("older_than", age);
        let created_before = match (before, age.map(|age| db::now() - age)) {
            (Some(before), Some(older)) => Some(before.min(older)),
            (before, older) => before.or(older),
        };
        Self { workspace, created_after, created_before }
    }

    /// The workspaces to look into: the given one, or all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown workspace.
    pub async fn workspaces(&self, connection: &mut PgConnection) -> Result<Vec<Uuid>> {
        match &self.workspace {
            None => workspaces::ids(connection).await,
            Some(workspace) => Ok(vec![workspace_id(connection, workspace).await?]),
        }
    }

    /// The id of the given workspace.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown workspace.
    pub async fn workspace_id(&self, connection: &mut PgConnection) -> Result<Option<Uuid>> {
        match &self.workspace {
            None => Ok(None),
            Some(workspace) => workspace_id(connection, workspace).await.map(Some),
        }
    }
}

/// The id of the workspace with this name or id.
///
/// # Errors
/// [`Error::Invalid`] if there is none.
pub(super) async fn workspace_id(connection: &mut PgConnection, workspace: &str) -> Result<Uuid> {
    let unknown = || Error::invalid("workspace", "unknown", "is not the name or the id of a workspace");
    workspaces::get(connection, workspace).await.map(|found| found.id).map_err(|error| match error {
        Error::NotFound => unknown(),
        error => error,
    })
}

/// A text as it is.
pub(super) fn text(text: &str) -> Result<String, Fault> {
    Ok(text.to_owned())
}

/// An age, such as `90s`, `15m`, `2h` or `7d`.
pub(super) fn age(text: &str) -> Result<TimeDelta, Fault> {
    let fault = || {
        Fault::new("invalid", "must be a whole number of seconds, minutes, hours or days, such as 90s, 15m, 2h or 7d")
    };
    let unit = text.chars().last().ok_or_else(fault)?;
    let number: i64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(fault)?;
    let age = match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    };
    age.filter(|age| (TimeDelta::zero()..=TimeDelta::days(36_500)).contains(age)).ok_or_else(fault)
}

/// The bounds of the ids of rows that were created between two times. Ids rise with time, but machines make them, whose
/// clocks may differ from the database's by a minute.
pub(super) fn id_bounds(after: Option<Time>, before: Option<Time>) -> (Uuid, Uuid) {
    const SLACK: TimeDelta = TimeDelta::minutes(2);
    let at = |time: Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix_time(seconds, 0, 0, 0))
    };
    let first = after.map_or(Uuid::nil(), |after| at(after - SLACK));
    (first, before.map_or(Uuid::max(), |before| at(before + SLACK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(age(text), Ok(TimeDelta::seconds(seconds)), "{text}");
        }
        for text in ["", "5", "h", "-1h", "1.5h", "9999999999d", "2w", "2é"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
