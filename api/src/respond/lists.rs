//! Responses with lists: one page with a `Link`, or the whole list, streamed.

use axum::http::header::{CONTENT_TYPE, InvalidHeaderValue, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use shared::platform::signed_links::Signer;
use shared::query::parameters::{Parameters, whole};
use shared::query::{self, Columns, IdCursors, Item, List, MAX_LIMIT, Spec};
use shared::records::{Parent, Record};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::extract::Query;
use crate::respond::streams::{self, JsonArray, Limited, Records, Source};
use crate::respond::{Problem, Result};
use crate::{AppState, CRM};

/// How many items match.
pub(crate) const X_TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
/// Where the next page begins.
pub(crate) const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// Responds with the list that the query string asks for.
pub async fn answer<T>(
    state: &AppState,
    workspace_id: Uuid,
    (spec, columns): (&'static Spec, Columns),
    parent: Option<(Parent, Uuid)>,
    uri: &Uri,
    Query(parameters): Query,
) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Item + Send + Sync + Unpin + 'static,
{
    let signer = state.signer().await?;
    let parent = parent.map(|(parent, id)| (parent.column, id));
    let list = List::resume(spec, workspace_id, parent, &parameters, signer)?;
    let total = match list.count {
        true => Some(query::count(&mut *state.connection().await?, &list, workspace_id).await?),
        false => None,
    };
    let mut response = match list.limit {
        Some(limit) => {
            let source = Source::new(state, workspace_id, columns, list.clone());
            page::<T>(source, signer, (&list, limit), uri).await?
        }
        None => {
            let format = JsonArray::new(list.fields.clone());
            let body = streams::all::<T>(Source::new(state, workspace_id, columns, list), format).await?;
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
    };
    if let Some(total) = total {
        response.headers_mut().insert(X_TOTAL_COUNT, HeaderValue::from(total));
    }
    Ok(response)
}

/// Takes `deleted` out of the parameters, if the type of record has a list of deleted records. Returns that
/// list if it is requested.
///
/// # Errors
/// 400 for a value other than `true` and `false`.
pub fn of_deleted<R: Record>(Query(parameters): Query) -> Result<(Option<&'static Spec>, Query)> {
    let Some(spec) = (const { &R::DELETED }).as_ref() else { return Ok((None, Query(parameters))) };
    let (flags, others): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|(name, _)| name == "deleted");
    let mut given = Parameters::new(&flags);
    let is_deleted = given.flag("deleted");
    given.finish()?;
    Ok((is_deleted.then_some(spec), Query(others)))
}

/// The list of a type of record, and its columns.
pub fn of<R: Record>() -> (&'static Spec, Columns) {
    (const { &R::LIST }, R::columns())
}

async fn page<T>(source: Source, signer: &Signer, (list, limit): (&List, u32), uri: &Uri) -> Result
where
    T: for<'r> FromRow<'r, PgRow> + Item + Send + Sync + 'static,
{
    let host = host(source.state());
    let Limited { records, next } = streams::limited::<T>(source, limit).await?;
    let mut response = match records {
        Records::Whole(records) => {
            let body = JsonArray::new(list.fields.clone()).whole(&records)?;
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Records::Streamed(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
    };
    if let Some(last) = next {
        lead_on(&mut response, &host, uri, (CURSOR, &list.cursor(signer, &last)))?;
    }
    Ok(response)
}

/// A page of a list that is ordered by id only, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The page size.
    pub limit: u32,
    /// The id that the page begins before.
    pub before: Option<Uuid>,
    cursors: IdCursors,
    signer: Signer,
    host: String,
}

impl Page {
    const DEFAULT: u32 = 100;

    /// Reads `limit` and `cursor` for the list at this path.
    ///
    /// # Errors
    /// 400 for other parameters and invalid values.
    pub async fn parse(state: &AppState, workspace_id: Uuid, uri: &Uri, Query(parameters): &Query) -> Result<Self> {
        let signer = state.signer().await?.clone();
        let cursors = IdCursors::new(workspace_id, uri.path());
        let mut given = Parameters::new(parameters);
        let limit = given.take_as("limit", |text| whole(text, 1..=MAX_LIMIT));
        let before = given.take_as("cursor", |text| cursors.open(&signer, text));
        given.finish()?;
        Ok(Self { limit: limit.unwrap_or(Self::DEFAULT), before, cursors, signer, host: host(state) })
    }

    /// Adds the headers that lead to the next page, if there is one.
    ///
    /// # Errors
    /// 500 for a link that is not a valid header value.
    pub fn link(&self, uri: &Uri, next_id: Option<Uuid>, response: &mut Response) -> Result<()> {
        match next_id {
            Some(id) => lead_on(response, &self.host, uri, (CURSOR, &self.cursors.seal(&self.signer, id))),
            None => Ok(()),
        }
    }
}

/// The length limit of URLs, and the part of it that is reserved for the cursor in a `Link`.
pub const MAX_URL: usize = 16 * 1024;
const MAX_CURSOR: usize = 512;

/// Rejects a URL that is too long, or that a cursor in a `Link` would make too long.
///
/// # Errors
/// 414.
pub fn check_url(uri: &Uri) -> Result<()> {
    let length = uri.path_and_query().map_or(0, |path_and_query| path_and_query.as_str().len());
    if length <= MAX_URL - MAX_CURSOR {
        return Ok(());
    }
    let without_cursor = uri.path().len() + 1 + without(uri, CURSOR).len();
    if length > MAX_URL || without_cursor > MAX_URL - MAX_CURSOR { Err(Problem::url_too_long()) } else { Ok(()) }
}

/// What links begin with: the public URL, or nothing if it is not known. A link is then relative to
/// the host, so it works through any proxy.
pub(crate) fn host(state: &AppState) -> String {
    state.settings.own_url().unwrap_or_default().to_owned()
}

/// The parameter of a list that continues it.
const CURSOR: &str = "cursor";

/// Adds the headers that lead to the same list after a cursor, given with the name of its parameter.
pub(crate) fn lead_on(response: &mut Response, host: &str, uri: &Uri, (name, cursor): (&str, &str)) -> Result<()> {
    let invalid = |error: InvalidHeaderValue| Problem::internal(error.to_string());
    let headers = [(LINK, link(host, uri, (name, cursor))), (X_NEXT_CURSOR, cursor.to_owned())];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(invalid)?);
    }
    Ok(())
}

/// A link to the same list after a cursor, with the query as received. `uri` lacks the prefix that
/// its route is nested under.
fn link(host: &str, uri: &Uri, (name, cursor): (&str, &str)) -> String {
    let query = without(uri, name);
    let separator = if query.is_empty() { "" } else { "&" };
    format!("<{host}{CRM}{}?{query}{separator}{name}={cursor}>; rel=\"next\"", uri.path())
}

/// The query without a parameter.
fn without(uri: &Uri, parameter: &str) -> String {
    let is_cursor = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        percent_decode_str(name).eq(parameter.bytes())
    };
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter(|pair| !pair.is_empty() && !is_cursor(pair)).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_repeats_the_query_as_received() {
        for (query, expected) in [
            ("", "cursor=new"),
            ("?limit=1", "limit=1&cursor=new"),
            ("?q=a+b%20c&cursor=old&limit=2", "q=a+b%20c&limit=2&cursor=new"),
            ("?%63ursor=old&&company=a%2Cb", "company=a%2Cb&cursor=new"),
            ("?cursors=1&cursor", "cursors=1&cursor=new"),
        ] {
            let uri: Uri = format!("/leads{query}").parse().unwrap();
            assert_eq!(link("", &uri, (CURSOR, "new")), format!("</dev/crm/leads?{expected}>; rel=\"next\""));
            let absolute = format!("<https://crm.example/a/dev/crm/leads?{expected}>; rel=\"next\"");
            assert_eq!(link("https://crm.example/a", &uri, (CURSOR, "new")), absolute);
        }
    }

    #[test]
    fn a_url_must_leave_room_for_a_cursor() {
        let check = |q: usize, cursor: usize| {
            let cursor = if cursor == 0 { String::new() } else { format!("&cursor={}", "c".repeat(cursor)) };
            check_url(&format!("/l?q={}{cursor}", "q".repeat(q)).parse().unwrap()).is_ok()
        };
        let most = MAX_URL - MAX_CURSOR - "/l?q=".len();
        let left = MAX_CURSOR - "&cursor=".len();
        assert!(check(most, 0) && check(most, left) && check(10, MAX_URL - 100));
        assert!(!check(most + 1, 0) && !check(most + 1, 1) && !check(most, left + 1) && !check(10, MAX_URL));
    }
}
