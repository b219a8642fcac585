//! The users of a workspace, as files name the owners of records.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::Import;
use super::dictionary::normal;
use crate::accounts::users::User;
use crate::error::Result;
use crate::records::Fields;
use crate::values::{Email, Field};

/// The users by their addresses and names. A name that several users have is nobody's.
#[derive(Debug, Clone, Default)]
pub struct Owners(HashMap<String, Option<Uuid>>);

impl Owners {
    /// Reads the users of the workspace, if the file names owners.
    pub async fn of(connection: &mut PgConnection, import: &Import) -> Result<Self> {
        match import.plan.supplies("assigned_to") {
            true => Self::read(connection, import.workspace_id).await,
            false => Ok(Self::default()),
        }
    }

    /// Reads the users of a workspace.
    pub async fn read(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Self> {
        let columns = User::columns().selected;
        let sql = format!("SELECT {columns} FROM users WHERE workspace_id = $1");
        let users: Vec<User> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(workspace_id).fetch_all(connection).await?;
        Ok(users.iter().collect())
    }

    /// The user that a cell names: by the id, the address, the name, or `Name (address)`. An id may also be that of
    /// a person of another system.
    pub fn find(&self, text: &str) -> Option<Uuid> {
        if let Ok(id) = Uuid::from_text(text) {
            return Some(id);
        }
        let known = |key: &str| self.0.get(key).copied().flatten();
        if let Some(found) = Email::from_text(text).ok().and_then(|email| known(&email.key())) {
            return Some(found);
        }
        if let Some((name, rest)) = text.split_once(['(', '<']) {
            let inner = rest.trim_end_matches([')', '>', ' ']);
            return Email::from_text(inner)
                .ok()
                .and_then(|email| known(&email.key()))
                .or_else(|| known(&by_name(name)));
        }
        known(&by_name(text))
    }
}

impl<'u> FromIterator<&'u User> for Owners {
    fn from_iter<I: IntoIterator<Item = &'u User>>(users: I) -> Self {
        let mut owners: HashMap<String, Option<Uuid>> = HashMap::new();
        for user in users {
            owners.insert(user.email.key(), Some(user.id));
            let named = owners.entry(by_name(user.name.as_ref())).or_insert(Some(user.id));
            *named = named.filter(|id| *id == user.id);
        }
        Self(owners)
    }
}

/// The key of a name; no address has one like it.
fn by_name(name: &str) -> String {
    format!("name:{}", normal(name))
}
