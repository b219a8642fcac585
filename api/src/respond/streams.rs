//! How lists are streamed: page by page from the database, piece by piece to their reader.
//!
//! Pages and pieces are bounded by their bytes, so that a reader who takes nothing holds little memory,
//! however large records are.

use std::collections::VecDeque;
use std::iter::Peekable;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::poll_fn;
use serde::Serialize;
use shared::query::bounded::{self, Bounded, SizedRow};
use shared::query::{List, Place};
use shared::records::Record;
use shared::records::csv::CsvRows;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::AppState;
use crate::respond::Result;

/// How many records are read from the database at once, at most.
const PAGE: u32 = 750;
/// How many are read at first, and by how much that grows while records turn out to be small.
const FIRST: u32 = 100;
const GROWTH: u32 = 4;
/// The bytes of those records, at most, unless one record has more.
const PAGE_BYTES: usize = 512 * 1024;
/// The bytes of the first page of a list with a limit, which is usually all of it.
const FIRST_BYTES: usize = 1024 * 1024;
/// How many records are written at once: few, so that small requests need not wait for a whole page.
const PIECE: usize = 50;
/// The bytes of those records, at most, unless one record has more.
const PIECE_BYTES: usize = 64 * 1024;
/// The bytes that a record usually takes.
const USUAL: usize = 512;
/// How many pieces wait for a reader.
const WAITING: usize = 2;

/// How a streamed list is written.
pub trait Format<T>: Send + 'static {
    /// Writes what stands before the records.
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()>;
    /// Writes some records behind those before.
    fn records(&mut self, records: &[T], piece: &mut Vec<u8>) -> shared::Result<()>;
    /// Writes what stands behind the last one.
    fn end(&mut self, piece: &mut Vec<u8>);
}

/// The records of a list with a limit, and where the list goes on after them.
#[derive(Debug)]
pub struct Limited<T> {
    /// The records.
    pub records: Records<T>,
    /// The place of the last one, if there are more.
    pub next: Option<Place>,
}

/// Records to be sent.
#[derive(Debug)]
pub enum Records<T> {
    /// All of them.
    Whole(Vec<T>),
    /// The JSON array of more than should be in memory at once.
    Streamed(Body),
}

/// As many records of a list as were asked for. If they are large, their keys are looked at first, so that
/// it is known where the list goes on, and they are read while they are sent. One that is deleted meanwhile
/// is missing, and one that is changed is sent as it is then.
///
/// # Errors
/// Those of the first page, and of the look at the keys.
pub async fn limited<T>(source: Source, limit: u32) -> Result<Limited<T>>
where
    T: for<'r> FromRow<'r, PgRow> + Serialize + Send + Sync + 'static,
{
    let mut connection = source.state.connection().await?;
    let Source { list, workspace_id, columns, .. } = &source;
    let read = bounded::fetch(&mut connection, list, *workspace_id, columns, (limit, FIRST_BYTES)).await?;
    if !read.is_cut {
        let records = read.rows.iter().map(|sized| T::from_row(&sized.row)).collect::<sqlx::Result<_>>();
        return Ok(Limited { records: Records::Whole(records.map_err(shared::Error::from)?), next: read.next });
    }
    drop(read);
    let (ids, next) = bounded::keys(&mut connection, list, *workspace_id, limit).await?;
    drop(connection);
    let first = source.page(Position::Of(ids.into()), FIRST).await?;
    Ok(Limited { records: Records::Streamed(stream::<T>(source, first, JsonArray::default())), next })
}

/// All of a list, streamed. A page is read while the one before it is written and sent. When the caller
/// leaves, all of it ends, and the statement that reads a page is cancelled.
///
/// The first page is read before the answer begins, so a failure then is still an error's answer;
/// a later one breaks the answer off, which clients see by its missing end.
///
/// # Errors
/// Those of the first page.
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
            tracing::warn!(%error, "a streamed list broke off");
            let _ = pieces.send(Err(error)).await;
        }
    }));
    Body::from_stream(poll_fn(move |context| {
        let _ends_with_the_body = &writing;
        sent.poll_recv(context)
    }))
}

/// Writes the pieces; ends early if their reader is gone.
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
        // Nothing is read ahead of a reader who takes nothing: many slow ones would hold much of it.
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

/// The records that are written next.
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

/// Where pages come from.
#[derive(Clone)]
pub struct Source {
    state: AppState,
    workspace_id: Uuid,
    columns: &'static str,
    list: List,
}

/// Where a page begins.
#[derive(Clone)]
enum Position {
    /// Where the list does.
    Start,
    /// After a record.
    After(Place),
    /// With the first of these records, which are all there are.
    Of(VecDeque<Uuid>),
}

/// Some records, and where the others are.
struct Page {
    rows: Vec<SizedRow>,
    bytes: usize,
    rest: Option<Position>,
}

impl Page {
    /// How many records the next page should have, if they are like those of this one.
    fn size_of_next(&self) -> u32 {
        let rows = u32::try_from(self.rows.len()).unwrap_or(PAGE).max(1);
        let each = u32::try_from(self.bytes).unwrap_or(u32::MAX) / rows;
        // Few rows that are small are not all that fit; a search may just not have found more.
        (PAGE_BYTES as u32 / each.max(1)).min(rows.max(FIRST).saturating_mul(GROWTH)).clamp(1, PAGE)
    }
}

impl Source {
    /// A list of the records of a workspace, with these columns.
    pub fn new(state: &AppState, workspace_id: Uuid, columns: &'static str, list: List) -> Self {
        Self { state: state.clone(), workspace_id, columns, list }
    }

    /// Reads a page when it is its turn: streams take a few connections and leave the others to those
    /// who want little. Each page gives its connection back, so slow readers hold none.
    async fn page(&self, position: Position, size: u32) -> shared::Result<Page> {
        let _turn = self.state.streams.acquire().await.map_err(shared::Error::internal)?;
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

    /// Begins to read a page.
    fn read_ahead(&self, position: Position, size: u32) -> AbortOnDropHandle<shared::Result<Page>> {
        let source = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { source.page(position, size).await }))
    }
}

/// A JSON array.
#[derive(Debug, Default)]
pub struct JsonArray {
    has_records: bool,
}

impl<T: Serialize> Format<T> for JsonArray {
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()> {
        piece.push(b'[');
        Ok(())
    }

    fn records(&mut self, records: &[T], piece: &mut Vec<u8>) -> shared::Result<()> {
        for record in records {
            if std::mem::replace(&mut self.has_records, true) {
                piece.push(b',');
            }
            serde_json::to_writer(&mut *piece, record)?;
        }
        Ok(())
    }

    fn end(&mut self, piece: &mut Vec<u8>) {
        piece.push(b']');
    }
}

/// CSV with a header.
#[derive(Debug)]
pub struct Csv;

impl<R: Record> Format<R> for Csv {
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()> {
        let mut rows = CsvRows::behind(std::mem::take(piece));
        rows.row(R::COLUMNS.iter().copied());
        *piece = rows.into_bytes()?;
        Ok(())
    }

    fn records(&mut self, records: &[R], piece: &mut Vec<u8>) -> shared::Result<()> {
        let mut rows = CsvRows::behind(std::mem::take(piece));
        records.iter().for_each(|record| rows.record(record));
        *piece = rows.into_bytes()?;
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) {}
}
