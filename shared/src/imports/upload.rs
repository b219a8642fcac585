//! An upload on its way in: the head decides how the file is read, the rest is cut and stored.

use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::columns::{match_headers, missing};
use super::decode::Decoder;
use super::split::{Chunk, Splitter, count_lines};
use super::{Import, Importable, Options, Plan};
use crate::error::{Error, Result};
use crate::jobs::{self, Job, NewJob, Payload};

/// What of a file is looked at before any of it is stored, in bytes.
const HEAD: usize = 64 * 1024;
const MAX_COLUMNS: usize = 1_000;

/// A file that is being uploaded. Nothing of it is seen by anybody until it is accepted.
#[derive(Debug)]
pub struct Upload {
    workspace_id: Uuid,
    id: Uuid,
    options: Options,
    columns: &'static [super::columns::Column],
    decoder: Decoder,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The head is still arriving.
    Head(Vec<u8>),
    /// Chunks are being stored.
    Body(Box<Body>),
}

#[derive(Debug)]
struct Body {
    splitter: Splitter,
    plan: Plan,
    seq: i64,
}

impl Upload {
    /// Begins an upload of records of the kind `R`.
    pub fn new<R: Importable>(workspace_id: Uuid, options: Options) -> Self {
        let decoder = Decoder::new(options.encoding);
        Self { workspace_id, id: Uuid::now_v7(), options, columns: R::COLUMNS, decoder, state: State::Head(Vec::new()) }
    }

    /// Takes the next piece of the file, and stores what is complete.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what the head shows: a file that is empty or has no header, or no
    /// column for a required field.
    pub async fn feed(&mut self, pool: &PgPool, piece: &[u8]) -> Result<()> {
        let piece = self.decoder.feed(piece);
        self.take(pool, &piece).await
    }

    async fn take(&mut self, pool: &PgPool, piece: &[u8]) -> Result<()> {
        let chunks = match &mut self.state {
            State::Body(body) => body.splitter.feed(piece),
            State::Head(head) => {
                head.extend_from_slice(piece);
                if head.len() < HEAD {
                    return Ok(());
                }
                self.begin(pool, false).await?
            }
        };
        self.store(pool, chunks).await
    }

    /// Ends the upload and makes its job, in one transaction.
    ///
    /// # Errors
    /// As [`Upload::feed`].
    pub async fn accept<P: Payload>(
        mut self,
        pool: &PgPool,
        payload: impl FnOnce(Uuid) -> P,
        request_id: &str,
    ) -> Result<Job> {
        let rest = self.decoder.finish();
        self.take(pool, &rest).await?;
        if matches!(self.state, State::Head(_)) {
            let chunks = self.begin(pool, true).await?;
            self.store(pool, chunks).await?;
        }
        let State::Body(body) = std::mem::replace(&mut self.state, State::Head(Vec::new())) else {
            return Err(Error::internal("an upload has no body after its head"));
        };
        let Body { splitter, mut plan, seq } = *body;
        let (chunks, records) = splitter.finish();
        plan.rows = i64::try_from(records).unwrap_or(i64::MAX);
        plan.encoding = self.decoder.encoding().to_ascii_lowercase();
        let import = Import { workspace_id: self.workspace_id, id: self.id, plan, counts: super::Counts::default() };

        let mut transaction = pool.begin().await?;
        for (chunk, seq) in chunks.into_iter().zip(seq..) {
            store_chunk(&mut transaction, self.id, seq, chunk).await?;
        }
        let job = NewJob::new(self.workspace_id, &payload(self.id))?
            .id(self.id)
            .total(import.plan.rows)
            .request_id(request_id);
        let job = jobs::enqueue(&mut transaction, job).await?;
        sqlx::query("UPDATE imports SET job_id = $3, plan = $4 WHERE workspace_id = $1 AND id = $2")
            .bind(self.workspace_id)
            .bind(self.id)
            .bind(job.id)
            .bind(Json(&import.plan))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(job)
    }

    /// Drops what was stored of an upload that is not going to be accepted.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away; [`sweep`] finds it then.
    pub async fn abandon(self, pool: &PgPool) -> Result<()> {
        sqlx::query("DELETE FROM imports WHERE workspace_id = $1 AND id = $2 AND job_id IS NULL")
            .bind(self.workspace_id)
            .bind(self.id)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Looks at the head, settles how the file is read, and hands out the first chunks.
    async fn begin(&mut self, pool: &PgPool, whole: bool) -> Result<Vec<Chunk>> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Head(Vec::new())) else {
            return Err(Error::internal("an upload began twice"));
        };
        let delimiter = self.options.delimiter.unwrap_or_else(|| detect_delimiter(&head));
        let (headers, length) = read_header(&head, delimiter, whole)?;
        let targets = match_headers(&headers, self.columns, self.options.unmapped, &self.options.mapping)?;
        let missing = missing(&targets);
        if !missing.is_empty() {
            return Err(Error::Invalid(missing));
        }
        let Options { on_conflict, dry_run, .. } = self.options;
        // The encoding and the number of rows are known for certain only at the end.
        let plan = Plan { on_conflict, dry_run, delimiter, encoding: String::new(), headers, targets, rows: 0 };
        sqlx::query("INSERT INTO imports (workspace_id, id, plan) VALUES ($1, $2, $3)")
            .bind(self.workspace_id)
            .bind(self.id)
            .bind(Json(&plan))
            .execute(pool)
            .await?;
        let mut splitter = Splitter::new(delimiter, 1 + count_lines(&head[..length]));
        let chunks = splitter.feed(&head[length..]);
        self.state = State::Body(Box::new(Body { splitter, plan, seq: 0 }));
        Ok(chunks)
    }

    async fn store(&mut self, pool: &PgPool, chunks: Vec<Chunk>) -> Result<()> {
        let State::Body(body) = &mut self.state else {
            return Ok(());
        };
        for chunk in chunks {
            let mut transaction = pool.begin().await?;
            store_chunk(&mut transaction, self.id, body.seq, chunk).await?;
            transaction.commit().await?;
            body.seq += 1;
        }
        Ok(())
    }
}

async fn store_chunk(connection: &mut PgConnection, import_id: Uuid, seq: i64, chunk: Chunk) -> Result<()> {
    sqlx::query(
        "WITH touched AS (UPDATE imports SET touched_at = now() WHERE id = $1)
         INSERT INTO import_chunks (import_id, seq, first_line, refusal, data) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(import_id)
    .bind(seq)
    .bind(i64::try_from(chunk.first_line).unwrap_or(i64::MAX))
    .bind(chunk.refusal)
    .bind(chunk.data)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes uploads that broke off: nothing arrived for an hour, and nobody accepted them.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn sweep(connection: &mut PgConnection) -> Result<u64> {
    let swept = sqlx::query("DELETE FROM imports WHERE job_id IS NULL AND touched_at < now() - interval '1 hour'")
        .execute(connection)
        .await?;
    Ok(swept.rows_affected())
}

/// The delimiter under which the first records have the most cells in common with the header.
fn detect_delimiter(head: &[u8]) -> u8 {
    const SAMPLE: usize = 50;
    let cells_in_common = |delimiter: u8| {
        let mut records =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(head);
        let counts: Vec<usize> =
            records.byte_records().take(SAMPLE).map_while(Result::ok).map(|record| record.len()).collect();
        let header = counts.first().copied().unwrap_or(0);
        let alike = counts.iter().filter(|&&count| count == header).count();
        if header < 2 { 0 } else { header * alike }
    };
    // Of equals the last one would win, so the comma comes last.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|&delimiter| cells_in_common(delimiter)).unwrap_or(b',')
}

/// The headers of a file, and where they end in its head.
fn read_header(head: &[u8], delimiter: u8, whole: bool) -> Result<(Vec<String>, usize)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(head);
    let mut record = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(Error::internal)? {
        return Err(Error::invalid("file", "empty", "has no header and no rows"));
    }
    let length = usize::try_from(reader.position().byte()).unwrap_or(head.len());
    if record.len() > MAX_COLUMNS {
        return Err(Error::invalid("file", "too_many_columns", format!("has more than {MAX_COLUMNS} columns")));
    }
    if length >= head.len() && !whole {
        return Err(Error::invalid(
            "file",
            "header_too_long",
            format!("has a header of more than {} KiB", HEAD / 1024),
        ));
    }
    let mut headers: Vec<String> = Vec::with_capacity(record.len());
    for (i, cell) in record.iter().enumerate() {
        let text = std::str::from_utf8(cell)
            .map_err(|_| Error::invalid("file", "encoding", "has a header that is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Error::invalid("file", "invalid", "has a NUL character in its header; is it a CSV file?"));
        }
        headers.push(distinct(text.trim(), i, &headers));
    }
    Ok((headers, length))
}

/// A header by which its column can be told from the others.
fn distinct(text: &str, at: usize, others: &[String]) -> String {
    let text = if text.is_empty() { format!("column_{}", at + 1) } else { text.to_owned() };
    let free = |candidate: &String| !others.contains(candidate);
    std::iter::once(text.clone()).chain((2..).map(|n| format!("{text} ({n})"))).find(free).unwrap_or(text)
}
