//! Orders are created, updated and listed.

use reqwest::Method;
use serde_json::json;

use crate::support::{self, Api, each, faults, id};

const ORDERS: &str = "/dev/crm/orders";
const PRODUCT: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

async fn customer(api: &Api, email: &str) -> String {
    id(&api.create("/dev/crm/customers", json!({ "name": "Ada", "email": email })).await).to_owned()
}

#[tokio::test]
async fn an_order_is_created_shipped_and_deleted() {
    let api = Api::start().await;
    let customer = customer(&api, "ada@example.com").await;
    let order = api.create(ORDERS, json!({ "customer_id": customer, "product_id": PRODUCT, "quantity": 2.0 })).await;
    assert_eq!(
        order,
        json!({
            "id": id(&order), "customer_id": customer, "product_id": PRODUCT, "quantity": 2, "status": "pending",
            "order_date": order["order_date"], "shipping_address": null, "billing_address": null, "notes": null,
            "external_id": null, "custom_fields": {}, "created_at": order["created_at"], "updated_at": order["created_at"],
        })
    );
    let path = format!("{ORDERS}/{}", id(&order));
    assert_eq!(api.read(&path).await, order);
    let shipped = json!({ "status": "shipped", "notes": "Order shipped via express" });
    let shipped = api.send(Method::PUT, &path, shipped, 200).await;
    assert_eq!((&shipped["status"], &shipped["quantity"]), (&json!("shipped"), &json!(2)));
    api.delete(&path, 204).await;
    support::json(api.get(&path), 404).await;
}

#[tokio::test]
async fn an_invalid_order_is_rejected_with_every_fault() {
    let api = Api::start().await;
    let rejected =
        api.send(Method::POST, ORDERS, json!({ "quantity": 0, "status": "sent", "product_id": 7 }), 400).await;
    let mut reported = faults(&rejected);
    reported.sort_unstable();
    let expected =
        [("customer_id", "required"), ("product_id", "invalid"), ("quantity", "out_of_range"), ("status", "invalid")];
    assert_eq!(reported, expected);
    for (quantity, code) in
        [(json!(1.5), "invalid"), (json!("2"), "invalid"), (json!(3_000_000_000_u64), "out_of_range")]
    {
        let body = json!({ "customer_id": PRODUCT, "product_id": PRODUCT, "quantity": quantity });
        assert_eq!(faults(&api.send(Method::POST, ORDERS, body, 400).await), [("quantity", code)]);
    }
    let nobody = json!({ "customer_id": PRODUCT, "product_id": PRODUCT, "quantity": 1 });
    let missing = api.send(Method::POST, ORDERS, nobody, 404).await;
    assert_eq!(missing["message"], "Resource not found");
}

#[tokio::test]
async fn orders_are_filtered_and_sorted() {
    let api = Api::start().await;
    let (ada, bob) = (customer(&api, "ada@example.com").await, customer(&api, "bob@example.com").await);
    for (customer, quantity, status, date) in
        [(&ada, 1, "pending", "2024-03-01"), (&ada, 2, "delivered", "2024-01-01"), (&bob, 3, "delivered", "2024-02-01")]
    {
        let body = json!({ "customer_id": customer, "product_id": PRODUCT, "quantity": quantity, "status": status, "order_date": date, "notes": date });
        api.create(ORDERS, body).await;
    }
    let notes = async |query: &str| {
        let found = api.read(&format!("{ORDERS}?{query}")).await;
        each(&found, "notes").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(notes("").await, ["2024-02-01", "2024-01-01", "2024-03-01"]);
    assert_eq!(notes("sort=-order_date").await, ["2024-03-01", "2024-02-01", "2024-01-01"]);
    assert_eq!(notes(&format!("customer_id={ada}&status=delivered")).await, ["2024-01-01"]);
    assert_eq!(notes("quantity=1,3").await, ["2024-02-01", "2024-03-01"]);
    assert_eq!(notes("order_date=2024-01-01,2024-03-01T00:00:00Z").await, ["2024-01-01", "2024-03-01"]);
    assert_eq!(notes("quantity[gte]=2&order_date[lt]=2024-02-01").await, ["2024-01-01"]);
}
