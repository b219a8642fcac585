//! How all of a list is streamed: page by page from the database, piece by piece to its reader.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use shared::exports::CsvRows;
use shared::lists::{self, List, Part};
use shared::records::Record;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use uuid::Uuid;

use crate::AppState;
use crate::respond::Result;

/// How many records are read from the database at once.
const PAGE: u32 = 750;
/// How many of them are written at once: few, so that small requests need not wait for a whole page.
const PIECE: usize = 50;
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

/// All of a list, streamed. A page is read while the one before it is written and sent.
///
/// The first page is read before the answer begins, so a failure then is still an error's answer;
/// a later one breaks the answer off, which clients see by its missing end.
///
/// # Errors
/// Those of the first page.
pub async fn all<T>(source: Source, list: List, format: impl Format<T>) -> Result<Body>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Sync + 'static,
{
    let first = source.page(&list).await?;
    let (pieces, mut sent) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = write(source, list, first, format, &pieces).await {
            tracing::warn!(%error, "a streamed list broke off");
            let _ = pieces.send(Err(error)).await;
        }
    });
    Ok(Body::from_stream(stream::poll_fn(move |context| sent.poll_recv(context))))
}

/// Writes the pieces; ends early if their reader is gone.
async fn write<T>(
    source: Source,
    mut list: List,
    mut page: Part<PgRow>,
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
        let next = page.next.map(|behind| {
            list.after(behind);
            source.read_ahead(&list)
        });
        let mut rows = page.records.into_iter();
        while rows.len() > 0 {
            let records = rows.by_ref().take(PIECE).map(|row| T::from_row(&row)).collect::<sqlx::Result<Vec<T>>>()?;
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

/// Where pages come from.
#[derive(Clone)]
pub struct Source {
    state: AppState,
    workspace_id: Uuid,
    columns: &'static str,
}

impl Source {
    /// The records of a workspace, with these columns.
    pub fn new(state: &AppState, workspace_id: Uuid, columns: &'static str) -> Self {
        Self { state: state.clone(), workspace_id, columns }
    }

    /// Reads a page when it is its turn: streams take a few connections and leave the others to those
    /// who want little. Each page gives its connection back, so slow readers hold none.
    async fn page(&self, list: &List) -> shared::Result<Part<PgRow>> {
        let _turn = self.state.streams.acquire().await.map_err(shared::Error::internal)?;
        let mut connection = self.state.connection().await?;
        lists::fetch_rows(&mut connection, list, self.workspace_id, self.columns, PAGE).await
    }

    /// Begins to read a page. That does not end with the stream: a statement that is broken off keeps its
    /// connection busy.
    fn read_ahead(&self, list: &List) -> JoinHandle<shared::Result<Part<PgRow>>> {
        let (source, list) = (self.clone(), list.clone());
        tokio::spawn(async move { source.page(&list).await })
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
