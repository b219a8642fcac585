//! `/dev/crm/{leads,customers}/import`: streams a file into the database and queues its import.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::error::Reason;
use shared::imports::columns::Unmapped;
use shared::imports::{
    DateOrder, Decimal, ImportCustomers, ImportLeads, Importable, OnConflict, Options, RowKey, Upload,
};
use shared::queue::Payload;
use shared::values::json_schema::Shape;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use uuid::Uuid;

use crate::AppState;
use crate::extract::{Multipart, NoBody, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{one_of, query};
use crate::respond::write::{Write, is_replayed};
use crate::respond::{Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let leads = Operation::post("/leads/import", import_leads).named("importFile", "Import leads from a file");
    let customers =
        Operation::post("/customers/import", import_customers).named("importFile", "Import customers from a file");
    let leads = import_operation::<ImportLeads>(leads);
    let customers = import_operation::<ImportCustomers>(customers);
    tagged("Leads", [leads]).into_iter().chain(tagged("Customers", [customers])).collect()
}

fn import_operation<P: Payload>(operation: Operation) -> Operation {
    operation.about(ABOUT).with(options()).takes_file().refers().conflicts([Reason::UploadIncomplete]).accepts::<P>()
}

const ABOUT: &str = "The file is CSV, JSON Lines, an Excel workbook (.xlsx), or one of them compressed with gzip. It is \
    streamed and may have any number of rows. Its format, delimiter, encoding, header and the form of dates and numbers are detected; parameters override what the result reports. Rejected rows are listed at the job's \
    `errors`, what was written at its `records`.";

/// The options that say how a file is read.
pub(super) fn reading_options() -> Vec<Parameter> {
    options().into_iter().filter(|option| option.name != "upload").collect()
}

fn options() -> Vec<Parameter> {
    let words = |words: &[&'static str], default: &str| one_of(words.iter().copied()).default(Some(default.into()));
    let flag = |default: bool| ObjectBuilder::new().schema_type(Type::Boolean).default(Some(default.into()));
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let json = |example: &str| text().content_media_type("application/json").examples([example]);
    vec![
        query(
            "key",
            "The field by which a row finds its record.",
            words(RowKey::WORDS, "email").description(RowKey::shape().description),
        ),
        query(
            "on_conflict",
            "What to do with a row whose key exists already.",
            words(OnConflict::WORDS, "skip").description(OnConflict::shape().description),
        ),
        query(
            "create",
            "Whether rows without a record create one; otherwise they are rejected. A file without names only updates.",
            flag(true),
        ),
        query(
            "strict",
            "Rejects rows with a cell that its field cannot have. Otherwise only the cell is left out: its text is kept \
             in `custom_fields`, and it is a warning.",
            flag(false),
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
            flag(false),
        ),
        query(
            "delimiter",
            "The delimiter of a CSV file; detected by default.",
            one_of(["comma", "semicolon", "tab", "pipe", ",", ";", "\t", "|"]),
        ),
        query(
            "upload",
            "The id of an upload that waits, which is imported instead of a file in the body. The request then has no body.",
            ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))),
        ),
        query("sheet", "The sheet of a workbook; the first one by default.", text().examples(["Leads"])),
        query("encoding", "The name of the encoding; detected by default.", text().examples(["windows-1252"])),
        query(
            "mapping",
            "A JSON object from header to field, `custom_fields.key` or `suppression`, which overrides the detected \
             mapping; `null` ignores a column. If several headers map to a field, the first one with a value counts. \
             `none` ignores a saved mapping.",
            json(r#"{"E-mail 2":"email"}"#),
        ),
        query("save_mapping", "Remembers the mapping for the next file with the same headers.", flag(false)),
        query(
            "set",
            "A JSON object from field to value, for every row. It wins over the file's cells.",
            json(r#"{"source":"campaign","custom_fields.list":"Fair 2026"}"#),
        ),
        query(
            "header_row",
            "The line of the header; by default the first of 20 rows that has the required columns.",
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(1000)),
        ),
        query("header", "Whether the file has a header; otherwise `columns` names the columns.", flag(true)),
        query(
            "columns",
            "The names of the columns, separated by commas, with `header=false`.",
            text().examples(["name,email"]),
        ),
        query(
            "date_order",
            "How dates such as `3/4/2026` are read; settled by the cells of each column by default.",
            one_of(DateOrder::WORDS.iter().copied()).description(DateOrder::shape().description),
        ),
        query(
            "decimal",
            "The decimal separator of numbers such as `1,234`; settled by the cells of each column by default.",
            one_of(Decimal::WORDS.iter().copied()).description(Decimal::shape().description),
        ),
        query(
            "tz",
            "The time zone of dates and of times without an offset; the workspace's by default.",
            text().examples(["Europe/Berlin"]),
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
    let mut upload = Upload::new::<R>(write.actor.workspace_id, options, &state.settings.imports);
    let answer = async {
        receive(state, request, &mut upload, &mut write).await?;
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

/// Reads the file of the form, or the stored upload that the options name.
async fn receive(state: &AppState, request: Request, upload: &mut Upload, write: &mut Write) -> Result<()> {
    if let Some(id) = upload.stored() {
        NoBody::from_request(request, state).await?;
        return Ok(upload.feed_stored(&state.pool, id).await?);
    }
    let mut form = Multipart::of(request)?;
    form.file().await?;
    while let Some(piece) = form.chunk().await? {
        if write.has_key() {
            write.add(&piece);
        }
        upload.feed(&state.pool, &piece).await?;
    }
    form.end().await
}
