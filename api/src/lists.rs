//! How every list is answered: a page with its `Link`, or all of it, streamed.

use axum::Json;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use shared::error::FieldError;
use shared::lists::{self, List, MAX_LIMIT, Spec};
use shared::records::{Parent, Record};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::extract::Query;
use crate::respond::{Problem, Result};
use crate::streams::{self, Csv, JsonArray, Limited, Records, Source};
use crate::{AppState, CRM};

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
    let mut response = match list.limit {
        Some(limit) => {
            let source = Source::new(state, workspace_id, columns, list.clone());
            page::<T>(source, (&list, limit), (uri, &parameters)).await?
        }
        None => {
            let body = streams::all::<T>(Source::new(state, workspace_id, columns, list), JsonArray::default()).await?;
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
    let body = streams::all::<R>(Source::new(state, workspace_id, columns, list), Csv).await?;
    let disposition = format!("attachment; filename=\"{}.csv\"", spec.table);
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8; header=present"), (CONTENT_DISPOSITION, &disposition)], body)
        .into_response())
}

async fn page<T>(source: Source, (list, limit): (&List, u32), (uri, parameters): (&Uri, &[(String, String)])) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Sync + 'static,
{
    let Limited { records, next } = streams::limited::<T>(source, limit).await?;
    let mut response = match records {
        Records::Whole(records) => Json(records).into_response(),
        Records::Streamed(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
    };
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
