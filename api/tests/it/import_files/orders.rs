//! Orders of shops: who ordered what, line by line.

use serde_json::json;

use super::*;

const HEADER: &str = "Order Number,Customer Email,Order Date,Product,Quantity,Status\n";

async fn customers(api: &Api) -> (String, String) {
    let ann = json!({ "name": "Ann", "email": "ann@example.com", "external_id": "C-1" });
    let bob = json!({ "name": "Bob", "email": "Bob@Example.com", "external_id": "C-2" });
    let (ann, bob) = (api.create(CUSTOMERS, ann).await, api.create(CUSTOMERS, bob).await);
    (id(&ann).to_owned(), id(&bob).to_owned())
}

/// The orders that a job created, by their external ids.
async fn orders_of(api: &Api, job: &Value) -> Vec<Value> {
    let orders = api.read(&format!("{ORDERS}?import_job_id={}&sort=external_id&limit=1000", id(job))).await;
    orders.as_array().unwrap().clone()
}

async fn undo(api: &Api, job: &Value) -> [i64; 3] {
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
    let undo = api.ended(&undo).await;
    assert_eq!(undo["status"], "succeeded", "{undo}");
    ["removed", "restored", "left"].map(|name| undo["result"][name].as_i64().unwrap())
}

/// An export of Shopify: a row for each line, of which only the first says what the order is about.
#[tokio::test]
async fn the_lines_of_a_shopify_order_become_orders() {
    let (api, _worker) = start().await;
    let (ann, bob) = customers(&api).await;
    let file = "Name,Email,Financial Status,Fulfillment Status,Accepts Marketing,Currency,Total,Created at,\
                Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Billing Name,Cancelled at,Id\n\
                #1001,ann@example.com,paid,fulfilled,yes,EUR,80.00,2026-03-01 10:00:00 +0100,2,Lamp - Red,20.00,L-R,Ann,,5551\n\
                #1001,ann@example.com,,,,,,,1,Shade,40.00,SH,,,\n\
                #1001,,,,,,,,3,Bulb,1.00,,,,\n\
                #1002,bob@example.com,refunded,fulfilled,no,EUR,20.00,2026-03-02 11:00:00 +0100,1,Lamp - Red,20.00,L-R,Bob,,5552\n\
                #1003,bob@example.com,pending,,no,EUR,20.00,2026-03-03 11:00:00 +0100,1,Lamp - Blue,20.00,L-B,Bob,2026-03-04,5553\n";
    let job = import(&api, ORDERS, "", file).await;
    assert_counts(&job, json!({ "created": 5, "suppressed": 1 }));
    assert_mapping(
        &job,
        &[
            ("Name", "external_id"),
            ("Email", "customer_email"),
            ("Lineitem sku", "product_id"),
            ("Lineitem name", "product_id"),
            ("Lineitem quantity", "quantity"),
            ("Financial Status", "status"),
            ("Fulfillment Status", "status"),
            ("Cancelled at", "status"),
            ("Created at", "order_date"),
            ("Accepts Marketing", "suppression"),
            ("Lineitem price", "custom_fields.Lineitem price"),
            ("Id", "custom_fields.Id"),
        ],
    );
    let orders = orders_of(&api, &job).await;
    let numbers: Vec<&str> = orders.iter().map(|order| order["external_id"].as_str().unwrap()).collect();
    assert_eq!(numbers, ["#1001/1", "#1001/2", "#1001/3", "#1002", "#1003"]);
    for (order, quantity) in orders.iter().zip([2, 1, 3]) {
        let expected = json!({ "customer_id": ann, "quantity": quantity, "status": "shipped", "order_date": "2026-03-01T09:00:00Z" });
        assert_has(order, expected);
    }
    let lamp =
        json!({ "Lineitem sku": "L-R", "Lineitem name": "Lamp - Red", "Lineitem price": "20.00", "Total": "80.00" });
    assert_has(&orders[0], json!({ "custom_fields": lamp }));
    // The same product is the same id, wherever it is; a line without a number is known by its name.
    assert_eq!(orders[0]["product_id"], orders[3]["product_id"]);
    assert_ne!(orders[0]["product_id"], orders[4]["product_id"]);
    assert_has(&orders[2], json!({ "custom_fields": { "Lineitem name": "Bulb" } }));
    assert_has(&orders[3], json!({ "customer_id": bob, "status": "cancelled" }));
    assert_has(&orders[4], json!({ "status": "cancelled" }));
    // Who declined marketing in the shop gets none here.
    assert_eq!(suppressed(&api).await, ["bob@example.com"]);

    // The same file again changes nothing.
    let skipped = import(&api, ORDERS, "", file).await;
    assert_counts(&skipped, json!({ "skipped": 5 }));
    let again = import(&api, ORDERS, "on_conflict=update", file.replace(",fulfilled,", ",partial,")).await;
    assert_counts(&again, json!({ "updated": 5 }));
    let order = api.read(&format!("{ORDERS}/{}", id(&orders[2]))).await;
    assert_eq!(order["status"], "processing");
    assert_eq!(undo(&api, &again).await, [0, 4, 0]);
    // Those were changed after the first import.
    assert_eq!(undo(&api, &job).await, [1, 0, 4]);
    // The other file says it too.
    assert_eq!(suppressed(&api).await, ["bob@example.com"]);
    undo(&api, &skipped).await;
    assert!(suppressed(&api).await.is_empty());
}

#[tokio::test]
async fn orders_of_woocommerce_have_its_statuses() {
    let (api, _worker) = start().await;
    customers(&api).await;
    let statuses = [
        ("wc-pending", "pending"),
        ("On hold", "pending"),
        ("Processing", "processing"),
        ("completed", "delivered"),
        ("wc-cancelled", "cancelled"),
        ("Refunded", "cancelled"),
        ("Failed", "cancelled"),
    ];
    let rows = statuses
        .iter()
        .enumerate()
        .map(|(n, (status, _))| format!("{n},{status},2026-01-0{},ann@example.com,Lamp,1,\"Street 1\nTown\"\n", n + 1));
    let file = format!(
        "order_id,Order Status,Order Date,Billing Email,Item Name,Quantity,Shipping Address\n{}",
        rows.collect::<String>()
    );
    let job = import(&api, ORDERS, "", file).await;
    assert_counts(&job, json!({ "created": 7 }));
    for ((_, status), order) in statuses.iter().zip(orders_of(&api, &job).await) {
        assert_has(&order, json!({ "status": status, "shipping_address": "Street 1\nTown" }));
    }
}

#[tokio::test]
async fn orders_name_their_customer_by_id_address_or_external_id() {
    let (api, _worker) = start().await;
    let eve = json!({ "name": "Eve", "email": "eve@example.com", "external_id": "C-9" });
    let stranger = id(&api.create(CUSTOMERS, eve).await).to_owned();
    let api = api.on("another").await;
    let (ann, bob) = customers(&api).await;
    for (header, [of_ann, of_bob], unknown, field) in [
        ("customer_id", [ann.as_str(), bob.as_str()], stranger.as_str(), "customer_id"),
        ("Customer ID", ["C-1", "C-2"], "C-9", "customer_external_id"),
        ("Kundennummer", ["C-1", "C-2"], "C-9", "customer_external_id"),
        ("customer_external_id", ["C-1", "C-2"], "C-9", "customer_external_id"),
        ("customer_email", ["ANN@example.com", "bob@example.com"], "eve@example.com", "customer_email"),
        ("Email", ["Ann <ann@example.com>", "mailto:bob@example.com"], "eve@example.com", "customer_email"),
        ("billing_email", ["ann@example.com", "bob@example.com"], "eve@example.com", "customer_email"),
        ("メールアドレス", ["ann@example.com", "bob@example.com"], "eve@example.com", "customer_email"),
    ] {
        let file =
            format!("Product\tQty\t{header}\nLamp\t1\t{of_ann}\nLamp\t2\t{of_bob}\nLamp\t3\t{unknown}\nLamp\t4\t\n");
        let job = import(&api, ORDERS, "", file).await;
        assert_counts(&job, json!({ "created": 2, "failed": 2 }));
        assert_eq!(count(&job, "without_key"), 2);
        let rows = reported(&api, &job, "failed").await;
        let faults: Vec<(&str, &str)> =
            rows.iter().map(|row| (row["field"].as_str().unwrap(), row["code"].as_str().unwrap())).collect();
        assert_eq!(faults, [(field, "not_found"), ("customer_id", "required")], "{header}");
        let of = |customer: &str| format!("{ORDERS}?customer_id={customer}&import_job_id={}", id(&job));
        for (customer, quantity) in [(&ann, 1), (&bob, 2)] {
            let orders = api.read(&of(customer)).await;
            assert_eq!(orders[0]["quantity"], quantity, "{header}");
        }
    }
    // The first name that is a customer's counts.
    let file = "Customer ID,Email,Product\nC-7,ann@example.com,Lamp\nC-2,ann@example.com,Lamp\n";
    let job = import(&api, ORDERS, "", file).await;
    assert_counts(&job, json!({ "created": 2 }));
    assert_eq!(
        api.read(&format!("{ORDERS}?customer_id={ann}&import_job_id={}", id(&job))).await.as_array().unwrap().len(),
        1
    );
    // All orders of a file may be one customer's.
    let set = option("set", &json!({ "customer_id": bob, "status": "delivered" }));
    let job = import(&api, ORDERS, &set, "Product,Email\nLamp,ann@example.com\n").await;
    assert_counts(&job, json!({ "created": 1 }));
    assert_has(&orders_of(&api, &job).await[0], json!({ "customer_id": bob, "status": "delivered", "quantity": 1 }));
}

#[tokio::test]
async fn a_product_is_an_id_or_a_text() {
    let (mut api, _worker) = start().await;
    let product = "0191d2c0-6f5e-4000-8000-00000000000a";
    let file = format!("Email,Product ID\nann@example.com,{product}\nann@example.com,Lamp\nann@example.com,\n");
    let mut ids = Vec::new();
    for workspace in ["one", "two"] {
        api = api.on(workspace).await;
        customers(&api).await;
        let job = import(&api, ORDERS, "", file.clone()).await;
        assert_counts(&job, json!({ "created": 2, "failed": 1 }));
        assert_eq!(remarks(&api, &job).await, ["4 failed required"]);
        let orders = api.read(&format!("{ORDERS}?sort=created_at&limit=9")).await;
        let lamp = orders.as_array().unwrap().iter().find(|order| order["product_id"] != product).unwrap().clone();
        assert_has(&lamp, json!({ "custom_fields": { "Product ID": "Lamp" } }));
        ids.push(lamp["product_id"].clone());
    }
    assert_eq!(ids[0], ids[1], "a text is the same id everywhere");
    assert_eq!(ids[0].as_str().unwrap().as_bytes()[14], b'5');
}

/// Lines may be anywhere in a file, and in any of its chunks.
#[tokio::test]
async fn lines_of_an_order_are_numbered_across_the_chunks_of_a_file() {
    let (api, _worker) = start().await;
    customers(&api).await;
    let note = "x".repeat(2_000);
    let row = |n: usize, lines: &str| format!("{n},{lines},Lamp,1,{note}\n");
    let first: String = (0..700).map(|n| row(n, "ann@example.com")).collect();
    // The lines of every seventh order are far from its first one, and do not say who ordered.
    let second: String = (0..700).filter(|n| n % 7 == 0).map(|n| row(n, "")).collect();
    let third: String = (0..700).filter(|n| n % 70 == 0).map(|n| row(n, "")).collect();
    let padding: String = (700..1_400).map(|n| row(n, "bob@example.com")).collect();
    let file = format!(
        "Order Number,Email,Product,Quantity,Notes\n{first}{padding}{second}{padding_2}{third}",
        padding_2 = padding.replace("bob", "ann")
    );
    // The orders of the padding have two lines each.
    let expected = json!({ "created": 700 + 700 + 100 + 700 + 10 });
    assert_counts(&import(&api, ORDERS, "dry_run=true", file.clone()).await, expected.clone());
    let job = import(&api, ORDERS, "", file.clone()).await;
    assert_counts(&job, expected);
    let ids: Vec<(String, i64)> =
        sqlx::query_as("SELECT split_part(external_id, '/', 2), count(*) FROM orders GROUP BY 1 ORDER BY 1")
            .fetch_all(&mut api.connection().await)
            .await
            .unwrap();
    let of = |line: &str, count| (line.to_owned(), count);
    assert_eq!(ids, [of("", 600), of("1", 800), of("2", 800), of("3", 10)]);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM import_lines").fetch_one(&mut api.connection().await).await.unwrap();
    assert_eq!(left, 0);
    assert_counts(&import(&api, ORDERS, "", file.clone()).await, json!({ "skipped": 2_210 }));
    let again = import(&api, ORDERS, "on_conflict=update&create=false", file).await;
    assert_counts(&again, json!({ "updated": 2_210 }));
    assert_eq!(undo(&api, &job).await, [2_210, 0, 0]);
}

#[tokio::test]
async fn an_order_number_that_gets_lines_later_keeps_its_order() {
    let (api, _worker) = start().await;
    customers(&api).await;
    let file = format!("{HEADER}7,ann@example.com,2026-01-01,Lamp,1,paid\n");
    let job = import(&api, ORDERS, "", file.clone()).await;
    let order = orders_of(&api, &job).await[0].clone();
    assert_eq!(order["external_id"], "7");
    let more = format!("{file}7,ann@example.com,2026-01-01,Shade,1,paid\n");
    let job = import(&api, ORDERS, "", more.clone()).await;
    assert_counts(&job, json!({ "created": 1, "skipped": 1 }));
    assert_eq!(orders_of(&api, &job).await[0]["external_id"], "7/2");
    assert_counts(&import(&api, ORDERS, "", more).await, json!({ "skipped": 2 }));
    // Ids of our own are not numbers of lines: a second one is a conflict.
    let own = "external_id,customer_email,product_id,quantity\n7/2,ann@example.com,Lamp,1\n8,ann@example.com,Lamp,1\n8,ann@example.com,Lamp,1\n";
    let job = import(&api, ORDERS, "on_conflict=fail", own).await;
    assert_counts(&job, json!({ "created": 1, "failed": 2 }));
    assert_eq!(remarks(&api, &job).await, ["2 failed taken", "4 failed taken"]);
}

#[tokio::test]
async fn an_order_number_and_a_status_are_a_complete_file_of_updates() {
    let (api, _worker) = start().await;
    customers(&api).await;
    import(&api, ORDERS, "", format!("{HEADER}7,ann@example.com,2026-01-01,Lamp,1,paid\n")).await;
    let file = "Order Number,Status\n7,Shipped\n8,Shipped\n";
    for query in ["", "on_conflict=fail"] {
        assert_eq!(count(&import(&api, ORDERS, query, file).await, "failed"), if query.is_empty() { 1 } else { 2 });
    }
    let job = import(&api, ORDERS, "on_conflict=update", file).await;
    assert_counts(&job, json!({ "updated": 1, "failed": 1 }));
    assert_eq!(remarks(&api, &job).await, ["3 failed not_found"]);
    assert_eq!(api.read(&format!("{ORDERS}?external_id=7")).await[0]["status"], "shipped");
    assert_eq!(undo(&api, &job).await, [0, 1, 0]);
    assert_eq!(api.read(&format!("{ORDERS}?external_id=7")).await[0]["status"], "processing");
}

#[tokio::test]
async fn bad_cells_of_orders_cost_the_cell_unless_they_are_required() {
    let (api, _worker) = start().await;
    customers(&api).await;
    let file = format!(
        "{HEADER}1,ann@example.com,2026-01-01,Lamp,many,paid\n2,ann@example.com,someday,Lamp,2,Teleported\n\
         3,not an address,2026-01-01,Lamp,1,paid\n4,ann@example.com,2026-01-01,,1,paid\n"
    );
    let job = import(&api, ORDERS, "", file.clone()).await;
    assert_counts(&job, json!({ "created": 1, "failed": 3, "warnings": 2 }));
    let expected = [
        "2 failed invalid",
        "3 warned invalid",
        "3 warned unknown",
        "4 failed required",
        "4 failed invalid",
        "5 failed required",
    ];
    assert_eq!(remarks(&api, &job).await, expected);
    assert_eq!(job["result"]["unmatched"], json!({ "Status": { "Teleported": 1 } }));
    let kept = json!({ "Order Date": "someday", "Status": "Teleported", "Product": "Lamp" });
    assert_has(&orders_of(&api, &job).await[0], json!({ "status": "pending", "custom_fields": kept }));
    let job = import(&api, ORDERS, "strict=true", file).await;
    assert_counts(&job, json!({ "failed": 4 }));
}

#[tokio::test]
async fn files_of_orders_that_cannot_be_imported_are_refused() {
    let (api, _worker) = start().await;
    let answer = refused(&api, ORDERS, "", "Product,Quantity\nLamp,1\n").await;
    let faults = support::faults(&answer);
    assert_eq!(faults[0], ("customer_id", "missing_column"), "{answer}");
    let answer = refused(&api, ORDERS, "key=email", "Email,Product\nann@example.com,Lamp\n").await;
    assert_eq!(support::faults(&answer), [("key", "invalid")]);
    let answer = refused(&api, ORDERS, "key=external_id", "Email,Product\nann@example.com,Lamp\n").await;
    assert_eq!(support::faults(&answer)[0], ("external_id", "missing_column"));
    let set = option("set", &json!({ "customer_id": "nobody", "quantity": 0 }));
    let answer = refused(&api, ORDERS, &set, "Email,Product\nann@example.com,Lamp\n").await;
    assert_eq!(support::faults(&answer), [("set.customer_id", "invalid"), ("set.quantity", "out_of_range")]);
}
