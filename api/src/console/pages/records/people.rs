//! The users and customers that records refer to, by name where the key may read them.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::accounts::scopes::Scope;

use super::Json;
use super::fields::short;
use crate::console::forms::Input;
use crate::console::links::link;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The most users that a form offers by name.
const MOST: usize = 200;

/// Names by id.
#[derive(Default)]
pub(crate) struct People {
    users: BTreeMap<String, String>,
    /// Whether these are all users of the workspace.
    has_all_users: bool,
    customers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: String,
}

fn by_id(named: Vec<Named>) -> BTreeMap<String, String> {
    named.into_iter().map(|Named { id, name }| (id, name)).collect()
}

impl People {
    /// The users of the workspace, if the key may read them.
    ///
    /// # Errors
    /// The API's.
    pub async fn users(visit: &Visit) -> Result<Self> {
        if !visit.may(Scope::Settings) {
            return Ok(Self::default());
        }
        let listing = visit.crm.list(&format!("/users?limit={MOST}")).await?;
        Ok(Self { has_all_users: listing.next.is_none(), users: by_id(listing.items), ..Self::default() })
    }

    /// With the customers that records of one page refer to.
    ///
    /// # Errors
    /// The API's.
    pub async fn and_customers(self, visit: &Visit, records: &[Json]) -> Result<Self> {
        let ids: BTreeSet<&str> = records.iter().filter_map(|record| record.get("customer_id")?.as_str()).collect();
        if ids.is_empty() {
            return Ok(self);
        }
        let (most, ids) = (ids.len().to_string(), ids.into_iter().collect::<Vec<_>>().join(","));
        let path = link("/customers", [("id", ids.as_str()), ("fields", "id,name"), ("limit", &most)]);
        Ok(Self { customers: by_id(visit.crm.list(&path).await?.items), ..self })
    }

    /// The name of a user.
    pub fn user(&self, id: &str) -> Markup {
        match self.users.get(id) {
            Some(name) => html! { (name) },
            None => html! { span.quiet title=(id) { "User " (short(id)) } },
        }
    }

    /// A link to a customer.
    pub fn customer(&self, id: &str) -> Markup {
        html! {
            a href={ "/console/customers/" (id) } {
                @match self.customers.get(id) {
                    Some(name) => (name),
                    None => { "Customer " (short(id)) },
                }
            }
        }
    }

    /// The users and their names, if all are known.
    pub fn choices(&self) -> Option<Vec<(String, String)>> {
        let mut choices: Vec<_> = self.users.iter().map(|(id, name)| (id.clone(), name.clone())).collect();
        choices.sort_by_cached_key(|(_, name)| name.to_lowercase());
        self.has_all_users.then_some(choices)
    }

    /// An input for the id of a user.
    pub fn input(&self, input: Input, present: &str) -> Input {
        let Some(choices) = self.choices() else { return input.hint("The ID of a user.") };
        let nobody = [(String::new(), "Nobody".to_owned())];
        // A user who was deleted stays the owner until another one is chosen.
        let is_known = present.is_empty() || self.users.contains_key(present);
        let unknown = (!is_known).then(|| (present.to_owned(), format!("User {}", short(present))));
        input.choice(nobody.into_iter().chain(unknown).chain(choices))
    }
}

/// A text of a record.
pub(crate) fn text_in<'a>(record: &'a Json, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}
