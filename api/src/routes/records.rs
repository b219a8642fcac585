//! Handlers that work for every type of record.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Serialize;
use shared::imports::Importable;
use shared::query::parameters::Parameters;
use shared::records::history;
use shared::records::{self, Answer, ConflictMode, Deleted, Record};
use shared::values::json;

use crate::extract::{At, Items, JsonObject, NoQuery, Path, Query, Under};
use crate::http::auth::Caller;
use crate::respond::reply::Reply;
use crate::respond::write::Write;
use crate::respond::{Problem, Result};
use crate::respond::{export, lists};
use crate::{AppState, CRM};

pub(super) async fn list<R: Record>(
    State(state): State<AppState>,
    caller: Caller,
    Under(parent): Under,
    uri: Uri,
    query: Query,
) -> Result {
    let parent = R::PARENT.zip(parent);
    if let Some((_, id)) = parent {
        records::check_parent::<R>(&mut *state.connection().await?, caller.workspace_id, id).await?;
    }
    let (deleted, query) = lists::of_deleted::<R>(query)?;
    if let Some(spec) = deleted {
        let list = (spec, Deleted::<R>::COLUMNS);
        return lists::answer::<Deleted<R>>(&state, caller.workspace_id, list, None, &uri, query).await;
    }
    lists::answer::<R>(&state, caller.workspace_id, lists::of::<R>(), parent, &uri, query).await
}

pub(super) async fn export<R: Importable>(State(state): State<AppState>, caller: Caller, query: Query) -> Result {
    export::export::<R>(&state, &caller, query).await
}

pub(super) async fn create<R: Record>(
    Under(parent): Under,
    uri: Uri,
    write: Write,
    query: Query,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let collection = format!("{CRM}{}", uri.path().trim_end_matches('/'));
    if conflict_mode::<R>(&query)? == ConflictMode::Update {
        return create_or_update::<R>(collection, write, bytes).await;
    }
    let alone = records::is_alone::<R>(&object);
    write
        .run_as(alone, &bytes, move |connection, actor| {
            let (collection, object) = (collection.clone(), object.clone());
            Box::pin(async move {
                let record: R = records::create(connection, actor, parent, object).await?;
                Reply::created(format!("{collection}/{}", record.id()), &record)
            })
        })
        .await
}

async fn create_or_update<R: Record>(collection: String, write: Write, bytes: Bytes) -> Result {
    let item = json::Items::single(bytes.clone());
    write
        .run(&bytes, move |connection, actor| {
            let (collection, item) = (collection.clone(), item.clone());
            Box::pin(async move {
                match records::create_or_update::<R>(connection, actor, &item).await? {
                    Answer::Created(record) => Reply::created(format!("{collection}/{}", record.id()), &record),
                    Answer::Updated(record) => Reply::record(&record),
                    Answer::Refused(error) => Err(error),
                }
            })
        })
        .await
}

/// The parameter `on_conflict`, which only kinds of records have that can be matched.
fn conflict_mode<R: Record>(Query(pairs): &Query) -> Result<ConflictMode> {
    let mut parameters = Parameters::new(pairs);
    let mode = if R::MATCHED_BY.is_empty() { None } else { parameters.take("on_conflict") };
    parameters.finish()?;
    Ok(mode.unwrap_or(ConflictMode::Fail))
}

pub(super) async fn read<R: Record>(
    State(state): State<AppState>,
    caller: Caller,
    At(place): At,
    _: NoQuery,
) -> Result {
    let record: R = records::get(&mut *state.connection().await?, caller.workspace_id, place).await?;
    Ok(Reply::record(&record)?.into_response())
}

pub(super) async fn update<R: Record>(
    At(place): At,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let condition = write.condition.clone();
    let alone = records::changes_alone::<R>(&object);
    write
        .run_as(alone, &bytes, move |connection, actor| {
            let (object, condition) = (object.clone(), condition.clone());
            Box::pin(async move {
                let record: R = records::update(connection, actor, place, &object, &condition).await?;
                Reply::record(&record)
            })
        })
        .await
}

pub(super) async fn delete<R: Record>(At(place): At, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                records::delete::<R>(connection, actor, place, &condition).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}

pub(super) async fn batch<R: Record>(write: Write, query: Query, Items { items, bytes }: Items) -> Result {
    let mode = conflict_mode::<R>(&query)?;
    write
        .run(&bytes, move |connection, actor| {
            let items = items.clone();
            Box::pin(async move {
                let answers = records::batch::<R>(connection, actor, &items, mode).await?;
                let mut json = b"{\"results\":[".to_vec();
                for (at, answer) in answers.into_iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    write_result(&mut json, answer)?;
                }
                json.extend_from_slice(b"]}");
                Ok(Reply::of_json(json))
            })
        })
        .await
}

#[derive(Serialize)]
struct Written<R> {
    status: u16,
    record: R,
}

#[derive(Serialize)]
struct Refused<E> {
    status: u16,
    error: E,
}

/// Writes the result of an item, with the status and body that it would have on its own. Records
/// are dropped as they are serialized, because the response to a batch is large.
fn write_result<R: Record>(json: &mut Vec<u8>, answer: Answer<R>) -> shared::Result<()> {
    match answer {
        Answer::Created(record) => serde_json::to_writer(json, &Written { status: 201, record }),
        Answer::Updated(record) => serde_json::to_writer(json, &Written { status: 200, record }),
        Answer::Refused(error) => {
            let problem = Problem::from(error);
            serde_json::to_writer(json, &Refused { status: problem.status().as_u16(), error: problem.body() })
        }
    }?;
    Ok(())
}

pub(super) async fn history<R: Record>(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    uri: Uri,
    query: Query,
) -> Result {
    let page = lists::Page::parse(&state, caller.workspace_id, &uri, &query).await?;
    let mut connection = state.connection().await?;
    let (changes, next) = history::list::<R>(&mut connection, caller.workspace_id, id, page.before, page.limit).await?;
    drop(connection);
    let mut response = Json(changes).into_response();
    page.link(&uri, next, &mut response)?;
    Ok(response)
}

pub(super) async fn restore<R: Record>(Path(id): Path, write: Write, _: NoQuery) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&records::restore::<R>(connection, actor, id).await?) })
        })
        .await
}
