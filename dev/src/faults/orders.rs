//! Files of orders, and the expected results of importing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::harness::Harness;

/// The number of customers who order.
const CUSTOMERS: usize = 500;
/// Text that makes a file of 10,000 rows several chunks long.
const NOTE: &str = "Leave the parcel with the neighbours on the second floor if nobody is at home, and ring twice, because \
     the bell of the front door is quiet. The invoice goes to the company, as before.";

/// A file of orders and the expected result of importing it.
pub struct File {
    pub csv: String,
    rows: i64,
    /// The number of rows whose customer does not exist.
    unknown: i64,
    /// The external ids of the orders.
    ids: BTreeSet<String>,
}

/// Imports the customers who order; returns the id of the job.
pub async fn customers(harness: &Harness) -> Result<Uuid> {
    let rows: String = (0..CUSTOMERS).map(|n| format!("Buyer {n},buyer-{n}@example.com\n")).collect();
    harness.upload_to("customers/import", format!("name,email\n{rows}").into_bytes()).await
}

/// A file whose orders have one to three lines, anywhere in the file. The same number and seed give the same file.
pub fn file(number: usize, rows: usize, seed: u64) -> File {
    let random = &mut StdRng::seed_from_u64(seed.wrapping_mul(7_000_003).wrapping_add(number as u64));
    let mut csv = "Order Number,Customer Email,Product,Quantity,Notes\n".to_owned();
    let mut lines: Vec<(String, bool)> = Vec::with_capacity(rows);
    for _ in 0..rows {
        let order = format!("{number}-{}", random.random_range(0..rows));
        let is_known = random.random_range(0..50) > 0;
        let customer = if is_known { random.random_range(0..CUSTOMERS) } else { CUSTOMERS };
        let quantity = random.random_range(1..9);
        // Writing to a string cannot fail.
        let _ = writeln!(csv, "{order},buyer-{customer}@example.com,Lamp,{quantity},\"{NOTE}\"");
        lines.push((order, is_known));
    }
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    lines.iter().for_each(|(order, _)| *totals.entry(order).or_default() += 1);
    let (mut met, mut ids): (BTreeMap<&str, usize>, BTreeSet<String>) = Default::default();
    for (order, is_known) in &lines {
        let line = met.entry(order).or_default();
        *line += 1;
        let id = if totals[order.as_str()] > 1 { format!("{order}/{line}") } else { order.clone() };
        if *is_known {
            ids.insert(id);
        }
    }
    let unknown = lines.iter().filter(|(_, is_known)| !is_known).count() as i64;
    File { csv, rows: rows as i64, unknown, ids }
}

/// Returns a sentence for each deviation.
pub async fn verify(pool: &PgPool, imports: &[(Uuid, File)]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (job, file) in imports {
        let (status, result): (String, Option<Value>) = sqlx::query_as("SELECT status, result FROM jobs WHERE id = $1")
            .bind(job)
            .fetch_one(pool)
            .await
            .with_context(|| format!("job {job} does not exist"))?;
        let count = |name: &str| result.as_ref().and_then(|result| result[name].as_i64()).unwrap_or(-1);
        let expected = [("rows", file.rows), ("created", file.rows - file.unknown), ("failed", file.unknown)];
        for (name, expected) in expected.into_iter().filter(|(name, expected)| count(name) != *expected) {
            broken.push(format!("job {job} of orders ({status}): {name} is {} instead of {expected}", count(name)));
        }
        let stored: Vec<String> = sqlx::query_scalar("SELECT external_id FROM orders WHERE import_job_id = $1")
            .bind(job)
            .fetch_all(pool)
            .await?;
        let stored_once: BTreeSet<String> = stored.iter().cloned().collect();
        if stored_once != file.ids || stored.len() != file.ids.len() {
            broken.push(format!("job {job}: {} orders instead of {}, or others", stored.len(), file.ids.len()));
        }
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM import_lines").fetch_one(pool).await?;
    if left > 0 {
        broken.push(format!("{left} order numbers were not deleted"));
    }
    println!("{} files of orders", imports.len());
    Ok(broken)
}
