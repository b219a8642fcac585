//! `/dev/crm/uploads`: files that wait to be imported, for a day.

use axum::extract::{Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::accounts::scopes::Scope;
use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::{CustomerInteraction, LeadInteraction};
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::crm::suppressions::Suppression;
use shared::error::{Error, FieldError, Reason};
use shared::imports::stored::{self, StoredReader, StoredUpload};
use shared::imports::{Options, Preview, Upload};
use shared::query::parameters::Parameters;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};
use uuid::Uuid;

use super::imports;
use crate::AppState;
use crate::extract::{FileBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::http::metrics::Receiving;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{one_of, query};
use crate::respond::reply::Reply;
use crate::respond::write::{Write, is_replayed};
use crate::respond::{Problem, Result};

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
/// The kinds of records that a preview proposes a mapping for.
const KINDS: [&str; 7] =
    ["leads", "customers", "orders", "lead_interactions", "customer_interactions", "feedback", "suppressions"];

pub(crate) fn operations() -> Vec<Operation> {
    let kind = query(
        "kind",
        "The kind of records for which a mapping is proposed.",
        one_of(KINDS).default(Some("leads".into())),
    );
    let uploads = [
        Operation::get("/uploads", list)
            .needs(Scope::Imports)
            .named("list", "List uploads")
            .about("Returns the uploads that wait to be imported, newest first.")
            .returns_list::<StoredUpload>("The uploads."),
        Operation::post("/uploads", create)
            .needs(Scope::Imports)
            .named("create", "Store a file to be imported")
            .about(
                "The file is stored for 24 hours, and imported with `upload={id}` as often as you like. It is the body itself \
                 (`application/octet-stream`) or the part `file` of a form. A workspace has at most 3 uploads: a fourth one \
                 replaces the oldest that no import reads. To be able to resume, send `Upload-Length` and an empty body, and \
                 then the bytes with `PATCH`.",
            )
            .with([header("Upload-Length", "The length of the file, if its bytes follow later.", Required::False)])
            .takes_file_or_bytes()
            .conflicts([Reason::UploadsInUse])
            .returns_created::<StoredUpload>("The upload."),
        Operation::get("/uploads/{uploadId}", read)
            .needs(Scope::Imports)
            .named("get", "Get an upload, and how it would be imported")
            .about(
                "Shows how an import with the same parameters would read the file. `HEAD` returns `Upload-Offset`, the \
                 number of bytes that have arrived.",
            )
            .with([kind])
            .with(imports::reading_options())
            .returns::<UploadDetails>(200, "The upload."),
        Operation::patch("/uploads/{uploadId}", append)
            .needs(Scope::Imports)
            .named("append", "Append bytes to an upload")
            .about(
                "What arrives before a connection breaks is kept. Continue at the `Upload-Offset` that `HEAD` returns; at any \
                 other offset the response is 409, with the right one in its header `Upload-Offset`.",
            )
            .with([header("Upload-Offset", "The number of bytes that have arrived.", Required::True)])
            .takes_bytes()
            .conflicts([Reason::OffsetMismatch])
            .returns_offset(204, "The bytes were appended; `Upload-Offset` is the new offset."),
        Operation::delete("/uploads/{uploadId}", delete)
            .needs(Scope::Imports)
            .named("delete", "Delete an upload")
            .deletes(),
    ];
    tagged("Uploads", uploads)
}

fn header(name: &str, about: &str, required: Required) -> Parameter {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let described = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).description(Some(about));
    described.required(required).schema(Some(number)).build()
}

/// An upload, and how an import would read it.
#[derive(Debug, Serialize, ToSchema)]
struct UploadDetails {
    #[serde(flatten)]
    upload: StoredUpload,
    /// How an import would read the file; `null` if it cannot be read.
    preview: Option<Preview>,
    /// Why the file cannot be read.
    errors: Vec<FieldError>,
}

async fn list(State(state): State<AppState>, caller: Caller, _: NoQuery) -> Result {
    let uploads = stored::list(&mut *state.connection().await?, caller.workspace_id).await?;
    Ok(Reply::json(&uploads)?.into_response())
}

async fn create(
    State(state): State<AppState>,
    mut write: Write,
    _: NoQuery,
    headers: HeaderMap,
    request: Request,
) -> Result {
    let length = number(&headers, &LENGTH)?;
    if length.is_some_and(|length| length.unsigned_abs() > state.settings.imports.max_bytes) {
        return Err(Problem::too_large());
    }
    let mut body = FileBody::of(request)?;
    let workspace_id = write.actor.workspace_id;
    let id = stored::begin(&mut *state.connection().await?, workspace_id, length).await?;
    let mut file = Appender::new(&state, (workspace_id, id), 0, length);
    let answer = async {
        while let Some(piece) = body.piece().await? {
            if write.has_key() {
                write.add(&piece);
            }
            file.add(&piece).await?;
        }
        file.flush().await?;
        write
            .run(format!("{length:?}").as_bytes(), move |connection, actor| {
                Box::pin(async move {
                    let upload = stored::accept(connection, actor.workspace_id, id).await?;
                    let location = format!("/dev/crm/uploads/{id}");
                    Reply::json(&upload)?
                        .status(StatusCode::CREATED)
                        .located(location)?
                        .header(OFFSET, upload.size.to_string())
                })
            })
            .await
    };
    let answer = answer.await;
    if !answer.as_ref().is_ok_and(|answer| !is_replayed(answer)) {
        // Has no effect on an accepted upload, even if the response to its commit was lost.
        stored::abandon(&mut *state.connection().await?, workspace_id, id).await?;
    }
    answer
}

async fn append(
    State(state): State<AppState>,
    Path(id): Path,
    write: Write,
    _: NoQuery,
    headers: HeaderMap,
    request: Request,
) -> Result {
    let place = (write.actor.workspace_id, id);
    let upload = stored::get(&mut *state.connection().await?, place.0, id).await?;
    let required = || Problem::invalid(vec![FieldError::new("Upload-Offset", "required", "is required")]);
    let offset = number(&headers, &OFFSET)?.ok_or_else(required)?;
    let mut body = FileBody::of_bytes(request)?;
    if upload.size != offset {
        return Ok(mismatch(&upload));
    }
    let mut file = Appender::new(&state, place, offset, upload.length);
    let appended = async {
        loop {
            match body.piece().await {
                Ok(Some(piece)) => file.add(&piece).await?,
                Ok(None) => return file.flush().await,
                Err(broken) => {
                    // What arrived is kept, so that the caller resumes after it.
                    file.flush().await?;
                    return Err(broken);
                }
            }
        }
    };
    match appended.await {
        Ok(()) => Ok((StatusCode::NO_CONTENT, [(OFFSET, file.size.to_string())]).into_response()),
        Err(problem) if problem.is_conflict() => {
            Ok(mismatch(&stored::get(&mut *state.connection().await?, place.0, id).await?))
        }
        Err(problem) => Err(problem),
    }
}

async fn read(
    State(state): State<AppState>,
    caller: Caller,
    method: Method,
    Path(id): Path,
    Query(parameters): Query,
) -> Result {
    let mut parameters = Parameters::new(&parameters);
    let kind = parameters.take_as("kind", kind).unwrap_or(KINDS[0]);
    let options = Options::take(&mut parameters);
    parameters.finish()?;
    let upload = stored::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    let mut headers = HeaderMap::from_iter([(OFFSET, HeaderValue::from(upload.size))]);
    headers.extend(upload.length.map(|length| (LENGTH, HeaderValue::from(length))));
    if method == Method::HEAD {
        return Ok(headers.into_response());
    }
    let (preview, errors) = match preview(&state, caller.workspace_id, &upload, kind, options).await {
        Ok(preview) => (Some(preview), Vec::new()),
        Err(Error::Invalid(errors)) => (None, errors),
        Err(Error::Conflict(conflict)) => (None, vec![conflict.error]),
        Err(Error::TooLarge) => (None, vec![FieldError::new("file", "too_large", "is larger than a file may be")]),
        Err(error) => return Err(error.into()),
    };
    Ok((headers, Reply::json(&UploadDetails { upload, preview, errors })?.into_response()).into_response())
}

async fn preview(
    state: &AppState,
    workspace_id: Uuid,
    upload: &StoredUpload,
    kind: &str,
    options: Options,
) -> Result<Preview, Error> {
    let settings = &state.settings.imports;
    let import = match kind {
        "customers" => Upload::new::<Customer>(workspace_id, options, settings),
        "orders" => Upload::new::<Order>(workspace_id, options, settings),
        "lead_interactions" => Upload::new::<LeadInteraction>(workspace_id, options, settings),
        "customer_interactions" => Upload::new::<CustomerInteraction>(workspace_id, options, settings),
        "feedback" => Upload::new::<Feedback>(workspace_id, options, settings),
        "suppressions" => Upload::new::<Suppression>(workspace_id, options, settings),
        _ => Upload::new::<Lead>(workspace_id, options, settings),
    };
    import.preview(&state.pool, &mut StoredReader::new(workspace_id, upload)?).await
}

async fn delete(Path(id): Path, write: Write, _: NoQuery) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move {
                stored::get(connection, actor.workspace_id, id).await?;
                stored::delete(connection, actor.workspace_id, id).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}

/// A file to which bytes are appended as they arrive.
struct Appender<'s> {
    state: &'s AppState,
    /// The workspace, and the id of the upload.
    place: (Uuid, Uuid),
    /// How many bytes are stored.
    size: i64,
    length: Option<i64>,
    /// The bytes that are not stored yet.
    held: Vec<u8>,
    receiving: Receiving<'s>,
}

impl<'s> Appender<'s> {
    fn new(state: &'s AppState, place: (Uuid, Uuid), size: i64, length: Option<i64>) -> Self {
        Self { state, place, size, length, held: Vec::new(), receiving: state.metrics.receive() }
    }

    async fn add(&mut self, piece: &[u8]) -> Result<()> {
        self.receiving.piece(piece.len());
        let size = self.size as u64 + (self.held.len() + piece.len()) as u64;
        if size > self.state.settings.imports.max_bytes {
            return Err(Problem::too_large());
        }
        if self.length.is_some_and(|length| size > length.unsigned_abs()) {
            let message = "is less than the number of bytes";
            return Err(Problem::invalid(vec![FieldError::new("Upload-Length", "out_of_range", message)]));
        }
        for piece in piece.chunks(stored::CHUNK) {
            self.held.extend_from_slice(piece);
            if self.held.len() >= stored::CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Stores the bytes that have arrived.
    async fn flush(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut connection = self.state.connection().await?;
        if !stored::has_room(&mut connection, &self.state.settings.imports, self.held.len()).await? {
            return Err(Problem::unavailable("Too many files wait to be imported; retry later"));
        }
        if !stored::append(&mut connection, self.place, self.size, &self.held).await? {
            let message = "has other bytes than this request";
            return Err(Error::conflict(Reason::OffsetMismatch, "Upload-Offset", message).into());
        }
        self.size += self.held.len() as i64;
        self.held.clear();
        Ok(())
    }
}

/// 409 with the offset at which the upload continues.
fn mismatch(upload: &StoredUpload) -> Response {
    let message = format!("must be {}", upload.size);
    let problem = Problem::from(Error::conflict_with(upload.id, Reason::OffsetMismatch, "Upload-Offset", message));
    ([(OFFSET, upload.size.to_string())], problem).into_response()
}

fn kind(text: &str) -> Result<&'static str, shared::values::Fault> {
    let fault = || shared::values::Fault::new("invalid", format!("must be one of {}", KINDS.join(", ")));
    KINDS.into_iter().find(|kind| *kind == text).ok_or_else(fault)
}

/// A header with a number of bytes.
fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<i64>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let number = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|text| text.parse().ok()).filter(|_| values.next().is_none());
    let shown = if *name == OFFSET { "Upload-Offset" } else { "Upload-Length" };
    let fault = || Problem::invalid(vec![FieldError::new(shown, "invalid", "must be one whole number of bytes")]);
    number.map(Some).ok_or_else(fault)
}
