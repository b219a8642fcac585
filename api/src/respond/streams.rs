//! Streamed lists, read from the database page by page and sent to the client piece by piece.
//!
//! Pages and pieces are limited by their bytes, so a client that does not read occupies little
//! memory, however large the records are.

use std::collections::VecDeque;
use std::iter::Peekable;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::poll_fn;
use shared::query::bounded::{self, Bounded, SizedRow};
use shared::query::{Columns, Item, List, Place};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::AppState;
use crate::respond::Result;

/// The maximum number of records read at once.
const PAGE: u32 = 750;
/// The number of records in the first page, and the factor by which pages grow while records are
/// small.
const FIRST: u32 = 100;
const GROWTH: u32 = 4;
/// The maximum size of a page, unless a single record is larger.
const PAGE_BYTES: usize = 512 * 1024;
/// The maximum size of the first page of a list with a limit, which usually contains the whole
/// response.
const FIRST_BYTES: usize = 1024 * 1024;
/// The maximum number of records serialized at once; few, so that small requests do not wait for a
/// whole page.
const PIECE: usize = 50;
/// The maximum size of a piece, unless a single record is larger.
const PIECE_BYTES: usize = 64 * 1024;
/// The typical size of a serialized record.
const USUAL: usize = 512;
/// The number of pieces that wait for the client.
const WAITING: usize = 2;

/// The format of a streamed list.
pub trait Format<T>: Send + 'static {
    /// Writes the text before the records.
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()>;
    /// Writes the next records.
    fn records(&mut self, records: &[T], piece: &mut Vec<u8>) -> shared::Result<()>;
    /// Writes the text after the last record.
    fn end(&mut self, piece: &mut Vec<u8>);
}

/// The records of a list with a limit, and the start of the next page.
#[derive(Debug)]
pub struct Limited<T> {
    /// The records.
    pub records: Records<T>,
    /// The position of the last record, if more follow.
    pub next: Option<Place>,
}

/// Records to send.
#[derive(Debug)]
pub enum Records<T> {
    /// All of them.
    Whole(Vec<T>),
    /// A streamed JSON array of records that are too large to hold in memory at once.
    Streamed(Body),
}

/// Reads as many records of a list as requested. If the records are large, only their keys are read
/// first, which determines the next page, and the records are read while they are sent. Records
/// deleted in the meantime are left out, and updated ones are sent in their new state.
///
/// # Errors
/// Those of reading the first page and the keys.
pub async fn limited<T>(source: Source, limit: u32) -> Result<Limited<T>>
where
    T: for<'r> FromRow<'r, PgRow> + Item + Send + Sync + 'static,
{
    let mut connection = source.state.connection().await?;
    let &Source { ref list, workspace_id, columns, .. } = &source;
    let read = bounded::fetch(&mut connection, list, workspace_id, columns, (limit, FIRST_BYTES)).await?;
    if !read.is_cut {
        let records = read.rows.iter().map(|sized| T::from_row(&sized.row)).collect::<sqlx::Result<_>>();
        return Ok(Limited { records: Records::Whole(records.map_err(shared::Error::from)?), next: read.next });
    }
    drop(read);
    let (ids, next) = bounded::keys(&mut connection, list, workspace_id, limit).await?;
    drop(connection);
    let first = source.page(Position::Of(ids.into()), FIRST).await?;
    let format = JsonArray::new(source.list.fields.clone());
    Ok(Limited { records: Records::Streamed(stream::<T>(source, first, format)), next })
}

/// Streams a whole list. The next page is read while the current one is serialized and sent. When
/// the client disconnects, the stream ends and the running statement is cancelled.
///
/// The first page is read before the response begins, so a failure then becomes an error response.
/// A later failure truncates the response, which clients notice because its end is missing.
///
/// # Errors
/// Those of reading the first page.
pub async fn all<T>(source: Source, format: impl Format<T>) -> Result<Body>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Sync + 'static,
{
    let first = source.page(Position::Start, FIRST).await?;
    Ok(stream(source, first, format))
}

fn stream<T>(source: Source, first: Page, format: impl Format<T>) -> Body
where
    T: for<'r> FromRow<'r, PgRow> + Send + Sync + 'static,
{
    let (pieces, mut sent) = mpsc::channel(WAITING);
    let writing = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = write(source, first, format, &pieces).await {
            tracing::warn!(%error, "streamed list aborted");
            let _ = pieces.send(Err(error)).await;
        }
    }));
    Body::from_stream(poll_fn(move |context| {
        let _ends_with_the_body = &writing;
        sent.poll_recv(context)
    }))
}

/// Sends the pieces, until the client disconnects.
async fn write<T>(
    source: Source,
    mut page: Page,
    mut format: impl Format<T>,
    pieces: &mpsc::Sender<shared::Result<Bytes>>,
) -> shared::Result<()>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Sync + 'static,
{
    let mut piece = Vec::new();
    format.begin(&mut piece)?;
    loop {
        // No page is read ahead for a client that does not read: many slow clients would fill the
        // memory.
        if pieces.reserve().await.is_err() {
            return Ok(());
        }
        let size = page.size_of_next();
        let next = page.rest.map(|rest| source.read_ahead(rest, size));
        let mut rows = page.rows.into_iter().peekable();
        while rows.peek().is_some() {
            let records = next_piece(&mut rows)?;
            piece.reserve(records.len() * USUAL);
            format.records(&records, &mut piece)?;
            if pieces.send(Ok(std::mem::take(&mut piece).into())).await.is_err() {
                return Ok(());
            }
            yield_now().await;
        }
        let Some(next) = next else { break };
        page = next.await.map_err(shared::Error::internal).flatten()?;
    }
    format.end(&mut piece);
    let _ = pieces.send(Ok(piece.into())).await;
    Ok(())
}

/// The records of the next piece.
fn next_piece<T>(rows: &mut Peekable<impl Iterator<Item = SizedRow>>) -> sqlx::Result<Vec<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let (mut records, mut bytes) = (Vec::with_capacity(PIECE), 0);
    while records.len() < PIECE
        && let Some(sized) = rows.next_if(|next| bytes == 0 || bytes + next.bytes <= PIECE_BYTES)
    {
        bytes += sized.bytes;
        records.push(T::from_row(&sized.row)?);
    }
    Ok(records)
}

/// A list to read pages from.
#[derive(Clone)]
pub struct Source {
    state: AppState,
    workspace_id: Uuid,
    columns: Columns,
    list: List,
}

/// The start of a page.
#[derive(Clone)]
enum Position {
    /// The start of the list.
    Start,
    /// After a record.
    After(Place),
    /// The first of these records, which are all that remain.
    Of(VecDeque<Uuid>),
}

/// Some records, and the start of the rest.
struct Page {
    rows: Vec<SizedRow>,
    bytes: usize,
    rest: Option<Position>,
}

impl Page {
    /// The size of the next page, assuming records of similar size.
    fn size_of_next(&self) -> u32 {
        let rows = u32::try_from(self.rows.len()).unwrap_or(PAGE).max(1);
        let each = u32::try_from(self.bytes).unwrap_or(u32::MAX) / rows;
        // A page of few small rows says little about how many would fit: a search may have found no
        // more.
        (PAGE_BYTES as u32 / each.max(1)).min(rows.max(FIRST).saturating_mul(GROWTH)).clamp(1, PAGE)
    }
}

impl Source {
    /// A list of a workspace's records, with these columns.
    pub fn new(state: &AppState, workspace_id: Uuid, columns: Columns, list: List) -> Self {
        Self { state: state.clone(), workspace_id, columns, list }
    }

    /// The state that the list is read with.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Reads a page. Streams share a few connections and leave the others to small requests. The
    /// connection is released after each page, so slow clients hold none.
    async fn page(&self, position: Position, size: u32) -> shared::Result<Page> {
        let _permit = self.state.streams.acquire().await.map_err(shared::Error::internal)?;
        let mut connection = self.state.connection().await?;
        let (workspace_id, columns) = (self.workspace_id, self.columns);
        if let Position::Of(mut ids) = position {
            let wanted: Vec<Uuid> = ids.drain(..ids.len().min(size as usize)).collect();
            let of = (wanted.as_slice(), PAGE_BYTES);
            let Bounded { rows, bytes, is_cut, .. } =
                bounded::by_ids(&mut connection, &self.list, workspace_id, columns, of).await?;
            if let Some(last) = rows.last().filter(|_| is_cut) {
                let last: Uuid = last.row.try_get("id")?;
                let left = wanted.into_iter().rev().take_while(|id| *id != last);
                left.for_each(|id| ids.push_front(id));
            }
            return Ok(Page { rows, bytes, rest: (!ids.is_empty()).then_some(Position::Of(ids)) });
        }
        let mut list = self.list.clone();
        if let Position::After(place) = position {
            list.after(place);
        }
        let bounds = (size, PAGE_BYTES);
        let Bounded { rows, bytes, next, .. } =
            bounded::fetch(&mut connection, &list, workspace_id, columns, bounds).await?;
        Ok(Page { rows, bytes, rest: next.map(Position::After) })
    }

    /// Reads a page in the background.
    fn read_ahead(&self, position: Position, size: u32) -> AbortOnDropHandle<shared::Result<Page>> {
        let source = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { source.page(position, size).await }))
    }
}

/// A JSON array.
#[derive(Debug)]
pub struct JsonArray {
    has_records: bool,
    /// The only fields to send.
    fields: Option<Vec<&'static str>>,
}

impl JsonArray {
    /// An array of records with only these fields, or with all.
    pub fn new(fields: Option<Vec<&'static str>>) -> Self {
        Self { has_records: false, fields }
    }

    /// The array of these records.
    ///
    /// # Errors
    /// That of a record that cannot be serialized.
    pub fn whole<T: Item>(mut self, records: &[T]) -> shared::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(records.len() * USUAL);
        Format::<T>::begin(&mut self, &mut json)?;
        self.records(records, &mut json)?;
        Format::<T>::end(&mut self, &mut json);
        Ok(json)
    }
}

impl<T: Item> Format<T> for JsonArray {
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()> {
        piece.push(b'[');
        Ok(())
    }

    fn records(&mut self, records: &[T], piece: &mut Vec<u8>) -> shared::Result<()> {
        for record in records {
            if std::mem::replace(&mut self.has_records, true) {
                piece.push(b',');
            }
            record.write_json(self.fields.as_deref(), piece)?;
        }
        Ok(())
    }

    fn end(&mut self, piece: &mut Vec<u8>) {
        piece.push(b']');
    }
}
