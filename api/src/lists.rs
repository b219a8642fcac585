//! How every list is answered: a page with its `Link`, or all of it, streamed.

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use shared::lists::{self, List, Placed, Spec};
use sqlx::FromRow;
use sqlx::postgres::{PgPool, PgRow};
use uuid::Uuid;

use crate::CRM;
use crate::extract::Query;
use crate::respond::{Problem, Result};

/// How many records are read at once for an answer without a limit.
const PAGE: u32 = 1000;
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Answers a list of records as its query string asks.
pub async fn answer<T>(
    pool: &PgPool,
    workspace_id: Uuid,
    (spec, columns): (&'static Spec, &'static str),
    uri: &Uri,
    Query(parameters): Query,
) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Sync + Unpin + 'static,
{
    let list = List::parse(spec, workspace_id, &parameters)?;
    let total = match list.count {
        true => {
            Some(lists::count(&mut *pool.acquire().await.map_err(shared::Error::from)?, &list, workspace_id).await?)
        }
        false => None,
    };
    let source = Source { pool: pool.clone(), workspace_id, columns };
    let mut response = match list.limit {
        Some(limit) => page::<T>(&source, &list, limit, uri, &parameters).await?,
        None => all::<T>(source, list).await?,
    };
    if let Some(total) = total {
        response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(total));
    }
    Ok(response)
}

struct Source {
    pool: PgPool,
    workspace_id: Uuid,
    columns: &'static str,
}

impl Source {
    /// Each page takes a connection and gives it back: slow readers hold none.
    async fn fetch<T>(&self, list: &List, limit: u32) -> shared::Result<Vec<Placed<T>>>
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
    // One more than asked for tells whether there is a next page.
    let mut placed: Vec<Placed<T>> = source.fetch(list, limit + 1).await?;
    let more = placed.len() > limit as usize;
    placed.truncate(limit as usize);
    let last = placed.last().map(|placed| placed.place.clone());
    let records: Vec<T> = placed.into_iter().map(|placed| placed.record).collect();
    let mut response = Json(records).into_response();
    if let (true, Some(place)) = (more, last) {
        response.headers_mut().insert(LINK, next(uri, parameters, &list.cursor(place))?);
    }
    Ok(response)
}

/// The same list behind a cursor, as a reference that holds behind any proxy. The path of the request
/// is known without the prefix its route is nested under.
fn next(uri: &Uri, parameters: &[(String, String)], cursor: &str) -> Result<HeaderValue> {
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

/// Where a streamed list is.
enum Stage<T> {
    /// These records come next; the list goes on behind them if the page is full.
    Page(Vec<Placed<T>>, &'static str),
    /// The next page must be read.
    Behind(&'static str),
    /// All is said.
    End,
}

/// The first page is read before the answer begins, so a failure then is still an error's answer.
async fn all<T>(source: Source, list: List) -> Result<Response>
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Sync + Unpin + 'static,
{
    let first: Vec<Placed<T>> = source.fetch(&list, PAGE).await?;
    let start = (source, list, Stage::Page(first, "["));
    let pieces = stream::try_unfold(start, |(source, mut list, stage)| async move {
        let (placed, separator) = match stage {
            Stage::End => return Ok(None),
            Stage::Page(placed, separator) => (placed, separator),
            Stage::Behind(separator) => (source.fetch::<T>(&list, PAGE).await?, separator),
        };
        let (piece, stage) = write(placed, separator, &mut list)?;
        Ok::<_, shared::Error>(Some((piece, (source, list, stage))))
    });
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response())
}

fn write<T: Serialize>(
    placed: Vec<Placed<T>>,
    mut separator: &'static str,
    list: &mut List,
) -> shared::Result<(Bytes, Stage<T>)> {
    let full = placed.len() == PAGE as usize;
    let mut json = Vec::with_capacity(placed.len() * 512 + 2);
    if placed.is_empty() && separator == "[" {
        json.push(b'[');
    }
    for Placed { record, place } in placed {
        json.extend_from_slice(separator.as_bytes());
        serde_json::to_writer(&mut json, &record)?;
        list.after(place);
        separator = ",";
    }
    if full {
        return Ok((json.into(), Stage::Behind(separator)));
    }
    json.push(b']');
    Ok((json.into(), Stage::End))
}
