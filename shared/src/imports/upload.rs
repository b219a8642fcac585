//! Uploads: the head decides how the file is read, and the rest is split and stored as it arrives.

mod preview;

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::format::Format;
use super::head::{self, HEAD, Head, SavedMappings, fingerprint};
use super::owners::Owners;
use super::source::Source;
use super::split::{Chunk, Split, Splitter, count_lines};
use super::stored::{self, StoredReader};
use super::{Importable, Options, Plan, forms, saved, set};
use crate::accounts::settings;
use crate::error::{Error, Result};
use crate::platform::config::Imports;
use crate::platform::db::Pool;
use crate::queue::{self, Job, NewJob, Payload};
use crate::records::RecordType;
use crate::records::history::Actor;

pub use preview::Preview;

/// How many bytes of an upload are processed before its task yields.
const PIECE: usize = 64 * 1024;

/// A file that is being uploaded. It is invisible until it is accepted.
#[derive(Debug)]
pub struct Upload {
    workspace_id: Uuid,
    id: Uuid,
    options: Options,
    kind: Kind,
    source: Source,
    state: State,
}

/// Checks the values that every row gets.
type CheckSet = fn(&Map<String, Value>, &Owners) -> Result<Map<String, Value>>;

/// What depends on the kind of record.
#[derive(Debug, Clone, Copy)]
struct Kind {
    record_type: RecordType,
    plan: fn(&Head<'_>, &Options, &SavedMappings) -> Result<(Plan, usize)>,
    without_header: fn(&[u8], &Options) -> Options,
    settle: fn(&mut Plan, &Chunk, &Options),
    check_set: CheckSet,
}

impl Kind {
    fn of<R: Importable>() -> Self {
        Self {
            record_type: R::TYPE,
            plan: |head, options, saved| head.plan::<R>(options, saved),
            without_header: head::without_header::<R>,
            settle: forms::settle::<R>,
            check_set: set::check::<R>,
        }
    }
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
    /// The first chunk, by which the plan is settled. JSON Lines may have further keys until its end, so that its
    /// plan is made again.
    first: Option<Chunk>,
}

impl Upload {
    /// Begins an upload of records of kind `R`.
    pub fn new<R: Importable>(workspace_id: Uuid, options: Options, settings: &Imports) -> Self {
        Self {
            workspace_id,
            id: Uuid::now_v7(),
            source: Source::new(options.clone(), settings),
            options,
            kind: Kind::of::<R>(),
            state: State::Head(Vec::new()),
        }
    }

    /// The stored upload that the options name.
    pub fn stored(&self) -> Option<Uuid> {
        self.options.upload
    }

    /// Reads the whole of a stored upload, which is not replaced or swept meanwhile.
    ///
    /// # Errors
    /// As [`Upload::feed`]; [`Error::Missing`] if the upload does not exist or has expired, and
    /// [`Error::Conflict`] if it is not complete.
    pub async fn feed_stored(&mut self, pool: &Pool, upload_id: Uuid) -> Result<()> {
        let mut connection = pool.acquire().await?;
        let found = stored::get(&mut connection, self.workspace_id, upload_id).await;
        let upload = found.map_err(|error| match error {
            Error::NotFound => stored::missing("upload"),
            other => other,
        })?;
        let mut reader = StoredReader::new(self.workspace_id, &upload)?;
        self.insert(&mut connection, &json!({}), Some(upload_id)).await?;
        drop(connection);
        while let Some(data) = reader.next(pool).await? {
            self.feed(pool, &data).await?;
        }
        Ok(())
    }

    /// Reads the next piece of the file and stores complete chunks.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is empty or of another kind, or has no header or no column for the key;
    /// [`Error::TooLarge`].
    pub async fn feed(&mut self, pool: &Pool, piece: &[u8]) -> Result<()> {
        for piece in piece.chunks(PIECE) {
            self.source.push(piece)?;
            while let Some(text) = self.source.pull()? {
                self.take(pool, &text).await?;
                // The worst files take 100 ns per byte, so other requests of this thread get their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn take(&mut self, pool: &Pool, piece: &[u8]) -> Result<()> {
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

    /// Stores the rest of the file. [`Uploaded::accept`] then creates its job.
    ///
    /// # Errors
    /// As [`Upload::feed`].
    pub async fn finish(&mut self, pool: &Pool) -> Result<Uploaded> {
        let text = self.source.finish()?;
        self.take(pool, &text).await?;
        while let Some(text) = self.source.rest().await? {
            self.take(pool, &text).await?;
        }
        if matches!(self.state, State::Head(_)) {
            let chunks = self.begin(pool, true).await?;
            self.store(pool, chunks).await?;
        }
        let State::Body(body) = std::mem::replace(&mut self.state, State::Head(Vec::new())) else {
            return Err(Error::internal("an upload has no body after its head"));
        };
        let Body { splitter, mut plan, seq, first } = *body;
        let Split { chunks, records, tail_from, by_line_from, .. } = splitter.finish();
        let first = first.as_ref().or(chunks.first());
        if self.source.format() == Format::Jsonl {
            // Some keys may have appeared only now.
            plan = self.plan(first.map_or(&[], |first| &first.data), true, pool).await?.0;
        }
        if seq == 0 || self.source.format() == Format::Jsonl {
            first.into_iter().for_each(|first| (self.kind.settle)(&mut plan, first, &self.options));
        }
        plan.tail_from = tail_from;
        plan.rows = i64::try_from(records).unwrap_or(i64::MAX);
        plan.by_line_from = by_line_from;
        plan.encoding = self.source.encoding().to_ascii_lowercase();
        for (chunk, seq) in chunks.into_iter().zip(seq..) {
            store_chunk(&mut *pool.acquire().await?, (self.workspace_id, self.id), seq, chunk).await?;
        }
        let is_saved = self.options.save_mapping && !self.options.dry_run;
        let saves = is_saved.then(|| match &self.options.mapping {
            Some(given) => Value::Object(given.clone()),
            None => plan.mapping(),
        });
        Ok(Uploaded { id: self.id, plan, record_type: self.kind.record_type, saves })
    }

    /// Deletes the stored chunks of an upload that will not be accepted. If this fails, [`sweep`]
    /// deletes them later.
    pub async fn abandon(&self, pool: &Pool) -> Result<()> {
        sqlx::query("DELETE FROM imports WHERE workspace_id = $1 AND id = $2 AND job_id IS NULL")
            .bind(self.workspace_id)
            .bind(self.id)
            .execute(&mut *pool.acquire().await?)
            .await?;
        Ok(())
    }

    /// Decides from the head how the file is read, and returns the first chunks.
    async fn begin(&mut self, pool: &Pool, whole: bool) -> Result<Vec<Chunk>> {
        let State::Head(head) = std::mem::replace(&mut self.state, State::Head(Vec::new())) else {
            return Err(Error::internal("an upload began twice"));
        };
        let (plan, length) = self.plan(&head, whole, pool).await?;
        self.insert(&mut *pool.acquire().await?, &serde_json::to_value(&plan)?, None).await?;
        let mut splitter = Splitter::new(plan.delimiter, 1 + count_lines(&head[..length]), plan.max_chunk_records());
        let chunks = splitter.feed(&head[length..]);
        self.state = State::Body(Box::new(Body { splitter, plan, seq: 0, first: None }));
        Ok(chunks)
    }

    /// Stores the import, or its plan. The stored upload that it reads, if there is one, is known from the beginning.
    async fn insert(&self, connection: &mut PgConnection, plan: &Value, upload_id: Option<Uuid>) -> Result<()> {
        sqlx::query(
            "INSERT INTO imports (workspace_id, id, plan, upload_id) VALUES ($1, $2, $3, $4)
             ON CONFLICT (workspace_id, id) DO UPDATE SET plan = excluded.plan",
        )
        .bind(self.workspace_id)
        .bind(self.id)
        .bind(plan)
        .bind(upload_id)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Decides how the file is read, with what the workspace has settled.
    async fn plan(&self, head: &[u8], whole: bool, pool: &Pool) -> Result<(Plan, usize)> {
        let Self { kind, workspace_id, .. } = self;
        let options = &(kind.without_header)(head, &self.source.options(whole));
        let head = Head::read(head, whole, options)?;
        let mut connection = pool.acquire().await?;
        let saved = match options.use_saved {
            true => saved::read(&mut connection, *workspace_id, kind.record_type, &head.fingerprints()).await?,
            false => SavedMappings::new(),
        };
        let (mut plan, length) = (kind.plan)(&head, options, &saved)?;
        plan.format = self.source.format();
        if options.tz.is_none() {
            plan.tz = settings::get(&mut connection, *workspace_id).await?.time_zone;
        }
        if !options.set.is_empty() {
            let owners = Owners::read(&mut connection, *workspace_id).await?;
            plan.set.extend((kind.check_set)(&options.set, &owners)?);
        }
        Ok((plan, length))
    }

    async fn store(&mut self, pool: &Pool, chunks: Vec<Chunk>) -> Result<()> {
        let State::Body(body) = &mut self.state else {
            return Ok(());
        };
        if body.seq == 0
            && let Some(first) = chunks.first()
        {
            (self.kind.settle)(&mut body.plan, first, &self.options);
            body.first = (self.source.format() == Format::Jsonl).then(|| first.clone());
        }
        for chunk in chunks {
            store_chunk(&mut *pool.acquire().await?, (self.workspace_id, self.id), body.seq, chunk).await?;
            body.seq += 1;
        }
        Ok(())
    }
}

/// An upload whose file is stored.
#[derive(Debug, Clone)]
pub struct Uploaded {
    id: Uuid,
    plan: Plan,
    record_type: RecordType,
    /// The mapping to save for the next file with the same headers.
    saves: Option<Value>,
}

impl Uploaded {
    /// Creates the job of the upload, which is accepted once the transaction commits.
    ///
    /// # Errors
    /// [`Error::NotFound`] if [`sweep`] deleted the upload, because nothing arrived for an hour.
    pub async fn accept<P: Payload>(&self, connection: &mut PgConnection, actor: &Actor, payload: &P) -> Result<Job> {
        let job = NewJob::new(actor.workspace_id, payload)?.id(self.id).total(self.plan.rows);
        let job = queue::enqueue(connection, job.request_id(actor.request_id.as_deref())).await?;
        let updated = sqlx::query("UPDATE imports SET job_id = $3, plan = $4 WHERE workspace_id = $1 AND id = $2")
            .bind(actor.workspace_id)
            .bind(self.id)
            .bind(job.id)
            .bind(Json(&self.plan))
            .execute(&mut *connection)
            .await?;
        if let Some(mapping) = &self.saves {
            let headers = fingerprint(&self.plan.headers);
            saved::save(connection, actor.workspace_id, self.record_type, &headers, mapping).await?;
        }
        if updated.rows_affected() == 1 { Ok(job) } else { Err(Error::NotFound) }
    }

    /// The id of the import and of its job.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

async fn store_chunk(
    connection: &mut PgConnection,
    (workspace_id, import_id): (Uuid, Uuid),
    seq: i64,
    chunk: Chunk,
) -> Result<()> {
    sqlx::query(
        "WITH touched AS (UPDATE imports SET touched_at = now() WHERE workspace_id = $1 AND id = $2)
         INSERT INTO import_chunks (workspace_id, import_id, seq, first_line, refusal, data)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(workspace_id)
    .bind(import_id)
    .bind(seq)
    .bind(i64::try_from(chunk.first_line).unwrap_or(i64::MAX))
    .bind(chunk.refusal)
    .bind(chunk.data)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes unaccepted uploads of which nothing arrived for an hour, and stored ones that have expired. Returns their
/// number.
pub async fn sweep(connection: &mut PgConnection) -> Result<u64> {
    let workspaces: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT workspace_id FROM imports WHERE job_id IS NULL AND touched_at < now() - interval '1 hour'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut swept = 0;
    for workspace_id in workspaces {
        let deleted = sqlx::query(
            "DELETE FROM imports
             WHERE workspace_id = $1 AND job_id IS NULL AND touched_at < now() - interval '1 hour'",
        );
        swept += deleted.bind(workspace_id).execute(&mut *connection).await?.rows_affected();
    }
    Ok(swept + stored::sweep(connection).await?)
}
