//! Extractors that read a request and report every fault by field.

mod multipart;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use shared::error::{FieldError, FieldErrors};
use shared::query::parameters::Parameters;
use shared::records::{MAX_BATCH, Place};
use shared::values::Field;
use shared::values::json;
use shared::values::json_body::Object;
use shared::workflows::run_request::confirm;
use uuid::Uuid;

use crate::AppState;
use crate::respond::{Problem, Result, is_stalled};

pub use multipart::Multipart;

/// The only id in a path.
#[derive(Debug, Clone, Copy)]
pub struct Path(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        match ids(parts)?[..] {
            [id] => Ok(Self(id)),
            _ => Err(Problem::internal("the path has another number of ids than its handler")),
        }
    }
}

/// The place of a record: the last id in a path, after its parent's id if it has a parent.
#[derive(Debug, Clone, Copy)]
pub struct At(pub Place);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        match ids(parts)?[..] {
            [id] => Ok(Self(Place { parent: None, id })),
            [parent, id] => Ok(Self(Place { parent: Some(parent), id })),
            _ => Err(Problem::internal("the path has another number of ids than its handler")),
        }
    }
}

/// The parent of listed or created records: the first id in a path, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Under(pub Option<Uuid>);

impl<S: Send + Sync> FromRequestParts<S> for Under {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(ids(parts)?.first().copied()))
    }
}

/// The ids in a path, in their order.
fn ids(parts: &Parts) -> Result<Vec<Uuid>> {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (mut ids, mut errors) = (Vec::with_capacity(2), Vec::new());
    // Compared from the end, because the path of a nested route lacks its prefix.
    for (name, text) in route.rsplit('/').zip(parts.uri.path().rsplit('/')) {
        let Some(name) = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else { continue };
        // Invalid UTF-8 becomes a replacement character, which no id contains.
        match Uuid::from_text(&percent_decode_str(text).decode_utf8_lossy()) {
            Ok(id) => ids.insert(0, id),
            Err(fault) => errors.insert(0, fault.of(name)),
        }
    }
    if errors.is_empty() { Ok(ids) } else { Err(Problem::invalid(errors)) }
}

/// The query string as decoded pairs, in the order given.
#[derive(Debug, Clone)]
pub struct Query(pub Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Ok(Self(pairs(parts.uri.query().unwrap_or_default()).map_err(shared::Error::from)?))
    }
}

/// The fields of a page's form, in the order given.
#[derive(Debug, Clone)]
pub struct Form(pub Vec<(String, String)>);

impl Form {
    const KIND: &str = "application/x-www-form-urlencoded";
    /// Enough for the longest texts that a page accepts, with every byte percent-encoded.
    const MAX_BYTES: usize = 256 * 1024;
}

impl FromRequest<AppState> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self> {
        let fields = form(request, Self::MAX_BYTES).await?;
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(Self(fields)),
            Some(pair) => Err(Problem::invalid(vec![FieldError::new(pair[0], "duplicate", "must be given only once")])),
        }
    }
}

/// Reads a form of a page, in which a name may be repeated.
pub(crate) async fn form(request: Request, limit: usize) -> Result<Vec<(String, String)>> {
    if essence(request.headers()) != Form::KIND {
        return Err(Problem::unsupported(Form::KIND));
    }
    let bytes = read(request, limit).await?;
    let malformed = |_| Problem::invalid(vec![FieldError::new("body", "malformed", "is not UTF-8")]);
    Ok(pairs(std::str::from_utf8(&bytes).map_err(malformed)?).map_err(shared::Error::from)?)
}

/// Decodes the pairs of a query string or a form.
fn pairs(text: &str) -> Result<Vec<(String, String)>, FieldErrors> {
    let (mut pairs, mut errors) = (Vec::new(), FieldErrors::default());
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(name), decode(value)) {
            (Some(name), Some(value)) => pairs.push((name, value)),
            _ => errors.push_with(|| FieldError::new(name, "invalid", "is not percent-encoded UTF-8")),
        }
    }
    if errors.is_empty() { Ok(pairs) } else { Err(errors) }
}

/// Returns `None` for a `%` without two hex digits, and for bytes that are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let is_encoded = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_encoded) {
        return None;
    }
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

/// Rejects every query parameter by name, for routes that have none.
#[derive(Debug, Clone, Copy)]
pub struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Query(pairs) = Query::from_request_parts(parts, state).await?;
        Parameters::new(&pairs).finish()?;
        Ok(Self)
    }
}

/// The query parameter `confirm`, the only one of its route.
#[derive(Debug, Clone, Copy)]
pub struct Confirm(pub Option<u32>);

impl<S: Sync> FromRequestParts<S> for Confirm {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Query(pairs) = Query::from_request_parts(parts, state).await?;
        let mut parameters = Parameters::new(&pairs);
        let confirm = confirm(&mut parameters);
        parameters.finish()?;
        Ok(Self(confirm))
    }
}

/// A JSON object as the body, read field by field.
#[derive(Debug)]
pub struct JsonObject {
    /// The object.
    pub object: Object,
    /// The body as received.
    pub bytes: Bytes,
}

impl FromRequest<AppState> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        Self::read(request, state.settings.api.max_body_bytes).await
    }
}

impl JsonObject {
    async fn read(request: Request, limit: usize) -> Result<Self> {
        let bytes = read_json(request, limit).await?;
        let object = json::object(&bytes).map(Object::new).map_err(shared::Error::from)?;
        Ok(Self { object, bytes })
    }
}

/// A JSON object; a missing body counts as an empty object.
#[derive(Debug)]
pub struct OptionalJsonObject(pub JsonObject);

impl FromRequest<AppState> for OptionalJsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let limit = state.settings.api.max_body_bytes;
        if is_json(request.headers()) && request.body().size_hint().exact() != Some(0) {
            return JsonObject::read(request, limit).await.map(Self);
        }
        let bytes = read(request, limit).await?;
        if bytes.is_empty() {
            Ok(Self(JsonObject { object: Object::new(serde_json::Map::new()), bytes }))
        } else {
            Err(Problem::unsupported("application/json"))
        }
    }
}

async fn read_json(request: Request, limit: usize) -> Result<Bytes> {
    if is_json(request.headers()) { read(request, limit).await } else { Err(Problem::unsupported("application/json")) }
}

/// The items of a batch, `{"items": [{…}, …]}`, whose body has a larger size limit.
#[derive(Debug)]
pub struct Items {
    /// The items.
    pub items: json::Items,
    /// The body as received.
    pub bytes: Bytes,
}

impl FromRequest<AppState> for Items {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let bytes = read_json(request, state.settings.api.max_batch_bytes).await?;
        Ok(Self { items: json::Items::read(&bytes, "items", MAX_BATCH)?, bytes })
    }
}

/// The media type of a body, without its parameters.
fn essence(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Compressed bodies are rejected: their decompressed size cannot be limited in advance.
fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter().map(|encoding| encoding.as_bytes().trim_ascii());
    if encodings.all(|encoding| encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Problem::encoded())
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes> {
    if request.body().size_hint().exact() != Some(0) {
        check_encoding(request.headers())?;
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(Problem::too_large());
    }
    // One buffer of the announced size: a body may arrive byte by byte, and collecting pieces would
    // cost a full allocation for each byte.
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default());
    let mut body = request.into_body();
    while let Some(piece) = next_piece(&mut body).await? {
        if bytes.len() + piece.len() > limit {
            return Err(Problem::too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// The next piece of a body as it arrives.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        match frame {
            // Trailers are ignored.
            Ok(frame) => match frame.into_data() {
                Ok(piece) => return Ok(Some(piece)),
                Err(_) => continue,
            },
            Err(error) if is_stalled(&error) => return Err(Problem::stalled()),
            Err(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "Request body ended unexpectedly")),
        }
    }
    Ok(None)
}

/// The bytes of a file: the body itself, or the part `file` of a form.
#[derive(Debug)]
pub enum FileBody {
    /// The body.
    Bytes(Body),
    /// The form, and whether its file has begun.
    Form(Box<Multipart>, bool),
}

impl FileBody {
    const BYTES: [&str; 2] = ["application/octet-stream", "application/offset+octet-stream"];

    /// Begins a file of either kind. A body without bytes needs no `Content-Type`.
    ///
    /// # Errors
    /// As [`Multipart::of`], and [`FileBody::of_bytes`].
    pub fn of(request: Request) -> Result<Self> {
        if essence(request.headers()).starts_with("multipart/") {
            return Ok(Self::Form(Multipart::of(request)?.into(), false));
        }
        Self::of_bytes(request)
    }

    /// Begins a file that is the body itself.
    ///
    /// # Errors
    /// 415 for other media types.
    pub fn of_bytes(request: Request) -> Result<Self> {
        let essence = essence(request.headers());
        let is_nothing = essence.is_empty() && request.body().size_hint().exact() == Some(0);
        if !is_nothing && !Self::BYTES.contains(&essence.as_str()) {
            return Err(Problem::unsupported(Self::BYTES[0]));
        }
        check_encoding(request.headers())?;
        Ok(Self::Bytes(request.into_body()))
    }

    /// Returns the next piece of the file.
    ///
    /// # Errors
    /// 400 for a body that ends early, or a malformed form; 408 for one that arrives too slowly.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Bytes(body) => next_piece(body).await,
            Self::Form(form, has_begun) => {
                if !std::mem::replace(has_begun, true) {
                    form.file().await?;
                }
                let piece = form.chunk().await?;
                if piece.is_none() {
                    form.end().await?;
                }
                Ok(piece)
            }
        }
    }
}

/// A request without a body. Many clients send `{}` anyway, so an empty object is accepted.
#[derive(Debug, Clone, Copy)]
pub struct NoBody;

impl FromRequest<AppState> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let body = read(request, state.settings.api.max_body_bytes).await?;
        if !body.trim_ascii().is_empty() {
            Object::new(json::object(&body).map_err(shared::Error::from)?).finish()?;
        }
        Ok(Self)
    }
}
