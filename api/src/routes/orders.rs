//! `/dev/crm/orders`

use axum::Router;
use axum::routing::{get, post};
use shared::orders::Order;

use super::records;
use crate::AppState;

pub(crate) fn router() -> Router<AppState> {
    let one = get(records::read::<Order>).put(records::update::<Order>).delete(records::delete::<Order>);
    Router::new()
        .route("/orders", get(records::list::<Order>).post(records::create::<Order>))
        .route("/orders/batch", post(records::batch::<Order>))
        .route("/orders/{orderId}", one)
}
