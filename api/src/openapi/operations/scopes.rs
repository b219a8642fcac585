//! What keys must allow for operations.

use shared::accounts::scopes::{Scope, Scopes};
use shared::jobs::JobUse;

use super::Operation;
use crate::http::access::{Access, Rule, Shows};

impl Operation {
    /// Needs this scope, besides those that it needs already.
    pub fn needs(self, scope: Scope) -> Self {
        let scopes = match self.access {
            Some(Access::Scopes(scopes)) => scopes,
            _ => Scopes::NONE,
        };
        Self { access: Some(Access::Scopes(scopes.and(Scopes::of(&[scope])))), ..self }
    }

    /// Needs a key, but no scope.
    pub fn needs_no_scope(self) -> Self {
        Self { access: Some(Access::AnyKey), ..self }
    }

    /// Needs the scope that starts the job, and those of its use.
    pub fn needs_scope_of_job(self, usage: JobUse) -> Self {
        Self { access: Some(Access::Job(usage)), ..self }
    }

    /// Shows records that need this scope. Keys without it get their ids.
    pub fn shows_records(self, scope: Scope) -> Self {
        Self { shows: Shows::Records(scope), ..self }
    }

    /// Shows records that need this scope, unless it has created them.
    pub fn shows_existing(self, scope: Scope) -> Self {
        Self { shows: Shows::Existing(scope), ..self }
    }

    /// Shows a job, in whose result a preview of records needs `records:read`.
    pub fn shows_job(self) -> Self {
        Self { shows: Shows::Job, ..self }
    }

    /// What a key must allow. An operation that does not declare it is for keys that may do everything.
    pub(crate) fn rule(&self) -> Rule {
        let mut access = self.access.unwrap_or(Access::Scopes(Scopes::ALL));
        if let Access::Scopes(scopes) = &mut access
            && self.exports
        {
            *scopes = scopes.and(Scopes::of(&[Scope::Exports]));
        }
        let is_personal = |scopes: Scopes| scopes.has(Scope::RecordsRead) || scopes.has(Scope::EmailsRead);
        let is_list = self.is_list && matches!(access, Access::Scopes(scopes) if is_personal(scopes));
        let writes = matches!(access, Access::Scopes(scopes) if scopes.has(Scope::RecordsWrite));
        let shows = match self.shows {
            Shows::Own if writes => Shows::Existing(Scope::RecordsRead),
            shows => shows,
        };
        Rule { access, is_list, shows }
    }
}
