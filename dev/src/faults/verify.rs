//! Compares the results of imports with the expected ones.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::files::{File, OnConflict};

/// Returns a sentence for each deviation.
pub async fn verify(pool: &PgPool, imports: &[(Uuid, File)]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let mut firsts = 0;
    for (job, file) in imports {
        firsts += verify_counts(pool, *job, file, &mut broken).await?;
    }
    let racing: BTreeSet<&String> = imports.iter().flat_map(|(_, file)| &file.racing).collect();
    if firsts != racing.len() as i64 {
        broken.push(format!("{} leads are in several files, but were created {firsts} times", racing.len()));
    }
    verify_leads(pool, imports, &racing, &mut broken).await?;
    verify_suppressions(pool, imports, &mut broken).await?;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM import_chunks").fetch_one(pool).await?;
    if left > 0 {
        broken.push(format!("{left} chunks of files were not deleted"));
    }
    Ok(broken)
}

/// Checks the result of one import; returns how many of the racing leads it has created.
async fn verify_counts(pool: &PgPool, job: Uuid, file: &File, broken: &mut Vec<String>) -> Result<i64> {
    let (status, result, failed, skipped): (String, Option<Value>, i64, i64) = sqlx::query_as(
        "SELECT status, result, (SELECT count(*) FROM job_errors WHERE job_errors.workspace_id = jobs.workspace_id AND job_id = jobs.id AND outcome = 'failed'),
             (SELECT count(*) FROM job_errors WHERE job_errors.workspace_id = jobs.workspace_id AND job_id = jobs.id AND outcome = 'skipped')
         FROM jobs WHERE id = $1",
    )
    .bind(job)
    .fetch_one(pool)
    .await
    .with_context(|| format!("job {job} does not exist"))?;
    if status != "succeeded" {
        broken.push(format!("job {job} ended {status}"));
        return Ok(0);
    }
    let count = |name: &str| result.as_ref().and_then(|result| result[name].as_i64()).unwrap_or(-1);
    let own = file.own.len() as i64;
    let firsts = count("created") - own;
    let conflicts = file.conflicts + file.racing.len() as i64 - firsts;
    let of = |on_conflict| if file.on_conflict == on_conflict { conflicts } else { 0 };
    let expected = [
        ("rows", file.rows),
        ("updated", of(OnConflict::Update)),
        ("skipped", of(OnConflict::Skip)),
        ("failed", file.bad + of(OnConflict::Fail)),
    ];
    for (name, expected) in expected {
        if count(name) != expected {
            broken.push(format!("job {job}: {name} is {} instead of {expected}", count(name)));
        }
    }
    if !(0..=file.racing.len() as i64).contains(&firsts) {
        broken.push(format!("job {job}: created is {}, but the file has {own} leads of its own", count("created")));
    }
    for (name, stored) in [("failed", failed), ("skipped", skipped)] {
        if stored != count(name) {
            broken.push(format!("job {job}: {stored} of {} {name} rows are stored", count(name)));
        }
    }
    Ok(firsts)
}

/// Each opt-out is one suppression, counted by one import.
async fn verify_suppressions(pool: &PgPool, imports: &[(Uuid, File)], broken: &mut Vec<String>) -> Result<()> {
    let expected: BTreeSet<&String> = imports.iter().flat_map(|(_, file)| &file.opted_out).collect();
    let stored: Vec<String> = sqlx::query_scalar("SELECT email_key FROM suppressions").fetch_all(pool).await?;
    let stored_once: BTreeSet<&String> = stored.iter().collect();
    let jobs: Vec<Uuid> = imports.iter().map(|(job, _)| *job).collect();
    let counted: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum((result ->> 'suppressed')::bigint), 0)::bigint FROM jobs WHERE id = ANY ($1)",
    )
    .bind(jobs)
    .fetch_one(pool)
    .await?;
    println!("{} suppressions of {}, counted {counted} times", stored.len(), expected.len());
    if stored_once != expected || stored.len() != expected.len() || counted != stored.len() as i64 {
        broken.push(format!("{} opt-outs are {} suppressions, counted {counted} times", expected.len(), stored.len()));
    }
    Ok(())
}

async fn verify_leads(
    pool: &PgPool,
    imports: &[(Uuid, File)],
    racing: &BTreeSet<&String>,
    broken: &mut Vec<String>,
) -> Result<()> {
    let leads: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT email_key, company FROM leads").fetch_all(pool).await?;
    let stored: BTreeMap<&String, &str> =
        leads.iter().map(|(email, company)| (email, company.as_deref().unwrap_or_default())).collect();
    let (mut missing, mut wrong, mut expected) = (0, 0, racing.len());
    missing += racing.iter().filter(|email| !stored.contains_key(*email)).count();
    for (number, (_, file)) in imports.iter().enumerate() {
        expected += file.own.len();
        for (email, company) in &file.own {
            match stored.get(email) {
                None => missing += 1,
                // The other files may update the leads of the first file.
                Some(stored) if number > 0 && stored != company => wrong += 1,
                Some(_) => {}
            }
        }
    }
    let duplicates = leads.len() - stored.len();
    let unexpected = (stored.len() + missing).saturating_sub(expected);
    println!(
        "{} leads: {missing} missing, {duplicates} duplicates, {unexpected} unexpected, {wrong} with wrong content",
        leads.len()
    );
    let counts = [(missing, "missing"), (duplicates, "duplicates"), (unexpected, "unexpected"), (wrong, "wrong")];
    for (count, what) in counts {
        if count > 0 {
            broken.push(format!("{count} leads are {what}"));
        }
    }
    Ok(())
}
