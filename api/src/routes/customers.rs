//! `/dev/crm/customers`

use axum::Router;
use axum::routing::{get, post};
use shared::customers::Customer;
use shared::interactions::CustomerInteraction;

use super::records;
use crate::AppState;

pub(crate) fn router() -> Router<AppState> {
    let one = get(records::read::<Customer>).put(records::update::<Customer>).delete(records::delete::<Customer>);
    let interactions = get(records::list::<CustomerInteraction>).post(records::create::<CustomerInteraction>);
    let interaction = get(records::read::<CustomerInteraction>)
        .put(records::update::<CustomerInteraction>)
        .delete(records::delete::<CustomerInteraction>);
    Router::new()
        .route("/customers", get(records::list::<Customer>).post(records::create::<Customer>))
        .route("/customers/export", get(records::export::<Customer>))
        .route("/customers/batch", post(records::batch::<Customer>))
        .route("/customers/{customerId}", one)
        .route("/customers/{customerId}/history", get(records::history::<Customer>))
        .route("/customers/{customerId}/restore", post(records::restore::<Customer>))
        .route("/customers/{customerId}/interactions", interactions)
        .route("/customers/{customerId}/interactions/{interactionId}", interaction)
}
