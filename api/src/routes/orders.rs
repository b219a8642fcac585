//! `/dev/crm/orders`

use shared::accounts::scopes::Scope;
use shared::crm::orders::Order;

use super::records;
use crate::openapi::operations::{Operation, tagged};

pub(crate) fn operations() -> Vec<Operation> {
    let orders = [
        Operation::get("/orders", records::list::<Order>)
            .needs(Scope::RecordsRead)
            .named("list", "List orders")
            .lists_records::<Order>(),
        Operation::post("/orders", records::create::<Order>)
            .needs(Scope::RecordsWrite)
            .named("create", "Create an order")
            .creates::<Order>(),
        Operation::get("/orders/export", records::export::<Order>)
            .needs(Scope::RecordsRead)
            .named("export", "Export orders as CSV")
            .exports::<Order>(),
        Operation::post("/orders/batch", records::batch::<Order>)
            .needs(Scope::RecordsWrite)
            .named("batch", "Create and update many orders")
            .writes_many::<Order>(),
        Operation::get("/orders/{orderId}", records::read::<Order>)
            .needs(Scope::RecordsRead)
            .named("get", "Get an order")
            .reads::<Order>(),
        Operation::put("/orders/{orderId}", records::update::<Order>)
            .needs(Scope::RecordsWrite)
            .named("update", "Update an order")
            .updates::<Order>(),
        Operation::delete("/orders/{orderId}", records::delete::<Order>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete an order")
            .about("The order can be restored for 30 days.")
            .deletes(),
        Operation::get("/orders/{orderId}/history", records::history::<Order>)
            .needs(Scope::RecordsRead)
            .named("history", "List the changes of an order")
            .lists_history(),
        Operation::post("/orders/{orderId}/restore", records::restore::<Order>)
            .needs(Scope::RecordsWrite)
            .named("restore", "Restore a deleted order")
            .refers()
            .restores::<Order>("The restored order."),
    ];
    tagged("Orders", orders)
}
