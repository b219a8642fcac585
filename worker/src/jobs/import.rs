//! Imports uploaded files: one loop for all kinds of records.

use std::sync::Arc;

use shared::imports::rows::Rows;
use shared::imports::{self, Importable, KeyCheck, Owners, Plan};
use shared::platform::db::Pool;
use shared::records::Fields;
use shared::{Error, Result};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::queue::job::{Done, Running, Stop, Task};

macro_rules! tasks {
    ($($job:ty => $record:ty,)+) => {
        $(impl Task for $job {
            async fn run(self, job: &mut Running) -> Result<Done, Stop> {
                walk::<$record>(job, self.import_id).await
            }
        })+
    };
}

shared::import_kinds!(tasks);

/// A chunk of parsed rows, with its number; `None` after the last.
type ReadAhead<R> = AbortOnDropHandle<Result<Option<(i64, Rows<<R as Fields>::Changes>)>>>;

/// Imports the chunks of a file, one step each. The remaining chunks are the cursor. The next chunk
/// is parsed while the current one is written.
async fn walk<R: Importable>(job: &mut Running, import_id: Uuid) -> Result<Done, Stop> {
    let mut import = imports::get(&mut *job.connection().await?, job.workspace_id(), import_id).await?;
    let owners = Owners::of(&mut *job.connection().await?, &import).await?;
    let reading = Arc::new((import.plan.clone(), owners));
    let mut next = read_ahead::<R>(job.pool(), &reading, (import.workspace_id, import_id), 0);
    let actor = job.actor();
    let mut check = KeyCheck::Skip;
    while let Some((seq, rows)) = next.await.map_err(Error::of_task)?? {
        next = read_ahead::<R>(job.pool(), &reading, (import.workspace_id, import_id), seq + 1);
        let counts = import.counts.clone();
        let mut step = job.begin().await?;
        match imports::write::<R>(&mut step, &actor, &mut import, (seq, rows), check).await {
            Ok(next_trust) => {
                step.commit(import.progress(), &import.result()?).await?;
                check = next_trust;
            }
            // The chunk has a key that is taken: retry it with checks for each row.
            Err(Error::Repeat(_)) if check == KeyCheck::Skip => {
                check = KeyCheck::Lookup;
                import.counts = counts;
                next = read_ahead::<R>(job.pool(), &reading, (import.workspace_id, import_id), seq);
            }
            Err(error) => return Err(error.into()),
        }
    }
    imports::forget_seen(&mut *job.connection().await?, &import).await?;
    Ok(Done::With(import.result()?))
}

fn read_ahead<R: Importable>(
    pool: &Pool,
    reading: &Arc<(Plan, Owners)>,
    (workspace_id, import_id): (Uuid, Uuid),
    seq: i64,
) -> ReadAhead<R> {
    let (pool, reading) = (pool.clone(), reading.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Some((seq, chunk)) = imports::chunk(&mut *pool.acquire().await?, workspace_id, import_id, seq).await?
        else {
            return Ok(None);
        };
        let rows = tokio::task::spawn_blocking(move || imports::rows::read::<R>(&reading.0, &reading.1, &chunk)).await;
        Ok(Some((seq, rows.map_err(Error::of_task)??)))
    }))
}
