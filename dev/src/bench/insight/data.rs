//! Data of a large workspace, generated in SQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use shared::insight::health::SnapshotHealth;
use shared::insight::themes;
use shared::queue::{self, JobStatus};
use uuid::Uuid;

use super::Harness;

/// Writes two years of `leads` leads and as many customers, three times as many orders and interactions, and
/// half as much feedback, without constraints and without search vectors, which reports do not read.
pub async fn fill(harness: &Harness, workspace: Uuid, leads: i64) -> Result<()> {
    let mut connection = harness.pool.acquire().await?;
    // Disables foreign keys and triggers.
    let mut statements = vec!["SET session_replication_role = replica".to_owned()];
    // A UUIDv7 with the number.
    let id = |kind: u8, n: &str| {
        format!(
            "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7{kind}008000' || lpad(to_hex({n}), 12, '0'))::uuid"
        )
    };
    let at = |n: &str, count: i64| format!("now() - interval '730 days' * (1 - {n}::float8 / {count})");
    let word = |words: &str| {
        format!("(string_to_array('{words}', ' '))[1 + floor(random() * {})::int]", words.split(' ').count())
    };
    let rows =
        |count: i64| format!("(SELECT n, {} AS at FROM generate_series(1, {count}) AS n) AS row", at("n", count));
    // The times of the stages up to the present one, some days apart.
    let status = word("new new new contacted contacted qualified proposal negotiation converted lost won");
    let stage_at = |from: usize, days: i32| {
        format!(
            "CASE WHEN array_position(ARRAY['new','contacted','qualified','proposal','negotiation','converted','won'], status) > {from} THEN at + random() * interval '{days} days' END"
        )
    };
    statements.push(format!(
        "INSERT INTO leads (workspace_id, id, name, email, email_key, phone, company, source, status, score, assigned_to, notes,
             custom_fields, search_vector, created_at, updated_at, contacted_at, qualified_at, proposal_at, negotiation_at,
             converted_at, won_at, lost_at)
         SELECT '{workspace}', {}, 'Ada Lovelace ' || n, 'lead' || n || '@example.com', 'lead' || n || '@example.com', '+49 30 ' || n, 'Analytical Engines',
             {}, status, floor(random() * 100), md5((n % 50)::text)::uuid, 'Wants an offer for some seats, and a call.',
             '{{}}', '', at, at, {}, {}, {}, {}, CASE WHEN status = 'converted' THEN at + random() * interval '60 days' END,
             CASE WHEN status = 'won' THEN at + random() * interval '60 days' END,
             CASE WHEN status = 'lost' THEN at + random() * interval '60 days' END
         FROM (SELECT n, at, {status} AS status FROM {}) AS row",
        id(1, "n"),
        word("campaign website referral direct social email other"),
        stage_at(1, 10),
        stage_at(2, 20),
        stage_at(3, 30),
        stage_at(4, 40),
        rows(leads),
    ));
    statements.push(format!(
        "INSERT INTO customers (workspace_id, id, name, email, email_key, phone, company, type, status, billing_address, assigned_to,
             custom_fields, search_vector, created_at, updated_at)
         SELECT '{workspace}', {}, 'Ada Lovelace ' || n, 'customer' || n || '@example.com', 'customer' || n || '@example.com', '+49 30 ' || n,
             'Analytical Engines', {}, {}, '12 St James''s Square, London', md5((n % 50)::text)::uuid, '{{}}', '', at, at
         FROM {}",
        id(2, "n"),
        word("individual individual business"),
        word("active active active inactive blocked"),
        rows(leads),
    ));
    // Some customers have many records, and many have few.
    statements.push(
        "CREATE TEMPORARY TABLE whom AS SELECT row_number() OVER () AS number, id FROM customers;
         ALTER TABLE whom ADD PRIMARY KEY (number); ANALYZE whom"
            .to_owned(),
    );
    let whom = format!("JOIN whom ON whom.number = 1 + floor(power(row.chance, 2) * {leads})::bigint");
    let chosen = |count: i64| {
        format!(
            "(SELECT n, {} AS at, random() AS chance FROM generate_series(1, {count}) AS n) AS row {whom}",
            at("n", count)
        )
    };
    statements.push(format!(
        "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
         SELECT '{workspace}', {}, whom.id, whom.id, 1 + floor(random() * 20), {}, at, at, at FROM {}",
        id(3, "n"),
        word("pending processing shipped delivered delivered delivered delivered cancelled"),
        chosen(leads * 3),
    ));
    statements.push(format!(
        "INSERT INTO customer_interactions (workspace_id, id, customer_id, type, subject, date, next_action_date,
             followed_up_at, created_at, updated_at)
         SELECT '{workspace}', {}, whom.id, {}, 'About the next order', at, CASE WHEN n % 10 = 0 THEN at + interval '7 days' END,
             CASE WHEN n % 1000 <> 0 THEN at END, at, at FROM {}",
        id(4, "n"),
        word("email call meeting support purchase other"),
        chosen(leads * 3),
    ));
    statements.push(format!(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, comment, category, requested_at, answered_at,
             created_at, updated_at)
         SELECT '{workspace}', {}, whom.id, CASE WHEN n % 3 = 0 THEN 'expired' ELSE 'answered' END,
             CASE WHEN n % 3 <> 0 THEN 1 + floor(sqrt(random()) * 5) END,
             CASE WHEN n % 3 = 1 THEN {} END, CASE WHEN n % 3 <> 0 THEN {} END, at,
             CASE WHEN n % 3 <> 0 THEN at + random() * interval '5 days' END, at, at FROM {}",
        id(5, "n"),
        "(string_to_array('Great sound quality|Easy to set up|It stopped working after a week|The support was slow|Love the music|Delivery took too long', '|'))[1 + n % 6]",
        word("support product delivery price"),
        chosen(leads / 2),
    ));
    for statement in statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    sqlx::raw_sql("RESET session_replication_role").execute(&mut *connection).await?;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *connection).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut *connection).await?;
    Ok(())
}

/// Waits until the worker has scored all customers and found the themes of comments.
pub async fn digest(harness: &Harness, workspace: Uuid) -> Result<()> {
    let mut connection = harness.pool.acquire().await?;
    let jobs = [
        queue::start_run(&mut connection, workspace, None, &SnapshotHealth { dry_run: false }).await?,
        themes::start(&mut connection, workspace, None, false).await?,
    ];
    for job in jobs {
        loop {
            let job = queue::get(&mut connection, workspace, job.id).await?;
            if job.status.is_finished() {
                ensure!(job.status == JobStatus::Succeeded, "the job {} is {}", job.kind, job.status.as_str());
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *connection).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut *connection).await?;
    Ok(())
}
