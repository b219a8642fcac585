//! What lists of large tables read: their page if an index serves them, and each record once otherwise.

use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::LeadInteraction;
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::crm::suppressions::Suppression;
use shared::platform::signed_links::Signer;
use shared::query::{Columns, List, Spec, bounded};
use shared::records::{Deleted, Fields, Record};
use shared::{jobs, mail, queue};
use sqlx::{AssertSqlSafe, PgConnection};
use testing::citus;
use uuid::Uuid;

use crate::support::Api;

/// Names of which every fourth has an accent.
const NAME: &str = "(ARRAY['Ann', 'Bob', 'Éva', 'Zoe'])[1 + n % 4] || ' ' || n";
const PAGE: u32 = 50;
/// Themes of feedback.
const OFTEN: &str = "00000010-0000-7000-8000-000000000001";
const SELDOM: &str = "00000010-0000-7000-8000-000000000002";

fn rows() -> i64 {
    if testing::is_thorough() { 1_000_000 } else { 100_000 }
}

/// Fills every table that is listed.
async fn fill(connection: &mut PgConnection, workspace: Uuid) {
    let rows = rows();
    let id = |table: u8| format!("('0000000{table}-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid");
    let time = "timestamptz '2026-01-01' + n * interval '1 minute'";
    let scope = &workspace.simple().to_string()[28..];
    let few = rows / 5;
    let statements = [
        format!(
            "INSERT INTO leads (workspace_id, id, name, email, email_key, company, source, status, score, last_contact, custom_fields, search_vector, created_at, updated_at)
             SELECT '{workspace}', {}, {NAME}, n || '@example.com', n || '@example.com', 'Company ' || n % 1000, 'other',
                 (ARRAY['new', 'contacted', 'qualified', 'won'])[1 + n % 4], n % 100, CASE WHEN n % 2 = 0 THEN {time} END,
                 jsonb_build_object('tier', n % 1000, 'size', 'large'), ('{scope}common {scope}n' || n % 1000)::tsvector, {time}, {time}
             FROM generate_series(1, {rows}) AS n",
            id(1)
        ),
        format!(
            "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
             SELECT '{workspace}', {}, {NAME}, n || '@example.com', n || '@example.com', 'individual', (ARRAY['active', 'inactive'])[1 + n % 2], '{{}}',
                 '{scope}common'::tsvector, {time}, {time}
             FROM generate_series(1, {rows}) AS n",
            id(2)
        ),
        format!(
            "INSERT INTO customer_scores (workspace_id, customer_id, created_at, orders, quantity, segment, health, band, date)
             SELECT '{workspace}', {}, {time}, 1, 1, CASE WHEN n % 100 = 0 THEN 'at_risk' ELSE 'loyal' END, n % 101,
                 CASE WHEN n % 200 = 0 THEN 'at_risk' ELSE 'watch' END, current_date
             FROM generate_series(1, {rows}) AS n",
            id(2)
        ),
        format!(
            "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
             SELECT '{workspace}', {}, '{}', gen_random_uuid(), 1 + n % 7, (ARRAY['pending', 'shipped'])[1 + n % 2], {time}, {time}, {time}
             FROM generate_series(1, {few}) AS n",
            id(3),
            customer(1)
        ),
        format!(
            "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, requested_at, answered_at, created_at, updated_at)
             SELECT '{workspace}', {}, '{}', 'answered', 1 + n % 5, {time}, {time}, {time}, {time} FROM generate_series(1, {few}) AS n",
            id(4),
            customer(2)
        ),
        // Every second comment is about one theme, and every thousandth about another.
        format!(
            "INSERT INTO feedback_readings (workspace_id, feedback_id, answered_at, rating, commented, quotable, language, reader,
                 phrases, themes, moods)
             SELECT '{workspace}', {}, {time}, 1 + n % 5, true, true, 'en', 1, '[]',
                 CASE WHEN n % 1000 = 0 THEN ARRAY['{OFTEN}', '{SELDOM}'] WHEN n % 2 = 0 THEN ARRAY['{OFTEN}'] ELSE '{{}}' END::uuid[],
                 CASE WHEN n % 1000 = 0 THEN ARRAY[0, 0] WHEN n % 2 = 0 THEN ARRAY[0] ELSE '{{}}' END::smallint[]
             FROM generate_series(1, {few}) AS n",
            id(4)
        ),
        format!(
            "INSERT INTO lead_interactions (workspace_id, id, lead_id, type, created_at, updated_at)
             SELECT '{workspace}', {}, '{}', 'note', {time}, {time} FROM generate_series(1, {few}) AS n",
            id(5),
            lead(1)
        ),
        format!(
            "INSERT INTO jobs (id, workspace_id, queue, kind, payload, status, run_at, created_at, finished_at)
             SELECT {}, '{workspace}', 'imports', 'import_leads', '{{}}', 'succeeded', {time}, {time}, {time}
             FROM generate_series(1, {few}) AS n",
            id(6)
        ),
        format!(
            "INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain, subject, text_body, state, created_at)
             SELECT {}, '{workspace}', 'nurture', n::text, 'a@b.example', n || '@example.com', n || '@example.com', 'example.com', 's', 't', 'sent', {time}
             FROM generate_series(1, {few}) AS n",
            id(7)
        ),
        format!(
            "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
             SELECT '{workspace}', {}, n || '@example.com', n || '@example.com', 'manual', {time} FROM generate_series(1, {few}) AS n",
            id(8)
        ),
        format!(
            "INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, former, created_at)
             SELECT '{workspace}', {}, 'order', gen_random_uuid(), 'deleted', 'key', gen_random_uuid(),
                 jsonb_build_object('id', gen_random_uuid(), 'customer_id', '{}', 'product_id', gen_random_uuid(), 'quantity', 1, 'status', 'pending',
                     'custom_fields', '{{}}'::jsonb, 'order_date', now(), 'created_at', now(), 'updated_at', now()), now()
             FROM generate_series(1, {few}) AS n",
            id(9),
            customer(1)
        ),
        "VACUUM (ANALYZE)".to_owned(),
    ];
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.unwrap();
    }
}

fn theme(id: &str) -> String {
    format!("theme={id}")
}

fn lead(n: u8) -> String {
    format!("00000001-0000-7000-8000-{n:012}")
}

fn customer(n: u8) -> String {
    format!("00000002-0000-7000-8000-{n:012}")
}

/// The number of rows read so far, from all tables and their indexes.
async fn rows_read(connection: &mut PgConnection) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar(
        "SELECT sum(pg_stat_get_tuples_returned(oid) + CASE relkind WHEN 'r' THEN pg_stat_get_tuples_fetched(oid) ELSE 0 END)::bigint
         FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap()
}

struct Reader {
    connection: PgConnection,
    signer: Signer,
    workspace: Uuid,
}

impl Reader {
    async fn new() -> (Api, Self) {
        let api = Api::start().await;
        let mut connection = api.connection().await;
        fill(&mut connection, api.workspace_id).await;
        let signer = Signer::load(&mut connection).await.unwrap();
        let workspace = api.workspace_id;
        (api, Self { connection, signer, workspace })
    }

    /// Reads a page, and returns the number of its records and of the rows that were read for it.
    async fn page(&mut self, (spec, columns): (&'static Spec, Columns), query: &str) -> (usize, i64) {
        self.page_under(None, (spec, columns), query).await
    }

    async fn page_under(
        &mut self,
        parent: Option<(&'static str, Uuid)>,
        (spec, columns): (&'static Spec, Columns),
        query: &str,
    ) -> (usize, i64) {
        let query = format!("{query}&limit={PAGE}");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let parameters: Vec<(String, String)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        let list = List::resume(spec, self.workspace, parent, &parameters, &self.signer).unwrap();
        let before = rows_read(&mut self.connection).await;
        let page =
            bounded::fill(&mut self.connection, &list, self.workspace, columns, (PAGE, usize::MAX)).await.unwrap();
        (page.rows.len(), rows_read(&mut self.connection).await - before)
    }
}

fn of<R: Record>() -> (&'static Spec, Columns) {
    (const { &R::LIST }, R::columns())
}

fn of_jobs() -> (&'static Spec, Columns) {
    (&jobs::LIST, Columns::plain(queue::COLUMNS))
}

fn of_emails() -> (&'static Spec, Columns) {
    (&mail::LIST, Columns::plain(mail::COLUMNS))
}

fn of_suppressions() -> (&'static Spec, Columns) {
    (&Suppression::LIST, Suppression::columns())
}

#[tokio::test]
async fn lists_that_an_index_serves_read_their_page() {
    let (_api, mut reader) = Reader::new().await;
    // Each row is read in an index and in its table, and each branch reads one more than it needs. A
    // customer's scores are three more lookups.
    let page = i64::from(PAGE);
    for (list, query, most) in [
        (of::<Lead>(), "", 3 * page),
        (of::<Lead>(), "sort=created_at", 3 * page),
        (of::<Lead>(), "sort=email", 3 * page),
        (of::<Lead>(), "sort=-email", 3 * page),
        (of::<Lead>(), "status=won", 3 * page),
        (of::<Lead>(), "status[ne]=new", 3 * page),
        (of::<Lead>(), "status=won,new&created_at[gte]=2026-01-20&created_at[lt]=2026-02-01", 3 * page),
        (of::<Lead>(), "email=77@example.com", 20),
        (of::<Lead>(), "id=00000001-0000-7000-8000-000000000077", 20),
        (of::<Customer>(), "", 10 * page),
        (of::<Customer>(), "sort=email", 10 * page),
        (of::<Customer>(), "segment=at_risk", 12 * page),
        (of::<Customer>(), "health_band=at_risk", 12 * page),
        (of::<Order>(), "", 3 * page),
        (of::<Order>(), "sort=order_date", 3 * page),
        (of::<Order>(), "sort=-order_date&order_date[lt]=2026-01-08", 3 * page),
        (of::<Feedback>(), "", 3 * page),
        (of_jobs(), "", 3 * page),
        (of_jobs(), "sort=created_at", 3 * page),
        (of_emails(), "", 3 * page),
        (of_emails(), "state=sent", 3 * page),
        (of_emails(), "to_email=77@example.com", 20),
        (of_suppressions(), "", 3 * page),
        (of_suppressions(), "sort=email", 3 * page),
        (of_suppressions(), "email=77@example.com", 20),
        // Each entry is checked for whether its record exists, and for a later deletion.
        ((const { &Order::DELETED }.as_ref().unwrap(), Deleted::<Order>::COLUMNS), "", 6 * page),
    ] {
        // Often enough for PostgreSQL to switch to a generic plan.
        for round in 0..7 {
            let (records, read) = reader.page(list, query).await;
            let expected = if query.contains("@example") || query.starts_with("id=") { 1 } else { PAGE as usize };
            assert_eq!(records, expected, "{} {query:?}", list.0.table);
            assert!(read <= most, "{} {query:?} read {read} rows in round {round}", list.0.table);
        }
    }
    let parent = Some(("lead_id", lead(1).parse().unwrap()));
    for query in ["", "sort=created_at"] {
        let (records, read) = reader.page_under(parent, of::<LeadInteraction>(), query).await;
        assert_eq!(records, PAGE as usize);
        assert!(read <= 3 * page, "{query:?} read {read} rows");
    }
}

#[tokio::test]
async fn lists_without_an_index_read_each_record_once() {
    let (_api, mut reader) = Reader::new().await;
    let rows = rows();
    for (list, query, records, most) in [
        (of::<Lead>(), "sort=name", 50, rows),
        (of::<Lead>(), "sort=-score", 50, rows),
        (of::<Lead>(), "sort=status", 50, rows),
        (of::<Lead>(), "sort=last_contact", 50, rows),
        (of::<Lead>(), "sort=-updated_at", 50, rows),
        (of::<Lead>(), "sort=name&q=n7", 50, rows / 4),
        // One record in a thousand matches: each is looked up once, and the first ones at first.
        (of::<Lead>(), "custom.tier=7", 50, rows * 5 / 4),
        (of::<Lead>(), "company=company+7", 0, rows * 5 / 4),
        (of::<Lead>(), "company=company 7", 50, rows * 5 / 4),
        (of::<Lead>(), "name=eva 2", 1, rows * 5 / 4),
        (of::<Lead>(), "assigned_to[ne]=null", 0, rows * 5 / 4),
        (of::<Lead>(), "last_contact[gte]=2026-01-01&last_contact[lt]=2026-01-02", 50, rows * 5 / 4),
        // Nearly all records match, so that the first ones fill the page.
        (of::<Lead>(), "custom.size=large", 50, 3_000),
        (of::<Lead>(), "assigned_to=null", 50, 3_000),
        (of::<Lead>(), "score[ne]=7", 50, 3_000),
        (of::<Customer>(), "sort=-health_score", 50, rows * 5 / 2),
        (of::<Customer>(), "sort=segment", 50, rows * 5 / 2),
        (of::<Order>(), "sort=quantity", 50, rows),
        // A theme of few comments: the first feedback, and then each comment and its themes once.
        (of::<Feedback>(), &theme(SELDOM), usize::try_from(rows / 5_000).unwrap().min(50), rows),
        (of::<Feedback>(), &theme(OFTEN), 50, 3_000),
        (of_emails(), "sort=subject", 50, rows),
        (of_jobs(), "sort=-finished_at", 50, rows),
    ] {
        let (found, read) = reader.page(list, query).await;
        assert_eq!(found, records, "{} {query:?}", list.0.table);
        assert!(read <= most + 5_000, "{} {query:?} read {read} rows", list.0.table);
    }
}

/// An operator's index of a custom field is used.
#[tokio::test]
async fn a_custom_field_can_have_an_index() {
    if citus::is_tested() {
        return testing::skipped("a node counts the rows that it reads, and not the coordinator");
    }
    let (_api, mut reader) = Reader::new().await;
    let (_, without) = reader.page(of::<Lead>(), "custom.tier=7").await;
    assert!(without > rows() / 2, "{without}");
    for statement in ["CREATE INDEX leads_tier ON leads (workspace_id, (custom_fields ->> 'tier'))", "ANALYZE leads"] {
        sqlx::query(statement).execute(&mut reader.connection).await.unwrap();
    }
    for round in 0..7 {
        let (found, read) = reader.page(of::<Lead>(), "custom.tier=7").await;
        assert_eq!(found, 50);
        assert!(read <= 3_000 + rows() / 1_000 * 3, "{read} rows in round {round}");
    }
}
