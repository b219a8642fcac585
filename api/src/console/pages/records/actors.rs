//! Who made a change, by name where the key may read it.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;

use super::fields::short;
use crate::console::CONSOLE;
use crate::console::links::link;
use crate::console::parts::words;
use crate::console::session::Visit;

/// Who made a change.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Actor {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// The names of API keys and sessions, by id.
#[derive(Default)]
pub(super) struct Actors(BTreeMap<String, String>);

#[derive(Deserialize)]
struct Key {
    id: String,
    name: String,
}

impl Actors {
    /// The names of those who made changes. Without them, a page is shown all the same.
    pub async fn of(visit: &Visit, actors: impl Iterator<Item = &Actor>) -> Self {
        let ids: BTreeSet<&str> = actors.filter(|actor| actor.kind == "key").map(|actor| actor.id.as_str()).collect();
        if ids.is_empty() || !visit.may(Scope::Keys) {
            return Self::default();
        }
        let (most, ids) = (ids.len().to_string(), ids.into_iter().collect::<Vec<_>>().join(","));
        let path = link("/keys", [("id", ids.as_str()), ("limit", &most)]);
        let keys = visit.crm.list::<Key>(&path).await.map(|listing| listing.items).unwrap_or_default();
        Self(keys.into_iter().map(|key| (key.id, key.name)).collect())
    }

    /// Who made a change.
    pub fn shown(&self, visit: &Visit, actor: Option<&Actor>) -> Markup {
        let Some(Actor { kind, id }) = actor else { return html! { "an older version" } };
        let is_own_session = visit.caller.session_id.is_some_and(|own| own.to_string() == *id);
        html! {
            @match (kind.as_str(), self.0.get(id)) {
                ("session", _) if is_own_session => "you",
                ("session", _) => span title=(id) { "someone in the console" },
                ("key", Some(name)) => { "the key " (name) },
                ("key", None) if visit.caller.key_id.to_string() == *id => { "the key " (visit.key) },
                ("key", None) => span title=(id) { "a key " (short(id)) },
                ("job", _) => a href={ (CONSOLE) "/jobs/" (id) } { "a job" },
                ("import", _) => a href={ (CONSOLE) "/jobs/" (id) } { "an import" },
                ("conversion", _) => a href={ (CONSOLE) "/leads/" (id) } { "the conversion of a lead" },
                ("customer", _) => "the customer",
                ("operator", _) => "an operator",
                ("schedule", _) => "a schedule",
                ("worker", _) => "the CRM",
                (kind, _) => { (words(kind)) " " (short(id)) },
            }
        }
    }
}
