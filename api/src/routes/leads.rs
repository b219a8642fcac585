//! `/dev/crm/leads`

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use shared::interactions::LeadInteraction;
use shared::leads::{self, Conversion, Lead};

use super::records;
use crate::AppState;
use crate::extract::{JsonObject, NoQuery, OptionalJsonObject, Path};
use crate::respond::{Reply, Result};
use crate::write::Write;

pub(crate) fn router() -> Router<AppState> {
    let one = get(records::read::<Lead>).put(records::update::<Lead>).delete(records::delete::<Lead>);
    let interactions = get(records::list::<LeadInteraction>).post(records::create::<LeadInteraction>);
    let interaction = get(records::read::<LeadInteraction>)
        .put(records::update::<LeadInteraction>)
        .delete(records::delete::<LeadInteraction>);
    Router::new()
        .route("/leads", get(records::list::<Lead>).post(records::create::<Lead>))
        .route("/leads/export", get(records::export::<Lead>))
        .route("/leads/batch", post(records::batch::<Lead>))
        .route("/leads/{leadId}", one)
        .route("/leads/{leadId}/convert", post(convert))
        .route("/leads/{leadId}/history", get(records::history::<Lead>))
        .route("/leads/{leadId}/restore", post(records::restore::<Lead>))
        .route("/leads/{leadId}/interactions", interactions)
        .route("/leads/{leadId}/interactions/{interactionId}", interaction)
}

async fn convert(Path(id): Path, write: Write, _: NoQuery, OptionalJsonObject(body): OptionalJsonObject) -> Result {
    let JsonObject { object, bytes } = body;
    write
        .run(&bytes, move |connection, actor| {
            let object = object.clone();
            Box::pin(async move { converted(&leads::convert(connection, actor, id, object).await?) })
        })
        .await
}

/// `201` when the customer was made, `200` when one that was there is linked.
fn converted(conversion: &Conversion) -> shared::Result<Reply> {
    let reply = Reply::json(conversion)?;
    Ok(match conversion.made {
        true => {
            let customer = format!("/dev/crm/customers/{}", conversion.customer.id);
            reply.located(customer).status(StatusCode::CREATED)
        }
        false => reply,
    })
}
