//! `/dev/crm/keys`: the API keys of a workspace.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use shared::accounts::Key;
use shared::accounts::api_keys::rotation::{self, OverlapHours};
use shared::accounts::api_keys::{self, ApiKey, NewKey, NewlyIssued};
use shared::accounts::scopes::{Scope, Scopes};
use shared::error::Reason;
use shared::events::EventType;
use shared::query::Columns;
use shared::records::history::Actor;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::extract::{JsonObject, NoQuery, OptionalJsonObject, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;
use crate::{AppState, CRM};

pub(crate) fn operations() -> Vec<Operation> {
    let keys = [
        Operation::get("/keys", list)
            .needs(Scope::Keys)
            .named("list", "List API keys")
            .lists::<ApiKey>(&api_keys::LIST),
        Operation::post("/keys", create)
            .needs(Scope::Keys)
            .named("create", "Create an API key")
            .about(
                "Returns the key, which is shown only here. A key creates only keys whose scopes are all among its own; \
                 `*` is everything, also what later versions add. If the response is replayed for an `Idempotency-Key`, \
                 `key` is `null`: rotate the key then.",
            )
            .takes("ApiKeyCreate".to_owned(), api_keys::create_schema())
            .shows_secret()
            .returns_created::<NewlyIssued>("The key."),
        Operation::get("/keys/{keyId}", read).needs(Scope::Keys).named("get", "Get an API key").reads::<ApiKey>(),
        Operation::delete("/keys/{keyId}", revoke)
            .needs(Scope::Keys)
            .named("revoke", "Revoke an API key")
            .about(
                "Within half a second, requests with the key are rejected; its streams end within two. Accepted work \
                 continues. A key revokes only keys whose scopes are all among its own. Returns 409 for the last valid key \
                 with the scope `keys` or `*`.",
            )
            .conflicts([Reason::LastKey])
            .deletes(),
        Operation::post("/keys/{keyId}/rotate", rotate)
            .needs(Scope::Keys)
            .named("rotate", "Replace an API key by a new one")
            .about(
                "Returns the new key, which is shown only here. It has the same id, scopes and expiry; the old one works \
                 for `overlap_hours`. A key rotates only keys whose scopes are all among its own.",
            )
            .may_take("ApiKeyRotation", OverlapHours::schema())
            .conflicts([Reason::KeyExpired])
            .shows_secret()
            .returns::<NewlyIssued>(200, "The key."),
    ];
    tagged("Keys", keys)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let list = (&api_keys::LIST, Columns::plain(api_keys::COLUMNS));
    lists::answer::<ApiKey>(&state, caller.workspace_id, list, None, &uri, query).await
}

async fn create(caller: Caller, write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    let new = NewKey::read(object)?;
    caller.must(new.scopes)?;
    write
        .run(&bytes, move |connection, actor| {
            let new = new.clone();
            Box::pin(async move {
                let issued = api_keys::create(connection, actor.workspace_id, &new).await?;
                api_keys::report(connection, actor, EventType::ApiKeyCreated, &issued.1).await?;
                let location = format!("{CRM}/keys/{}", issued.1.id);
                issue(issued)?.status(StatusCode::CREATED).located(location)
            })
        })
        .await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let key = api_keys::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&key)?.into_response())
}

async fn revoke(caller: Caller, Path(id): Path, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                check(connection, actor, caller.scopes, id).await?;
                let revoked = api_keys::revoke(connection, actor.workspace_id, id, &condition).await?;
                api_keys::report(connection, actor, EventType::ApiKeyRevoked, &revoked).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}

async fn rotate(
    caller: Caller,
    Path(id): Path,
    write: Write,
    _: NoQuery,
    OptionalJsonObject(JsonObject { object, bytes }): OptionalJsonObject,
) -> Result {
    let overlap = OverlapHours::read(object)?;
    write
        .run(&bytes, move |connection, actor| {
            Box::pin(async move {
                check(connection, actor, caller.scopes, id).await?;
                let issued = rotation::rotate(connection, actor.workspace_id, id, overlap).await?;
                api_keys::report(connection, actor, EventType::ApiKeyUpdated, &issued.1).await?;
                issue(issued)
            })
        })
        .await
}

/// Checks that a key with these scopes may manage another one, whose scopes never change.
async fn check(connection: &mut PgConnection, actor: &Actor, scopes: Scopes, id: Uuid) -> shared::Result<()> {
    scopes.must(api_keys::get(connection, actor.workspace_id, id).await?.scopes)
}

/// Shows a key, which is not stored with the response for an idempotency key.
fn issue((key, about): (Key, ApiKey)) -> shared::Result<Reply> {
    Reply::json(&NewlyIssued { key: Some(key.reveal().to_owned()), about })?.keeping_secret("key")
}
