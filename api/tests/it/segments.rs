//! Segments: each customer is in exactly one, and the list of a segment has those that the report counts.

use chrono::{Days, Utc};
use serde_json::{Value, json};

use crate::support::{self, Api, each, faults, id};

/// The date so many days ago.
pub fn ago(days: u64) -> String {
    Utc::now().date_naive().checked_sub_days(Days::new(days)).unwrap().to_string()
}

impl Api {
    /// Makes a customer with orders, each so many days ago and of such a quantity.
    pub async fn customer(&self, name: &str, orders: &[(u64, i64)]) -> String {
        let person = json!({ "name": name, "email": format!("{name}@example.com") });
        let customer = self.create("/dev/crm/customers", person).await;
        for (days, quantity) in orders {
            self.order(id(&customer), *days, *quantity).await;
        }
        id(&customer).to_owned()
    }

    /// Makes an order.
    pub async fn order(&self, customer: &str, days: u64, quantity: i64) -> Value {
        let product = "6f1c2b7e-93a4-4c58-b0de-7a5e41c8f290";
        let order =
            json!({ "customer_id": customer, "product_id": product, "quantity": quantity, "order_date": ago(days) });
        self.create("/dev/crm/orders", order).await
    }

    async fn segments(&self) -> Value {
        self.report("/dev/crm/customers/segments").await
    }
}

/// How many customers are in each segment that has any.
fn counts(report: &Value) -> Vec<(&str, i64)> {
    let groups = report["groups"].as_array().unwrap().iter();
    groups
        .map(|group| (group["segment"].as_str().unwrap(), group["count"].as_i64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[tokio::test]
async fn an_empty_workspace_has_all_segments_and_nobody_in_them() {
    let api = Api::start().await;
    let report = api.segments().await;
    assert_eq!((&report["customers"], &report["buyers"], &report["complete"]), (&json!(0), &json!(0), &json!(true)));
    assert_eq!(report["groups"].as_array().unwrap().len(), 11);
    for group in report["groups"].as_array().unwrap() {
        assert_eq!(group["count"], 0);
        assert_eq!(group["share"], json!({ "numerator": 0, "denominator": 0, "rate": null }));
        assert!(group["definition"].as_str().unwrap().ends_with('.'));
    }
    assert_eq!(report["by_type"], json!({ "business": 0, "individual": 0 }));
    assert_eq!(report["by_status"], json!({ "active": 0, "blocked": 0, "inactive": 0 }));
    assert_eq!(report["changes"], json!({ "since": null, "moves": [] }));
    assert_eq!(report["history"], json!([]));
}

#[tokio::test]
async fn customers_are_where_their_orders_put_them() {
    let api = Api::start().await;
    api.customer("nobody", &[]).await;
    api.customer("lately", &[(1, 1)]).await;
    // F 5 and M 5, of today.
    api.customer("best", &[(0, 10), (9, 5), (20, 5), (30, 5), (40, 5), (50, 5), (60, 5), (70, 5), (80, 5), (90, 5)])
        .await;
    // R 2, F 2 and M 3: the value is 3.
    api.customer("fading", &[(100, 5), (170, 5)]).await;
    let gone = api.customer("gone", &[(181, 1)]).await;
    // Too long ago, in the future, or cancelled: no order that counts.
    api.customer("ancient", &[(740, 100)]).await;
    let cancelled = api.customer("cancelled", &[]).await;
    let order = api.order(&cancelled, 3, 9).await;
    api.send(reqwest::Method::PUT, &format!("/dev/crm/orders/{}", id(&order)), json!({ "status": "cancelled" }), 200)
        .await;

    let report = api.segments().await;
    let expected = [("champions", 1), ("new", 1), ("at_risk", 1), ("dormant", 1), ("prospects", 3)];
    assert_eq!(counts(&report), expected, "{report:#}");
    assert_eq!((&report["customers"], &report["buyers"]), (&json!(7), &json!(4)));
    assert_eq!(report["by_type"], json!({ "business": 0, "individual": 7 }));
    let group =
        |name: &str| report["groups"].as_array().unwrap().iter().find(|group| group["segment"] == name).unwrap();
    assert_eq!(group("at_risk")["share"], json!({ "numerator": 1, "denominator": 7, "rate": 1.0 / 7.0 }));

    // Each group's query lists its customers.
    for group in report["groups"].as_array().unwrap() {
        let listed = api.read(group["query"].as_str().unwrap()).await;
        assert_eq!(listed.as_array().unwrap().len(), group["count"].as_u64().unwrap() as usize, "{group}");
    }
    assert_eq!(each(&api.read("/dev/crm/customers?segment=dormant").await, "id"), [&gone]);

    // What changes is there for whoever looks next.
    api.order(&gone, 0, 1).await;
    assert_eq!(counts(&api.segments().await)[0..3], [("champions", 1), ("active", 1), ("new", 1)]);
    assert_eq!(each(&api.read("/dev/crm/customers?segment=active").await, "id"), [&gone]);
    api.delete(&format!("/dev/crm/customers/{gone}"), 204).await;
    assert_eq!(counts(&api.segments().await)[0..3], [("champions", 1), ("new", 1), ("at_risk", 1)]);
    support::json(api.post(&format!("/dev/crm/customers/{gone}/restore")), 200).await;
    assert_eq!(counts(&api.segments().await)[1], ("active", 1));
}

#[tokio::test]
async fn customers_are_listed_by_segment_and_health_page_by_page() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(api.customer(&format!("new{number}"), &[(number, 1)]).await);
    }
    let prospect = api.customer("prospect", &[]).await;
    made.reverse();

    let all = api.read("/dev/crm/customers?segment=new").await;
    assert_eq!(each(&all, "id"), made);
    for sort in ["", "&sort=email", "&sort=created_at"] {
        let whole = api.read(&format!("/dev/crm/customers?segment=new,champions{sort}")).await;
        let (mut paged, mut path) =
            (Vec::new(), Some(format!("/dev/crm/customers?segment=new,champions{sort}&limit=2&count=true")));
        while let Some(next) = path {
            let answer = api.get(&next).send().await.unwrap();
            assert_eq!(answer.headers()["x-total-count"], "7");
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            path = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
            paged.extend(support::body(answer, 200).await.as_array().unwrap().clone());
        }
        assert_eq!(json!(paged), whole, "{sort}");
        assert_eq!(paged.len(), 7);
    }
    let found = |query: &str| {
        let path = format!("/dev/crm/customers?{query}");
        let api = &api;
        async move { each(&api.read(&path).await, "id").iter().map(|id| (*id).to_owned()).collect::<Vec<_>>() }
    };
    assert_eq!(found("segment=prospects").await, std::slice::from_ref(&prospect));
    assert_eq!(found("segment=prospects,new&limit=1000").await.len(), 8);
    assert_eq!(found("segment=new&health=healthy&status=active").await.len(), 7);
    assert_eq!(found("segment=new&health=healthy&status=blocked").await, [""; 0]);
    assert_eq!(found("segment=new&q=new3").await, made[3..4]);
    assert_eq!(found("health=at_risk").await, [""; 0]);
    let csv = api.get("/dev/crm/customers/export?segment=prospects").send().await.unwrap().text().await.unwrap();
    assert_eq!(csv.lines().count(), 2, "{csv}");

    let answer = support::json(api.get("/dev/crm/customers?segment=lost&health=ill"), 400).await;
    assert_eq!(faults(&answer), [("segment", "invalid"), ("health", "invalid")]);
    for parameter in ["from=2026-02-01", "period=today", "tz=UTC", "interval=day", "segment=new", "colour=red"] {
        let answer = support::json(api.get(&format!("/dev/crm/customers/segments?{parameter}")), 400).await;
        let name = parameter.split('=').next().unwrap();
        assert_eq!(faults(&answer), [(name, "unknown")]);
    }
}

#[tokio::test]
async fn customers_carry_their_segment_and_health() {
    let api = Api::start().await;
    let (buyer, other) = (api.customer("buyer", &[(1, 9), (40, 9)]).await, api.customer("other", &[]).await);
    let found = api.read("/dev/crm/customers?segment[ne]=prospects").await;
    assert_eq!(each(&found, "id"), [buyer.as_str()]);
    let (segment, score, band) = (&found[0]["segment"], &found[0]["health_score"], &found[0]["health_band"]);
    assert!(score.as_i64().is_some_and(|score| (0..=100).contains(&score)), "{found}");
    let path = format!("/dev/crm/customers/{buyer}");
    assert_eq!(api.read(&path).await, found[0]);

    let ids = async |query: &str| -> Vec<String> {
        each(&api.read(&format!("/dev/crm/customers?{query}")).await, "id").into_iter().map(str::to_owned).collect()
    };
    let band = band.as_str().unwrap();
    for query in [
        format!("segment={}", segment.as_str().unwrap()),
        format!("health={band}"),
        format!("health_band={band}"),
        format!("health_band={band},null&segment[ne]=prospects"),
        "health_band[ne]=null".to_owned(),
        format!("health_score={score}"),
        format!("health_score[gte]={score}"),
        "health_score[ne]=null".to_owned(),
    ] {
        assert_eq!(ids(&query).await, [buyer.as_str()], "{query}");
    }
    for query in ["segment=prospects", "health_band=null", "health_score=null", &format!("health_score[ne]={score}")] {
        assert_eq!(ids(query).await, [other.as_str()], "{query}");
    }
    assert_eq!(ids("sort=health_score&limit=5").await, [buyer.as_str(), &other]);
    assert_eq!(ids("sort=-health_score&limit=5").await, [buyer.as_str(), &other]);

    // They are read-only: an update ignores them, a creation rejects them.
    let mut sent = found[0].clone();
    for (field, value) in [("segment", json!("dormant")), ("health_score", json!(1)), ("health_band", json!("at_risk"))]
    {
        let customer = json!({ "name": "x", "email": "x@example.com", field: value });
        let answer = support::json(api.post("/dev/crm/customers").json(&customer), 400).await;
        assert_eq!(faults(&answer), [(field, "read_only")]);
        sent[field] = value;
    }
    assert_eq!(api.send(reqwest::Method::PUT, &path, sent, 200).await, found[0]);

    let export = async |query: &str| {
        api.get(&format!("/dev/crm/customers/export{query}")).send().await.unwrap().text().await.unwrap()
    };
    assert!(!export("").await.contains("segment"));
    let segment = segment.as_str().unwrap();
    let expected = format!("id,name,segment,health_score,health_band\r\n{buyer},buyer,{segment},{score},{band}\r\n");
    assert_eq!(export(&format!("?id={buyer}&fields=id,name,segment,health_score,health_band")).await, expected);
}

#[tokio::test]
async fn another_workspace_has_segments_of_its_own() {
    let api = Api::start().await;
    api.customer("theirs", &[(1, 1)]).await;
    api.segments().await;
    let api = api.on("another").await;
    assert_eq!(counts(&api.segments().await), []);
    assert_eq!(api.read("/dev/crm/customers?segment=new").await, json!([]));
    api.customer("mine", &[]).await;
    assert_eq!(counts(&api.segments().await), [("prospects", 1)]);
}
