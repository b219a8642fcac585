//! How every list is answered: a page with its `Link`, or all of it, streamed.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use shared::db::Pool;
use shared::error::FieldError;
use shared::exports::CsvRows;
use shared::lists::{self, List, MAX_LIMIT, Part, Spec};
use shared::records::{Parent, Record};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use crate::extract::Query;
use crate::respond::{Problem, Result};
use crate::{AppState, CRM};

/// How many records are read at once for an answer without a limit.
const PAGE: u32 = 1000;
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Answers a list of records as its query string asks.
pub async fn answer<T>(
    state: &AppState,
    workspace_id: Uuid,
    (spec, columns): (&'static Spec, &'static str),
    parent: Option<(Parent, Uuid)>,
    uri: &Uri,
    Query(parameters): Query,
) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Sync + Unpin + 'static,
{
    let mut list = List::parse(spec, workspace_id, &parameters)?;
    if let Some((parent, id)) = parent {
        list.within(parent.column, id);
    }
    let total = match list.count {
        true => Some(lists::count(&mut *state.connection().await?, &list, workspace_id).await?),
        false => None,
    };
    let source = Source::new(state, workspace_id, columns);
    let mut response = match list.limit {
        Some(limit) => page::<T>(&source, &list, limit, uri, &parameters).await?,
        None => {
            let body = all::<T>(source, list, JsonArray { separator: "[" }).await?;
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
    };
    if let Some(total) = total {
        response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(total));
    }
    Ok(response)
}

/// How a kind of record is listed.
pub fn of<R: Record>() -> (&'static Spec, &'static str) {
    (const { &R::LIST }, R::statements().columns)
}

/// Answers with all records that the query string's filters leave, as a CSV file.
pub async fn export<R: Record>(state: &AppState, workspace_id: Uuid, Query(parameters): Query) -> Result {
    let (spec, columns) = of::<R>();
    let paged = parameters.iter().filter(|(name, _)| matches!(name.as_str(), "limit" | "cursor" | "count"));
    let errors: Vec<FieldError> =
        paged.map(|(name, _)| FieldError::new(name, "unknown", "is not a parameter of an export")).collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let list = List::parse(spec, workspace_id, &parameters)?;
    let body = all::<R>(Source::new(state, workspace_id, columns), list, Csv { begun: false }).await?;
    let disposition = format!("attachment; filename=\"{}.csv\"", spec.table);
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8; header=present"), (CONTENT_DISPOSITION, &disposition)], body)
        .into_response())
}

#[derive(Clone)]
struct Source {
    pool: Pool,
    turns: Arc<Semaphore>,
    workspace_id: Uuid,
    columns: &'static str,
}

impl Source {
    fn new(state: &AppState, workspace_id: Uuid, columns: &'static str) -> Self {
        Self { pool: state.pool.clone(), turns: state.streams.clone(), workspace_id, columns }
    }

    /// A page of a stream, when it is its turn: streams take a few connections and leave the others
    /// to those who want little.
    async fn stream<T>(&self, list: &List) -> shared::Result<Part<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let _turn = self.turns.acquire().await.map_err(shared::Error::internal)?;
        self.fetch(list, PAGE).await
    }

    /// Each page takes a connection and gives it back: slow readers hold none.
    async fn fetch<T>(&self, list: &List, limit: u32) -> shared::Result<Part<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.pool.acquire().await?;
        lists::fetch(&mut connection, list, self.workspace_id, self.columns, limit).await
    }
}

async fn page<T>(source: &Source, list: &List, limit: u32, uri: &Uri, parameters: &[(String, String)]) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Unpin,
{
    let Part { records, next } = source.fetch::<T>(list, limit).await?;
    let mut response = Json(records).into_response();
    if let Some(place) = next {
        response.headers_mut().insert(LINK, link(uri, parameters, &list.cursor(place))?);
    }
    Ok(response)
}

/// A page of a list that has no order but that of its ids, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many entries.
    pub limit: u32,
    /// The id before which it begins.
    pub before: Option<Uuid>,
    parameters: Vec<(String, String)>,
}

impl Page {
    const DEFAULT: u32 = 100;

    /// Reads `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 for anything else, and for values that are none.
    pub fn parse(Query(parameters): &Query) -> Result<Self> {
        let mut page = Self { limit: Self::DEFAULT, before: None, parameters: parameters.clone() };
        let mut errors = Vec::new();
        for (name, text) in parameters {
            match name.as_str() {
                "limit" => match text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)) {
                    Some(limit) => page.limit = limit,
                    None => errors.push(FieldError::new(name, "out_of_range", "must be a whole number from 1 to 1000")),
                },
                "cursor" => match Uuid::try_parse(text) {
                    Ok(id) => page.before = Some(id),
                    Err(_) => errors.push(FieldError::new(name, "invalid", "is not a cursor of this API")),
                },
                _ => errors.push(FieldError::new(name, "unknown", "is not a known parameter")),
            }
        }
        if errors.is_empty() { Ok(page) } else { Err(Problem::invalid(errors)) }
    }

    /// Adds the `Link` to the next page, if there is one.
    ///
    /// # Errors
    /// 500 if the link is no header.
    pub fn link(&self, uri: &Uri, next_id: Option<Uuid>, response: &mut Response) -> Result<()> {
        if let Some(id) = next_id {
            response.headers_mut().insert(LINK, link(uri, &self.parameters, &id.to_string())?);
        }
        Ok(())
    }
}

/// The same list behind a cursor, as a reference that holds behind any proxy. The path of the request
/// is known without the prefix its route is nested under.
fn link(uri: &Uri, parameters: &[(String, String)], cursor: &str) -> Result<HeaderValue> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut pairs: Vec<String> = parameters
        .iter()
        .filter(|(name, _)| name != "cursor")
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.push(format!("cursor={}", encode(cursor)));
    let link = format!("<{CRM}{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"));
    HeaderValue::from_str(&link).map_err(|error| Problem::internal(error.to_string()))
}

/// How a streamed list is written.
trait Format<T>: Send + 'static {
    /// The next records; there may be none.
    fn page(&mut self, records: Vec<T>, last: bool) -> shared::Result<Bytes>;
}

/// All of a list, streamed. A page is read while the one before is being written and sent.
///
/// The first page is read before the answer begins, so a failure then is still an error's answer;
/// a later one breaks the answer off, which clients see by its missing end.
async fn all<T>(source: Source, mut list: List, mut format: impl Format<T>) -> Result<Body>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin + 'static,
{
    let mut part: Part<T> = source.stream(&list).await?;
    let (pieces, mut sent) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            // Nothing is read ahead of a reader who has not taken the last piece: many slow ones would
            // hold much of it. An error: the client is gone.
            let Ok(place) = pieces.reserve().await else { return };
            let next = part.next.map(|behind| {
                list.after(behind);
                let (source, list) = (source.clone(), list.clone());
                // Not ended with the stream: a statement that is broken off keeps its connection busy.
                tokio::spawn(async move { source.stream::<T>(&list).await })
            });
            let piece = format.page(part.records, next.is_none());
            let broken = piece.is_err();
            place.send(piece);
            if broken {
                return;
            }
            let Some(next) = next else { return };
            part = match next.await.map_err(shared::Error::internal).flatten() {
                Ok(part) => part,
                Err(error) => {
                    tracing::warn!(%error, "a streamed list broke off");
                    let _ = pieces.send(Err(error)).await;
                    return;
                }
            };
        }
    });
    Ok(Body::from_stream(stream::poll_fn(move |context| sent.poll_recv(context))))
}

/// A JSON array.
struct JsonArray {
    separator: &'static str,
}

impl<T: Serialize> Format<T> for JsonArray {
    fn page(&mut self, records: Vec<T>, last: bool) -> shared::Result<Bytes> {
        let mut json = Vec::with_capacity(records.len() * 512 + 2);
        for record in records {
            json.extend_from_slice(self.separator.as_bytes());
            serde_json::to_writer(&mut json, &record)?;
            self.separator = ",";
        }
        if last {
            // An array that has not begun yet is an empty one.
            json.extend_from_slice(if self.separator == "[" { b"[]" } else { b"]" });
        }
        Ok(json.into())
    }
}

/// CSV with a header.
struct Csv {
    begun: bool,
}

impl<R: Record> Format<R> for Csv {
    fn page(&mut self, records: Vec<R>, _: bool) -> shared::Result<Bytes> {
        let mut rows = CsvRows::with_capacity(records.len() * 512);
        if !std::mem::replace(&mut self.begun, true) {
            rows.row(R::COLUMNS.iter().copied());
        }
        records.iter().for_each(|record| rows.record(record));
        Ok(rows.into_bytes()?.into())
    }
}
