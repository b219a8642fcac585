//! What a job did, record by record.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::Error;
use shared::bulk::BulkChanged;
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::imports::{self, Effect, EffectKind};
use shared::query::parameters::Parameters;
use shared::queue::{self, Payload};
use shared::values::Field;
use utoipa::ToSchema;
use utoipa::openapi::ResponseBuilder;

use crate::AppState;
use crate::extract::{Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::Operation;
use crate::openapi::parameters::{self, one_of};
use crate::openapi::{headers, schemas};
use crate::respond::Result;
use crate::respond::lists::Page;

pub(super) fn operation() -> Operation {
    let response = ResponseBuilder::new()
        .description("What the job did.")
        .content("application/json", schemas::content(schemas::array(&Effect::name())))
        .header_ref("Link", headers::reference("Link"))
        .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"));
    let [limit, cursor, _] = parameters::of_page();
    let outcome = parameters::several(
        "outcome",
        "Returns these outcomes; all by default.",
        one_of(EffectKind::WORDS.iter().copied()).build(),
    );
    Operation::get("/jobs/{jobId}/records", records)
        .named("records", "List what a job did")
        .about(
            "Lists what a job did: the records that it created and that still exist, those that it updated, deleted or \
             restored, among them those that changed along with another, and the addresses that it suppressed. A record \
             that several rows of a file changed is listed for each step that wrote it.",
        )
        .with([limit, cursor, outcome])
        .answers(200, response)
        .knows(schemas::of::<Effect>())
}

async fn records(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    uri: Uri,
    Query(parameters): Query,
) -> Result {
    let (outcomes, others): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|(name, _)| name == "outcome");
    let kinds = kinds(&outcomes)?;
    let page = Page::parse(&state, caller.workspace_id, &uri, &Query(others)).await?;
    let connection = &mut *state.connection().await?;
    let job = queue::get(connection, caller.workspace_id, id).await?;
    let (of, wanted) = ((caller.workspace_id, id), i64::from(page.limit) + 1);
    macro_rules! effects {
        ($($job:ty => $record:ty,)+) => {
            match job.kind.as_str() {
                $(<$job>::KIND => imports::effects::<$record>(connection, of, &kinds, page.before, wanted).await?,)+
                Lead::JOB => imports::effects::<Lead>(connection, of, &kinds, page.before, wanted).await?,
                Customer::JOB => imports::effects::<Customer>(connection, of, &kinds, page.before, wanted).await?,
                Order::JOB => imports::effects::<Order>(connection, of, &kinds, page.before, wanted).await?,
                // What workflows and undos did is in the history of the records.
                _ => imports::effects::<Lead>(connection, of, &kinds, page.before, wanted).await?,
            }
        };
    }
    let mut effects = shared::import_kinds!(effects);
    let has_more = effects.len() > page.limit as usize;
    effects.truncate(page.limit as usize);
    let last = effects.last().map(|effect| effect.position).filter(|_| has_more);
    let mut response = Json(effects).into_response();
    page.link(&uri, last, &mut response)?;
    Ok(response)
}

/// Reads `outcome`, one or more outcomes separated by commas.
fn kinds(parameters: &[(String, String)]) -> Result<Vec<EffectKind>, Error> {
    let mut given = Parameters::new(parameters);
    let mut kinds = Vec::new();
    for word in given.take_all("outcome").into_iter().flat_map(|text| text.split(',')) {
        match EffectKind::from_text(word) {
            Ok(kind) if !kinds.contains(&kind) => kinds.push(kind),
            Ok(_) => {}
            Err(fault) => given.refuse(fault.of("outcome")),
        }
    }
    given.finish()?;
    Ok(if kinds.is_empty() { EffectKind::ALL.to_vec() } else { kinds })
}
