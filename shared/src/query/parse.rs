//! Reading the parameters of a list.

use chrono_tz::Tz;
use uuid::Uuid;

use super::cursor;
use super::filter::Condition;
use super::parameters::{Parameters, unknown, whole};
use super::{List, MAX_LIMIT, Spec};
use crate::error::{Error, FieldError, Result};
use crate::platform::signed_links::Signer;
use crate::values::dates::zone;
use crate::values::{Fault, search};

/// The parameters of a list that do not decide which records it has.
pub const NO_FILTERS: [&str; 5] = ["count", "cursor", "fields", "limit", "sort"];

impl List {
    /// Reads the filters of a list, and no other parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault, by the name of its parameter.
    pub fn filtered(spec: &'static Spec, workspace_id: Uuid, parameters: &[(String, String)]) -> Result<Self> {
        let (others, filters): (Vec<_>, Vec<_>) =
            parameters.iter().cloned().partition(|(name, _)| NO_FILTERS.contains(&name.as_str()));
        let list = Self::parse(spec, workspace_id, &filters);
        let (list, ()) = Error::both(list, Parameters::new(&others).finish())?;
        Ok(list)
    }

    /// Reads the parameters of a list that is read from its start.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault, by the name of its parameter.
    pub fn parse(spec: &'static Spec, workspace_id: Uuid, parameters: &[(String, String)]) -> Result<Self> {
        Self::read(spec, (workspace_id, None), parameters, None)
    }

    /// Reads the parameters of a list that may continue after a cursor, under a parent if the kind has one.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault, by the name of its parameter.
    pub fn resume(
        spec: &'static Spec,
        workspace_id: Uuid,
        parent: Option<(&'static str, Uuid)>,
        parameters: &[(String, String)],
        signer: &Signer,
    ) -> Result<Self> {
        Self::read(spec, (workspace_id, parent), parameters, Some(signer))
    }

    fn read(
        spec: &'static Spec,
        (workspace_id, parent): (Uuid, Option<(&'static str, Uuid)>),
        parameters: &[(String, String)],
        signer: Option<&Signer>,
    ) -> Result<Self> {
        let mut list = Self {
            spec,
            parent,
            conditions: Vec::new(),
            words: None,
            order: &spec.orders[0],
            scan: None,
            descending: true,
            limit: None,
            count: false,
            fields: None,
            after: None,
            context: cursor::context(workspace_id, spec, parent, parameters),
        };
        let has_limit = parameters.iter().any(|(name, _)| name == "limit");
        let mut parameters = Parameters::new(parameters);
        list.limit = parameters.take_as("limit", |text| whole(text, 1..=MAX_LIMIT));
        list.count = parameters.flag("count");
        let mut tz = Tz::UTC;
        // Deleted records have no fields of their own, and a fixed order.
        if !spec.fields.is_empty() {
            parameters.take_as("sort", |text| list.sort(text));
            list.fields = parameters.take_as("fields", |text| fields(spec, text));
            tz = parameters.take_as("tz", zone).unwrap_or(tz);
        }
        if list.scan.is_some() && !(has_limit && signer.is_some()) {
            parameters.refuse(needs_limit(signer.is_some()));
        }
        // Opened at the end, when its list is known.
        let cursor = signer.and_then(|signer| parameters.take_as("cursor", |text| Ok((signer, text.to_owned()))));
        if spec.searchable {
            list.words = parameters.take_as("q", |text| search::query(workspace_id, text));
        }
        for (name, texts) in parameters.rest() {
            if let Err(fault) = list.filter(name, &texts, tz) {
                parameters.refuse(fault.of(name));
            }
        }
        if let Some((signer, cursor)) = cursor {
            match list.open_cursor(signer, &cursor) {
                Ok(place) => list.after = Some(place),
                Err(fault) => parameters.refuse(fault.of("cursor")),
            }
        }
        parameters.finish()?;
        Ok(list)
    }

    fn sort(&mut self, text: &str) -> Result<(), Fault> {
        let (name, reversed) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        self.descending = reversed;
        if let Some(order) = self.spec.served(name) {
            self.order = order;
            return Ok(());
        }
        let field = self.spec.sortable().find(|field| field.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.spec.sortable().map(|field| field.name).collect();
            Fault::new("invalid", format!("must be one of: {}, with - in front for descending", names.join(", ")))
        })?;
        self.scan = Some(field);
        Ok(())
    }

    /// Adds a filter. `status=a&status=b` equals `status=a,b`.
    fn filter(&mut self, name: &str, texts: &[&str], tz: Tz) -> Result<(), Fault> {
        let condition = match name.strip_prefix(Spec::CUSTOM).filter(|_| self.spec.has_custom_fields()) {
            Some(key) => Condition::custom(key, texts)?,
            None => {
                let (name, operator) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                    Some((field, operator)) => (field, Some(operator)),
                    None => (name, None),
                };
                let field = self.spec.filterable().find(|field| field.name == name).ok_or_else(unknown)?;
                Condition::read(field, operator, texts, tz)?
            }
        };
        self.conditions.push(condition);
        Ok(())
    }
}

/// Reads the names of the fields to return.
fn fields(spec: &'static Spec, text: &str) -> Result<Vec<&'static str>, Fault> {
    let chosen: Vec<&str> = text.split(',').collect();
    if chosen.iter().any(|name| !spec.names().any(|known| known == *name)) {
        let names: Vec<&str> = spec.names().collect();
        return Err(Fault::new("invalid", format!("must be some of these, separated by commas: {}", names.join(", "))));
    }
    Ok(spec.names().filter(|name| chosen.contains(name)).collect())
}

/// The fault of a sort that no index serves: each page reads all records, so a whole list would read them
/// as often as it has pages.
fn needs_limit(can_be_limited: bool) -> FieldError {
    let message = match can_be_limited {
        true => "needs a limit, because no index has this order",
        false => "cannot be the order of an export, because no index has it",
    };
    FieldError::new("sort", "needs_limit", message)
}

impl Spec {
    /// Whether a list with these parameters is filtered or sorted by fields of another table.
    pub fn reads_joined(&self, parameters: &[(String, String)]) -> bool {
        let is_joined = |name: &str| {
            let mut fields = self.fields.iter().chain(self.filters);
            fields.any(|field| field.name == name && field.as_joined().is_some())
        };
        parameters.iter().any(|(name, text)| match name.as_str() {
            "sort" => is_joined(text.trim_start_matches('-')),
            name => is_joined(name.split('[').next().unwrap_or(name)),
        })
    }
}
