//! Who made a change, by name where the key may read it.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

/// The names of the keys of actors, by the id of the key or of its session.
#[derive(Default)]
pub(super) struct Actors(BTreeMap<String, String>);

#[derive(Deserialize)]
struct Key {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    key_id: String,
}

impl Actors {
    /// The names of those who made changes. Without them, a page is shown all the same.
    pub async fn of(visit: &Visit, actors: impl Iterator<Item = &Actor>) -> Self {
        if !visit.may(Scope::Keys) {
            return Self::default();
        }
        let known: Vec<&Actor> = actors.collect();
        let of_kind = |kind: &str| -> BTreeSet<String> {
            known.iter().filter(|actor| actor.kind == kind).map(|actor| actor.id.clone()).collect()
        };
        let sessions: Vec<Session> = by_ids(visit, "/sessions", &of_kind("session")).await;
        let keys = sessions.iter().map(|session| session.key_id.clone()).chain(of_kind("key"));
        let keys: Vec<Key> = by_ids(visit, "/keys", &keys.collect()).await;
        let mut names: BTreeMap<String, String> = keys.into_iter().map(|key| (key.id, key.name)).collect();
        let begun: Vec<_> =
            sessions.into_iter().filter_map(|of| Some((of.id, names.get(&of.key_id)?.clone()))).collect();
        names.extend(begun);
        Self(names)
    }

    /// Who made a change.
    pub fn shown(&self, visit: &Visit, actor: Option<&Actor>) -> Markup {
        let Some(Actor { kind, id }) = actor else { return html! { "an older version" } };
        let is_own_session = visit.caller.session_id.is_some_and(|own| own.to_string() == *id);
        html! {
            @match (kind.as_str(), self.0.get(id)) {
                ("session", _) if is_own_session => "you",
                ("session", Some(name)) => { "the key " (name) " in the console" },
                ("session", None) => span title=(id) { "someone in the console" },
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

/// The items with these ids; none if they cannot be read.
async fn by_ids<T: DeserializeOwned>(visit: &Visit, path: &str, ids: &BTreeSet<String>) -> Vec<T> {
    if ids.is_empty() {
        return Vec::new();
    }
    let (most, ids) = (ids.len().to_string(), ids.iter().map(String::as_str).collect::<Vec<_>>().join(","));
    let path = link(path, [("id", ids.as_str()), ("limit", &most)]);
    visit.crm.list(&path).await.map(|listing| listing.items).unwrap_or_default()
}
