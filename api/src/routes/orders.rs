//! `/dev/crm/orders`

use shared::crm::orders::Order;

use super::records;
use crate::openapi::operations::{Operation, tagged};

pub(crate) fn operations() -> Vec<Operation> {
    let orders = [
        Operation::get("/orders", records::list::<Order>).named("listOrders", "List orders").lists_records::<Order>(),
        Operation::post("/orders", records::create::<Order>).named("createOrder", "Create an order").creates::<Order>(),
        Operation::post("/orders/batch", records::batch::<Order>)
            .named("writeOrders", "Create and update many orders")
            .writes_many::<Order>(),
        Operation::get("/orders/{orderId}", records::read::<Order>).named("getOrder", "Get an order").reads::<Order>(),
        Operation::put("/orders/{orderId}", records::update::<Order>)
            .named("updateOrder", "Update an order")
            .updates::<Order>(),
        Operation::delete("/orders/{orderId}", records::delete::<Order>)
            .named("deleteOrder", "Delete an order")
            .deletes(),
    ];
    tagged("Orders", orders)
}
