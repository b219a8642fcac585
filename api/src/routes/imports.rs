//! `/dev/crm/{leads,customers,orders}/import`: streams a file into the database and queues its import.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use shared::accounts::scopes::Scope;
use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::{CustomerInteraction, LeadInteraction};
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::crm::suppressions::Suppression;
use shared::error::Reason;
use shared::imports::columns::Unmapped;
use shared::imports::{
    DateOrder, Decimal, ImportCustomerInteractions, ImportCustomers, ImportFeedback, ImportJob, ImportLeadInteractions,
    ImportLeads, ImportOrders, ImportSuppressions, Importable, OnConflict, Options, RowKey, Upload,
};
use shared::values::json_schema::Shape;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

use crate::AppState;
use crate::extract::{Multipart, NoBody, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{one_of, query};
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::{Write, is_replayed};

pub(crate) fn operations() -> Vec<Operation> {
    let leads = Operation::post("/leads/import", import::<Lead, ImportLeads>).needs(Scope::Imports);
    let customers = Operation::post("/customers/import", import::<Customer, ImportCustomers>).needs(Scope::Imports);
    let orders =
        Operation::post("/orders/import", import::<Order, ImportOrders>).needs(Scope::Imports).about(ABOUT_ORDERS);
    let of_leads = Operation::post("/leads/interactions/import", import::<LeadInteraction, ImportLeadInteractions>)
        .needs(Scope::Imports);
    let of_customers =
        Operation::post("/customers/interactions/import", import::<CustomerInteraction, ImportCustomerInteractions>)
            .needs(Scope::Imports);
    let feedback = Operation::post("/feedback/import", import::<Feedback, ImportFeedback>)
        .needs(Scope::Imports)
        .about(ABOUT_FEEDBACK);
    let of_leads = described::<LeadInteraction, ImportLeadInteractions>(
        of_leads.about(ABOUT_LEAD_INTERACTIONS),
        "Import interactions with leads from a file",
    );
    let of_customers = described::<CustomerInteraction, ImportCustomerInteractions>(
        of_customers.about(ABOUT_CUSTOMER_INTERACTIONS),
        "Import interactions with customers from a file",
    );
    let suppressions =
        Operation::post("/suppressions/import", import::<Suppression, ImportSuppressions>).needs(Scope::Imports);
    let suppressions = described::<Suppression, ImportSuppressions>(
        suppressions.about(ABOUT_SUPPRESSIONS),
        "Import suppressions from a file",
    );
    [
        tagged("Leads", [described::<Lead, ImportLeads>(leads, "Import leads from a file")]),
        tagged("Customers", [described::<Customer, ImportCustomers>(customers, "Import customers from a file")]),
        tagged("Orders", [described::<Order, ImportOrders>(orders, "Import orders from a file")]),
        tagged("Lead interactions", [of_leads]),
        tagged("Customer interactions", [of_customers]),
        tagged("Suppressions", [suppressions]),
        tagged("Feedback", [described::<Feedback, ImportFeedback>(feedback, "Import feedback from a file")]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn described<R: Importable, P: ImportJob>(operation: Operation, summary: &'static str) -> Operation {
    operation
        .named("importFile", summary)
        .about_usually(ABOUT)
        .with(options::<R>())
        .takes_file()
        .refers()
        .conflicts([Reason::UploadIncomplete])
        .accepts::<P>()
}

const ABOUT: &str = "The file is CSV, JSON Lines, an Excel workbook (.xlsx), or one of them compressed with gzip. It is \
    streamed and may have any number of rows. Its format, delimiter, encoding, header and the form of dates and numbers are detected; parameters override what the result reports. Rejected rows are listed at the job's \
    `errors`, what was written at its `records`.";

/// The options that say how a file is read.
pub(super) fn reading_options() -> Vec<Parameter> {
    options::<Lead>().into_iter().filter(|option| option.name != "upload").collect()
}

const ABOUT_ORDERS: &str = "Each row names its customer by `customer_id`, by `customer_email` or by `customer_external_id`; \
    other headers for these are recognised. A row whose customer does not exist is rejected (`not_found`). A product is an \
    id, or any text: the text is kept in `custom_fields`, and the same text is always the same id. Rows that share an order \
    number become orders with the external ids `1001/1`, `1001/2`. Rows without an id or external id are always created. \
    Everything else is as for leads.";

const ABOUT_LEAD_INTERACTIONS: &str = "Each row names its lead by `lead_id`, by `lead_email` or by `lead_external_id`; other \
    headers for these are recognised. A row whose lead does not exist is rejected (`not_found`). Next actions that are past \
    are due: the owner of the lead gets them in the next digest. Everything else is as for orders.";

const ABOUT_CUSTOMER_INTERACTIONS: &str = "Each row names its customer as in an import of orders. Next actions that are past \
    are due: the owner of the customer gets them in the next digest. Everything else is as for orders.";

const ABOUT_FEEDBACK: &str = "Imports reviews of another system. Each row names its customer as in an import of orders. A row \
    with a rating is answered feedback; nobody is emailed. Everything else is as for orders.";

const ABOUT_SUPPRESSIONS: &str = "The file is a list of addresses, with or without a header, or of the SHA-256 of their \
    normal form in hexadecimal. Each row suppresses its address, `imported` by default. An address that is suppressed \
    already is a conflict, and stays as it is. An address of which only the hash is known gets no email either.";

fn options<R: Importable>() -> Vec<Parameter> {
    let keys: Vec<&'static str> = R::KEYS.iter().map(|key| key.as_str()).collect();
    let words = |words: &[&'static str], default: &str| one_of(words.iter().copied()).default(Some(default.into()));
    let flag = |default: bool| ObjectBuilder::new().schema_type(Type::Boolean).default(Some(default.into()));
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let json = |example: &str| text().content_media_type("application/json").examples([example]);
    let enroll = query("enroll", "Enrols the created leads for nurture, as of the time of the import.", flag(false));
    let mut options = vec![
        query(
            "key",
            "The field by which a row finds its record.",
            words(&keys, keys[0]).description(Some(about_keys::<R>())),
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
    ];
    options.extend(R::ENROLLED.then_some(enroll));
    options
}

/// The keys of a kind of record.
fn about_keys<R: Importable>() -> String {
    let about = |key: &&RowKey| match key {
        RowKey::Email => "- `email`: The email address.",
        RowKey::Id => "- `id`: The id.",
        RowKey::ExternalId => "- `external_id`: The id in another system.",
    };
    let mut lines: Vec<&str> = R::KEYS.iter().map(|key| about(&key)).collect();
    if !R::KEYS.contains(&RowKey::Email) {
        lines.push("\nA file with our ids in the column `id` has the key `id` by default.");
    }
    lines.join("\n")
}

async fn import<R: Importable, P: ImportJob>(
    State(state): State<AppState>,
    mut write: Write,
    Query(parameters): Query,
    request: Request,
) -> Result {
    let state = &state;
    let options = Options::parse(&parameters)?;
    options.check::<R>()?;
    let dry_run = options.dry_run;
    let mut upload = Upload::new::<R>(write.actor.workspace_id, options, &state.settings.imports);
    let answer = async {
        receive(state, request, &mut upload, &mut write).await?;
        let uploaded = upload.finish(&state.pool).await?;
        let payload = Arc::new(P::new(uploaded.id(), dry_run));
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
    let receiving = state.metrics.receive();
    while let Some(piece) = form.chunk().await? {
        receiving.piece(piece.len());
        if write.has_key() {
            write.add(&piece);
        }
        upload.feed(&state.pool, &piece).await?;
    }
    form.end().await
}
