//! `/dev/crm/webhooks`: receivers of events, and what was delivered to them.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use shared::Error;
use shared::accounts::scopes::Scope;
use shared::error::Reason;
use shared::query::Columns;
use shared::records::Place;
use shared::webhooks::callbacks::{self, CallbackSecret};
use shared::webhooks::replay::ReplayWebhook;
use shared::webhooks::{self, Delivery, Webhook, WebhookWithSecret, deliveries, endpoint};
use uuid::Uuid;

use crate::AppState;
use crate::extract::{At, JsonObject, NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let all = endpoints().into_iter().chain(of_deliveries()).chain([Operation::post(
        "/webhooks/callback-secret",
        rotate_callback_secret,
    ).needs(Scope::Webhooks)
    .named("rotateCallbackSecret", "Create or rotate the secret for callbacks")
    .about(
        "Returns the secret that signs requests to `callback_url`. It is shown only once. The secret before signs as well \
         for 24 hours.",
    )
    .shows_secret()
    .returns::<CallbackSecret>(200, "The secret.")]);
    tagged("Webhooks", all)
}

fn endpoints() -> Vec<Operation> {
    vec![
        Operation::get("/webhooks", list).needs(Scope::Webhooks).named("list", "List webhooks").lists::<Webhook>(&endpoint::LIST),
        Operation::post("/webhooks", create).needs(Scope::Webhooks)
            .named("create", "Create a webhook")
            .about(
                "Events that happen from now on are delivered to the URL. Returns the secret that signs the requests, which \
                 is shown only once. A workspace has at most 50 webhooks.",
            )
            .takes("WebhookCreate".to_owned(), webhooks::create_schema())
            .conflicts([Reason::LimitReached])
            .shows_secret()
            .returns_created::<WebhookWithSecret>("The created webhook, with its secret."),
        Operation::get("/webhooks/{webhookId}", read).needs(Scope::Webhooks).named("get", "Get a webhook").reads::<Webhook>(),
        Operation::put("/webhooks/{webhookId}", update).needs(Scope::Webhooks)
            .named("update", "Update a webhook")
            .about(
                "Changes only the fields in the body; `null` clears an optional field. A webhook that is enabled again gets \
                 events from now on, and its deliveries continue.",
            )
            .takes("WebhookUpdate".to_owned(), webhooks::update_schema())
            .returns_record::<Webhook>(200, "The updated webhook."),
        Operation::delete("/webhooks/{webhookId}", delete).needs(Scope::Webhooks)
            .named("delete", "Delete a webhook")
            .about("Nothing more is delivered to it. Its deliveries are deleted as well.")
            .deletes(),
        Operation::post("/webhooks/{webhookId}/test", test).needs(Scope::Webhooks)
            .named("test", "Send a ping to a webhook")
            .about("Delivers an event of the type `ping`, whatever types the webhook gets. Returns the delivery, which you can read again.")
            .conflicts([Reason::WrongState])
            .returns_created::<Delivery>("The delivery."),
        Operation::post("/webhooks/{webhookId}/rotate-secret", rotate_secret).needs(Scope::Webhooks)
            .named("rotateSecret", "Rotate the secret of a webhook")
            .about("Returns a new secret, which is shown only once. Requests are signed with both secrets for 24 hours.")
            .shows_secret()
            .returns::<WebhookWithSecret>(200, "The webhook, with its new secret."),
        Operation::post("/webhooks/{webhookId}/replay", replay).needs(Scope::Webhooks)
            .named("replay", "Deliver past events again")
            .about(
                "Delivers the events of a time again that the webhook wants now, also those that it has had, or only those \
                 whose delivery failed. They have the same ids and bodies as before. Events are kept for 30 days.",
            )
            .takes("WebhookReplay".to_owned(), ReplayWebhook::schema())
            .conflicts([Reason::WrongState])
            .accepts::<ReplayWebhook>(),
    ]
}

fn of_deliveries() -> [Operation; 3] {
    [
        Operation::get("/webhooks/{webhookId}/deliveries", list_deliveries).needs(Scope::Webhooks)
            .named("listDeliveries", "List the deliveries of a webhook")
            .lists::<Delivery>(&deliveries::LIST),
        Operation::get("/webhooks/{webhookId}/deliveries/{deliveryId}", read_delivery).needs(Scope::Webhooks)
            .named("getDelivery", "Get a delivery of a webhook")
            .reads::<Delivery>(),
        Operation::post("/webhooks/{webhookId}/deliveries/{deliveryId}/retry", retry).needs(Scope::Webhooks)
            .named("retryDelivery", "Repeat a delivery")
            .about("Attempts a delivery again now, with all retries, whatever its state. One that waits for an earlier event of its subject is returned unchanged.")
            .conflicts([Reason::WrongState])
            .returns_record::<Delivery>(200, "The delivery."),
    ]
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let list = (&endpoint::LIST, Columns::plain(endpoint::COLUMNS));
    lists::answer::<Webhook>(&state, caller.workspace_id, list, None, &uri, query).await
}

async fn create(
    State(state): State<AppState>,
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    write
        .run(&bytes, move |connection, actor| {
            let (state, object) = (state.clone(), object.clone());
            Box::pin(async move {
                let with = (&state.settings.webhooks, &state.sealer);
                let created = endpoint::create(connection, (actor, caller.scopes), object, with).await?;
                let location = format!("/dev/crm/webhooks/{}", created.webhook.id);
                Ok(shown_once(created)?.located(location)?.status(StatusCode::CREATED))
            })
        })
        .await
}

/// A response with a secret, which is not stored for an idempotency key.
fn shown_once(shown: WebhookWithSecret) -> shared::Result<Reply> {
    Reply::json(&shown)?.keeping_secret("secret")
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let webhook = endpoint::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&webhook)?.into_response())
}

async fn update(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let condition = write.condition.clone();
    write
        .run(&bytes, move |connection, actor| {
            let (state, object, condition) = (state.clone(), object.clone(), condition.clone());
            Box::pin(async move {
                let with = (&state.settings.webhooks, &state.sealer);
                let webhook =
                    endpoint::update(connection, (actor, caller.scopes), id, object, &condition, with).await?;
                Ok(Reply::record(&webhook)?.notifying(webhooks::QUEUE))
            })
        })
        .await
}

async fn delete(Path(id): Path, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                endpoint::delete(connection, actor, id, &condition).await?;
                Ok(Reply::no_content().notifying(webhooks::QUEUE))
            })
        })
        .await
}

async fn test(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move {
                let delivery = deliveries::test(connection, actor, id).await?;
                let location = format!("/dev/crm/webhooks/{id}/deliveries/{}", delivery.id);
                Ok(Reply::created(location, &delivery)?.notifying(webhooks::QUEUE))
            })
        })
        .await
}

async fn rotate_secret(State(state): State<AppState>, Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            let state = state.clone();
            Box::pin(async move {
                let rotated = endpoint::rotate_secret(connection, actor, id, &state.sealer).await?;
                Ok(shown_once(rotated)?.notifying(webhooks::QUEUE))
            })
        })
        .await
}

async fn rotate_callback_secret(State(state): State<AppState>, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            let state = state.clone();
            Box::pin(async move {
                let secret = callbacks::rotate_secret(connection, actor.workspace_id, &state.sealer).await?;
                let reply = Reply::json(&secret)?.keeping_secret("secret")?;
                Ok(reply.notifying(webhooks::QUEUE))
            })
        })
        .await
}

async fn replay(Path(id): Path, write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    let replay = ReplayWebhook::read(id, object)?;
    write
        .run(&bytes, move |connection, actor| {
            let replay = replay.clone();
            Box::pin(async move { Reply::accepted(&replay.start(connection, actor).await?) })
        })
        .await
}

async fn list_deliveries(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path,
    uri: Uri,
    query: Query,
) -> Result {
    endpoint::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    let list = (&deliveries::LIST, Columns::plain(deliveries::COLUMNS));
    let parent = Some((endpoint::PARENT, id));
    lists::answer::<Delivery>(&state, caller.workspace_id, list, parent, &uri, query).await
}

async fn read_delivery(State(state): State<AppState>, caller: Caller, At(place): At, _: NoQuery) -> Result {
    let Place { id, .. } = place;
    let webhook_id = webhook_of(place)?;
    let delivery = deliveries::get(&mut *state.connection().await?, caller.workspace_id, webhook_id, id).await?;
    Ok(Reply::record(&delivery)?.into_response())
}

async fn retry(At(place): At, write: Write, _: NoQuery, _: NoBody) -> Result {
    let webhook_id = webhook_of(place)?;
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move {
                let retried = deliveries::retry(connection, actor.workspace_id, webhook_id, place.id).await?;
                Ok(Reply::record(&retried)?.notifying(webhooks::QUEUE))
            })
        })
        .await
}

fn webhook_of(place: Place) -> shared::Result<Uuid> {
    place.parent.ok_or_else(|| Error::internal("the path of a delivery has no webhook"))
}
