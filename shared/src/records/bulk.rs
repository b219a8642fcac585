//! Many records at once.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Difference, Record, as_object, words_of};
use crate::copy::{Cells, CopyRows};
use crate::error::Result;
use crate::history::{self, Action, Actor, Entry};
use crate::mail;

/// Records that are written faster without COPY.
const FEW: usize = 100;

/// The records with these ids, locked until the transaction ends, in the order of their ids.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn lock<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<R>> {
    Ok(sqlx::query_as(R::statements().lock).bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// The last id of the next page of records behind an id, for a walk over all of them; `None` when
/// there is none behind it.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn page_end<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Option<Uuid>> {
    let sql = format!(
        "SELECT id FROM (SELECT id FROM {} WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3) AS page
         ORDER BY id DESC LIMIT 1",
        R::TABLE
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(after)
        .bind(limit)
        .fetch_optional(connection)
        .await?)
}

/// Writes new records, which the job of an import may have made.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if an id or an email is taken;
/// [`Error::NotFound`](crate::Error::NotFound) if a record they refer to does not exist.
pub async fn insert_all<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    import_job_id: Option<Uuid>,
    records: &[R],
) -> Result<()> {
    match records.len() {
        0 => Ok(()),
        1..=FEW => insert_few(connection, workspace_id, import_job_id, records).await,
        _ => copy_all(connection, workspace_id, import_job_id, records).await,
    }
}

/// In one statement. The end of a COPY is a message by itself, which a network may hold back until what
/// was sent before it is acknowledged: that is 40 ms, in which a few records are written ten times.
async fn insert_few<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    import_job_id: Option<Uuid>,
    records: &[R],
) -> Result<()> {
    let row = |record: &R| {
        let mut row = as_object(record)?;
        if R::PERSON {
            row.insert("words".into(), words_of(record, workspace_id).into());
            row.insert("import_job_id".into(), serde_json::to_value(import_job_id)?);
        }
        Ok(Value::Object(row))
    };
    let rows = records.iter().map(row).collect::<Result<Vec<Value>>>()?;
    let insert = R::statements().insert_few;
    sqlx::query(insert).bind(workspace_id).bind(Value::Array(rows)).execute(connection).await?;
    Ok(())
}

async fn copy_all<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    import_job_id: Option<Uuid>,
    records: &[R],
) -> Result<()> {
    let mut copy = CopyRows::begin(connection, R::statements().copy).await?;
    for record in records {
        copy.value(workspace_id);
        record.cells(&mut copy);
        if R::PERSON {
            copy.text(&words_of(record, workspace_id));
            copy.optional(import_job_id);
        }
        copy.end().await?;
    }
    copy.finish().await
}

/// Writes changed records, given as they were and as they are now, and their history.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if an email is taken.
pub async fn update_all<R: Record>(connection: &mut PgConnection, actor: &Actor, changed: &[(R, R)]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(changed.len());
    let mut entries = Vec::with_capacity(changed.len());
    for (before, after) in changed {
        let mut row = as_object(after)?;
        if R::PERSON {
            row.insert("words".into(), words_of(after, actor.workspace_id).into());
        }
        rows.push(Value::Object(row));
        let Difference { former, latter } = before.difference(after)?;
        let (former, latter) = (Some(Value::Object(former)), Some(Value::Object(latter)));
        entries.push(Entry { former, latter, ..Entry::new(R::TYPE, after.id(), Action::Updated) });
    }
    sqlx::query(R::statements().update_all)
        .bind(actor.workspace_id)
        .bind(Value::Array(rows))
        .execute(&mut *connection)
        .await?;
    let stopped = changed.iter().filter_map(|(before, after)| Some((after.id(), after.stops_mail(before)?)));
    mail::cancel_to_all(connection, actor.workspace_id, R::TYPE, &stopped.collect::<Vec<_>>()).await?;
    history::keep(connection, actor, entries).await
}
