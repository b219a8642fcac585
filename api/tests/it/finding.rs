//! Lists and searches take time linear in what they read, and requests are limited in size.

use serde_json::{Value, json};
use shared::crm::leads::Lead;
use shared::query::{self, List, bounded};
use shared::records::{Fields, Record};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::support::{Api, body, faults, json};

const LEADS: &str = "/dev/crm/leads";

#[tokio::test]
async fn searches_are_limited_to_a_few_short_words() {
    let api = Api::start().await;
    api.create(LEADS, json!({ "name": "Ann Lee", "email": "ann@example.com", "company": "Acme" })).await;
    let search = async |q: &str, status: u16| json(api.get(&format!("{LEADS}?q={q}")), status).await;
    let words = |count: usize| vec!["a"; count].join("+");
    assert_eq!(search(&words(20), 200).await.as_array().unwrap().len(), 1);
    for (q, code) in [
        (words(21), "too_long"),
        (words(7_000), "too_long"),
        ("x".repeat(101), "too_long"),
        ("x".repeat(15_000), "too_long"),
        (String::new(), "invalid"),
        ("-+.%20%2C".to_owned(), "invalid"),
    ] {
        assert_eq!(faults(&search(&q, 400).await), [("q", code)], "{}", &q[..q.len().min(40)]);
        let export = api.get(&format!("{LEADS}/export?q={q}"));
        assert_eq!(faults(&json(export, 400).await), [("q", code)]);
    }
    assert_eq!(search(&"x".repeat(100), 200).await, json!([]));
    // A word that is a prefix of another adds no condition.
    assert_eq!(search("a+an+ann+acm", 200).await.as_array().unwrap().len(), 1);
    assert_eq!(search("a+an+anna", 200).await, json!([]));
}

#[tokio::test]
async fn urls_are_limited_to_16_kib_including_a_cursor() {
    let api = Api::start().await;
    let too_long =
        json!({ "message": "URL too long: the limit is 16 KiB, of which 512 bytes are reserved for a cursor" });
    let of_length = |length: usize| {
        let path = format!("{LEADS}?company=");
        format!("{path}{}", "x".repeat(length - path.len()))
    };
    for (length, fits) in [(15_872, true), (15_873, false), (16_384, false), (30_000, false)] {
        let answer = api.get(&of_length(length)).send().await.unwrap();
        match fits {
            true => assert_eq!(body(answer, 200).await, json!([]), "{length}"),
            false => assert_eq!(body(answer, 414).await, too_long, "{length}"),
        }
    }
    // Without a key, the response is a 401.
    let anonymous = reqwest::Client::new().get(api.url(&of_length(20_000)));
    json(anonymous, 401).await;
    // The longest URL still has a next page.
    for n in 0..2 {
        let company = "x".repeat(200);
        api.create(LEADS, json!({ "name": "x", "email": format!("{n}@example.com"), "company": company })).await;
    }
    let ids: Vec<String> = (0..420).map(|_| Uuid::now_v7().to_string()).collect();
    let longest = format!("{LEADS}?limit=1&sort=email&campaign_id[ne]=x");
    assert_eq!(faults(&json(api.get(&longest), 400).await), [("campaign_id[ne]", "invalid")]);
    let longest = format!("{LEADS}?limit=1&sort=email&score=0,{}", numbers(3_000));
    assert!((15_000..15_872).contains(&longest.len()), "{}", longest.len());
    let answer = api.get(&longest).send().await.unwrap();
    let link = answer.headers()["link"].to_str().unwrap();
    let next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert!(next.starts_with(&longest), "the query is repeated as received");
    assert_eq!(api.read(&next).await.as_array().unwrap().len(), 1);
    assert_eq!(api.read(&format!("{LEADS}?assigned_to={}", ids.join(","))).await, json!([]));
}

fn numbers(count: usize) -> String {
    (1_000..1_000 + count).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
}

const MANY: i64 = 60_000;

/// Inserts numbered leads, each newer than the one before. All have the company `All` and match
/// `common`, the oldest 8,000 match `old`, and every 20,000th matches `rare`.
async fn fill(connection: &mut PgConnection, workspace: Uuid) {
    let scope = &workspace.simple().to_string()[28..];
    let statement = format!(
        "INSERT INTO leads (workspace_id, id, name, email, email_key, company, source, status, score, custom_fields, search_vector, created_at, updated_at)
         SELECT '{workspace}', gen_random_uuid(), 'x', n || '@example.com', n || '@example.com', 'All', 'other',
             (ARRAY['new', 'contacted', 'qualified', 'proposal', 'negotiation', 'converted', 'lost', 'won'])[1 + n % 8], n % 100, '{{}}',
             ('{scope}common' || CASE WHEN n <= 8000 THEN ' {scope}old' ELSE '' END
                 || CASE WHEN n % 20000 = 0 THEN ' {scope}rare' ELSE '' END)::tsvector,
             now() + make_interval(secs => n), now()
         FROM generate_series(1, {MANY}) AS n"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.unwrap();
    sqlx::raw_sql("VACUUM (ANALYZE) leads").execute(&mut *connection).await.unwrap();
}

/// The number of rows of `leads` read so far, from its indexes and from the table.
async fn rows_read(connection: &mut PgConnection) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar(
        "SELECT (pg_stat_get_tuples_returned('leads'::regclass) + pg_stat_get_tuples_fetched('leads'::regclass)
             + (SELECT sum(pg_stat_get_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'leads'::regclass))::bigint",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap()
}

fn list(workspace: Uuid, query: &str) -> List {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let parameters: Vec<(String, String)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    List::parse(&Lead::LIST, workspace, &parameters).unwrap()
}

/// Reads a whole list page by page, as streaming does, and returns the number of records.
async fn walk(connection: &mut PgConnection, workspace: Uuid, query: &str) -> usize {
    let (mut list, mut found) = (list(workspace, query), 0);
    loop {
        let columns = Lead::columns();
        let page = bounded::fetch(connection, &list, workspace, columns, (750, 512 * 1024)).await.unwrap();
        found += page.rows.len();
        match page.next {
            Some(place) => list.after(place),
            None => return found,
        }
    }
}

#[tokio::test]
async fn a_whole_list_is_read_in_linear_time_with_any_filter() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let workspace = api.workspace_id;
    fill(&mut connection, workspace).await;
    // The number of matches, and how often each row may be read: once in an index, once in the
    // table, and a little more at the ends of pages.
    for (query, found, often) in [
        ("q=common", MANY, 3),
        ("q=common&status=new,won", MANY / 4, 2),
        ("q=common&sort=created_at", MANY, 3),
        ("q=common&sort=email", MANY, 3),
        ("company=All", MANY, 3),
        ("company=None", 0, 3),
        ("score[gte]=50", MANY / 2, 3),
        ("score=7", MANY / 100, 3),
        ("q=old", 8_000, 4),
        ("q=old&score=7", 80, 3),
        // Few records match, and an index finds them without the others.
        ("q=rare", 3, 1),
        ("q=rare+common", 3, 2),
        ("q=nobody", 0, 1),
        ("email=7@example.com", 1, 0),
    ] {
        let before = rows_read(&mut connection).await;
        assert_eq!(walk(&mut connection, workspace, query).await as i64, found, "{query}");
        let read = rows_read(&mut connection).await - before;
        assert!(read <= often * MANY + 5_000, "{query} read {read} rows");
    }
}

#[tokio::test]
async fn pages_are_full_wherever_matching_records_are() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let workspace = api.workspace_id;
    fill(&mut connection, workspace).await;
    let columns = Lead::columns();
    for (query, limit, all) in [
        ("q=common", 1_000, MANY as usize),
        ("q=old", 50, 8_000),
        ("q=old&status=new", 1_000, 1_000),
        ("q=rare", 2, 3),
        ("q=rare", 3, 3),
        ("company=All&score=7", 600, 600),
        ("company=All&score=7", 599, 600),
        ("company=None", 10, 0),
    ] {
        let list = list(workspace, query);
        let page = query::fetch::<Lead>(&mut connection, &list, workspace, columns, limit).await.unwrap();
        assert_eq!(page.records.len(), all.min(limit as usize), "{query} {limit}");
        assert_eq!(page.next.is_some(), all > limit as usize, "{query} {limit}");
    }
}

#[tokio::test]
async fn the_pages_of_a_search_add_up_to_the_whole_search() {
    let api = Api::start().await;
    fill(&mut api.connection().await, api.workspace_id).await;
    for query in
        ["q=rare", "q=old&score=7", "q=old&sort=email&score=7,8,9,10,11,12,13,14,15,16,17", "company=All&score=7"]
    {
        let whole = api.read(&format!("{LEADS}?{query}")).await;
        let mut paged: Vec<Value> = Vec::new();
        let mut next = Some(format!("{LEADS}?{query}&limit=97"));
        while let Some(path) = next {
            let answer = api.get(&path).send().await.unwrap();
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
            paged.extend(body(answer, 200).await.as_array().unwrap().clone());
        }
        assert_eq!(json!(paged), whole, "{query}");
        assert!(!paged.is_empty());
        let total = api.get(&format!("{LEADS}?{query}&limit=1&count=true")).send().await.unwrap();
        assert_eq!(total.headers()["x-total-count"], paged.len().to_string().as_str(), "{query}");
    }
}

#[tokio::test]
async fn thousands_of_filter_values_cost_no_more_than_one() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let workspace = api.workspace_id;
    fill(&mut connection, workspace).await;
    let none: Vec<String> = (0..3_000).map(|n| (1_000 + n).to_string()).collect();
    let time = async |connection: &mut PgConnection, query: &str, found: usize| {
        // Often enough for PostgreSQL to switch to a generic plan.
        let mut took = Vec::new();
        for _ in 0..7 {
            let begun = std::time::Instant::now();
            assert_eq!(walk(connection, workspace, query).await, found);
            took.push(begun.elapsed());
        }
        took.into_iter().min().unwrap()
    };
    let one = time(&mut connection, "score=1000", 0).await;
    let many = time(&mut connection, &format!("score={}", none.join(",")), 0).await;
    assert!(many < one * 4, "{many:?} for 3,000 values, {one:?} for one");
}

/// Few matches are looked up in the index of customers, many in the index of the order.
#[tokio::test]
async fn few_and_many_matches_of_an_indexed_filter_are_listed_in_order() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let (few, many) = (
        crate::feedback::customer(&api, "a@example.com").await,
        crate::feedback::customer(&api, "b@example.com").await,
    );
    for (customer, count) in [(&few, 4_000), (&many, 9_000)] {
        let statement = format!(
            "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
             SELECT '{}', gen_random_uuid(), '{customer}', gen_random_uuid(), 1, 'pending', now() + make_interval(secs => n), now() + make_interval(secs => n), now()
             FROM generate_series(1, {count}) AS n",
            api.workspace_id
        );
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("ANALYZE orders").execute(&mut connection).await.unwrap();
    for (customer, count) in [(&few, 4_000), (&many, 9_000)] {
        for sort in ["-created_at", "created_at", "-order_date"] {
            let orders = api.read(&format!("/dev/crm/orders?customer_id={customer}&sort={sort}")).await;
            let times: Vec<&str> = orders
                .as_array()
                .unwrap()
                .iter()
                .map(|order| order[sort.trim_start_matches('-')].as_str().unwrap())
                .collect();
            assert_eq!(times.len(), count);
            assert!(
                times.is_sorted_by(|one, next| if sort.starts_with('-') { one > next } else { one < next }),
                "{sort}"
            );
        }
    }
}
