//! `/dev/crm/{leads,customers}/import`: streams a file into the database and queues its import.

use std::sync::Arc;

use axum::extract::{Request, State};
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::error::FieldError;
use shared::imports::columns::Unmapped;
use shared::imports::{ImportCustomers, ImportLeads, Importable, OnConflict, Options, Upload};
use shared::queue::Payload;
use shared::values::json_schema::Shape;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{ObjectBuilder, Type};
use uuid::Uuid;

use crate::AppState;
use crate::extract::{Multipart, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{one_of, query};
use crate::respond::write::{Write, is_replayed};
use crate::respond::{Problem, Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let leads = Operation::post("/leads/import", import_leads).named("importFile", "Import leads from a CSV file");
    let customers =
        Operation::post("/customers/import", import_customers).named("importFile", "Import customers from a CSV file");
    let leads = import_operation::<ImportLeads>(leads);
    let customers = import_operation::<ImportCustomers>(customers);
    tagged("Leads", [leads]).into_iter().chain(tagged("Customers", [customers])).collect()
}

fn import_operation<P: Payload>(operation: Operation) -> Operation {
    operation.about(ABOUT).with(options()).takes_file().accepts::<P>()
}

const ABOUT: &str = "The file is streamed and may have any number of rows. Delimiter, encoding and headers are detected; \
    parameters override what the result reports. Rejected rows are listed at the job's `errors`.";

fn options() -> [Parameter; 6] {
    let flag = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into()));
    let words = |words: &[&'static str], default: &str| one_of(words.iter().copied()).default(Some(default.into()));
    let text = || ObjectBuilder::new().schema_type(Type::String);
    [
        query(
            "on_conflict",
            "What to do with a row whose email exists already.",
            words(OnConflict::WORDS, "skip").description(OnConflict::shape().description),
        ),
        query(
            "unmapped",
            "What to do with columns that match no field.",
            words(Unmapped::WORDS, "keep").description(Unmapped::shape().description),
        ),
        query(
            "dry_run",
            "Validates the file and reports the outcome without writing records. Only the result and the rejected rows \
             are stored.",
            flag,
        ),
        query(
            "delimiter",
            "The delimiter; detected by default.",
            one_of(["comma", "semicolon", "tab", "pipe", ",", ";", "\t", "|"]),
        ),
        query("encoding", "The name of the encoding; detected by default.", text().examples(["windows-1252"])),
        query(
            "mapping",
            "A JSON object from header to field, which overrides the detected mapping; `null` ignores a column.",
            text().content_media_type("application/json").examples([r#"{"E-mail 2":"email"}"#]),
        ),
    ]
}

async fn import_leads(State(state): State<AppState>, write: Write, query: Query, request: Request) -> Result {
    import::<Lead, _>(&state, write, &query, request, |import_id, dry_run| ImportLeads { import_id, dry_run }).await
}

async fn import_customers(State(state): State<AppState>, write: Write, query: Query, request: Request) -> Result {
    import::<Customer, _>(&state, write, &query, request, |import_id, dry_run| ImportCustomers { import_id, dry_run })
        .await
}

async fn import<R: Importable, P: Payload>(
    state: &AppState,
    mut write: Write,
    Query(parameters): &Query,
    request: Request,
    payload: impl FnOnce(Uuid, bool) -> P,
) -> Result {
    let options = Options::parse(parameters)?;
    let dry_run = options.dry_run;
    let mut form = Multipart::of(request)?;
    let mut upload = Upload::new::<R>(write.actor.workspace_id, options);
    let answer = async {
        receive(state, &mut form, &mut upload, &mut write).await?;
        let uploaded = upload.finish(&state.pool).await?;
        let payload = Arc::new(payload(uploaded.id(), dry_run));
        write
            .run(&[], move |connection, actor| {
                let (uploaded, payload) = (uploaded.clone(), payload.clone());
                Box::pin(async move { Reply::accepted(&uploaded.accept(connection, actor, &*payload).await?) })
            })
            .await
    };
    let answer = answer.await;
    if !answer.as_ref().is_ok_and(|answer| !is_replayed(answer)) {
        // Has no effect on an accepted upload, even if the response to its commit was lost.
        upload.abandon(&state.pool).await?;
    }
    answer
}

/// Reads the form, which has exactly one part: the file.
async fn receive(state: &AppState, form: &mut Multipart, upload: &mut Upload, write: &mut Write) -> Result<()> {
    let mut files = 0;
    while let Some(part) = form.next_part().await? {
        match part.as_str() {
            "file" if files == 0 => receive_file(state, form, upload, write).await?,
            "file" => return Err(fault("file", "duplicate", "must be given only once")),
            name => return Err(fault(name, "unknown", "is not a known part; options are query parameters")),
        }
        files += 1;
    }
    if files == 1 { Ok(()) } else { Err(fault("file", "required", "is required")) }
}

async fn receive_file(state: &AppState, form: &mut Multipart, upload: &mut Upload, write: &mut Write) -> Result<()> {
    let mut room = state.settings.imports.max_bytes;
    while let Some(piece) = form.chunk().await? {
        room = room.checked_sub(piece.len() as u64).ok_or_else(Problem::too_large)?;
        if write.has_key() {
            write.add(&piece);
        }
        upload.feed(&state.pool, &piece).await?;
    }
    Ok(())
}

fn fault(field: &str, code: &'static str, message: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, code, message)])
}
