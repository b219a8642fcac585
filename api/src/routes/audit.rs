//! `/dev/crm/audit`: who did what, and when.

use axum::extract::State;
use axum::http::Uri;
use shared::accounts::audit::{self, AuditEntry};
use shared::accounts::scopes::Scope;
use shared::events::EventType;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{Object, ObjectBuilder};

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{self, one_of};
use crate::respond::Result;
use crate::respond::lists;

/// Other names of filters.
const NAMES: [(&str, &str); 3] =
    [("action", "type"), ("created_at_from", "created_at[gte]"), ("created_at_to", "created_at[lt]")];

pub(crate) fn operations() -> Vec<Operation> {
    let action =
        parameters::several("action", "Another name of `type`.", one_of(EventType::WORDS.iter().copied()).build());
    let audit = Operation::get("/audit", list)
        .needs(Scope::Keys)
        .named("list", "List who did what")
        .about(
            "Lists who did what, newest first, for 400 days: changes of records, users, settings, API keys, webhooks, \
             schedules and suppressions, exports, jobs that were started, retried or cancelled and how they ended, and \
             decisions on emails. What a job writes is one entry for the job; `/jobs/{jobId}/records` has the records. \
             `changes` has the values of records only for keys that may read them.",
        )
        .with([
            action,
            parameters::query("created_at_from", "Another name of `created_at[gte]`.", time()),
            parameters::query("created_at_to", "Another name of `created_at[lt]`.", time()),
        ])
        .lists::<AuditEntry>(&audit::LIST);
    tagged("Audit", [audit])
}

fn time() -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, Query(mut parameters): Query) -> Result {
    for (name, _) in &mut parameters {
        if let Some((_, of_list)) = NAMES.iter().find(|(other, _)| other == name) {
            *name = (*of_list).to_owned();
        }
    }
    let list = (&audit::LIST, audit::columns_for(caller.scopes));
    lists::answer::<AuditEntry>(&state, caller.workspace_id, list, None, &uri, Query(parameters)).await
}
