//! `cargo dev bench themes`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use shared::insight::themes;
use tokio::time::sleep;
use uuid::Uuid;

use super::figures::{Bound, Figures};
use super::harness::{Api, Harness};
use super::load::{find_wrk, wrk};

/// The most seconds for 100,000 comments from scratch.
const FROM_SCRATCH_S: f64 = 30.0;
/// The most memory of the worker, in MiB.
const MEMORY: f64 = 500.0;
/// The most milliseconds of a response (p99); only p95 is required.
const ANSWER_MS: f64 = 300.0;
/// The number of answers that one statement writes.
const CHUNK: usize = 10_000;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of comments.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    comments: usize,
    /// The number of days over which the comments are spread.
    #[arg(long, value_name = "N", default_value_t = 365)]
    days: i32,
}

/// Finds the themes of many comments, adds one comment, and requests the report.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    find_wrk().await?;
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { comments, days } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "comments": comments, "days": days });
    let mut figures = Figures::new("themes", settings);
    let api = harness.api().await?;
    fill(harness, &api, arguments).await?;

    let worker = harness.worker()?;
    let job = themes::start(&mut *harness.pool.acquire().await?, api.workspace, None, false).await?;
    let (took, result) = ended(harness, job.id).await?;
    figures.sample(json!({ "from_scratch_s": took, "result": result }));
    let bound = if comments <= 100_000 { Bound::AtMost(FROM_SCRATCH_S) } else { Bound::None };
    figures.alone("themes of all comments, from scratch", took, "s", bound);
    figures.alone("peak memory of crm-worker during this", worker.peak_memory().await?, "MiB", Bound::AtMost(MEMORY));

    let job = themes::start(&mut *harness.pool.acquire().await?, api.workspace, None, false).await?;
    figures.alone("found again, with nothing new", ended(harness, job.id).await?.0, "s", Bound::None);
    answer(harness, &api, &[(5, "The battery is great, and so is the sound quality".to_owned(), 0)]).await?;
    let job = themes::answered(&mut *harness.pool.acquire().await?, api.workspace, None).await?;
    let (took, result) = ended(harness, job.id).await?;
    ensure!(result["found"] == false, "one more comment made the worker find all themes again");
    figures.alone("one more comment", took * 1000.0, "ms", Bound::None);
    worker.stop().await?;

    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&harness.pool).await?;
    let load = wrk(&format!("{}/feedback/themes", api.url), &api.key, 4, Duration::from_secs(10)).await?;
    figures.sample(load.to_json());
    figures.alone("p50 of GET feedback/themes, 4 callers", load.p50_ms, "ms", Bound::None);
    figures.alone("p99 of GET feedback/themes, 4 callers", load.p99_ms, "ms", Bound::AtMost(ANSWER_MS));
    api.program.stop().await?;
    Ok(figures.table())
}

/// Waits until a job has finished; returns its duration in seconds and its result.
async fn ended(harness: &Harness, job: Uuid) -> Result<(f64, serde_json::Value)> {
    loop {
        let row: Option<(f64, String, serde_json::Value)> = sqlx::query_as(
            "SELECT extract(epoch FROM finished_at - started_at)::float8, status, coalesce(result::jsonb, '{}') FROM jobs
             WHERE id = $1 AND finished_at IS NOT NULL",
        )
        .bind(job)
        .fetch_optional(&harness.pool)
        .await?;
        if let Some((took, status, result)) = row {
            ensure!(status == "succeeded", "the job ended {status}");
            return Ok((took, result));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn fill(harness: &Harness, api: &Api, arguments: &Arguments) -> Result<()> {
    let mut random = StdRng::seed_from_u64(1);
    let mut left = arguments.comments;
    while left > 0 {
        let count = left.min(CHUNK);
        let answers: Vec<(i16, String, i32)> = (0..count)
            .map(|_| {
                let (rating, comment) = comment(&mut random);
                (rating, comment, random.random_range(0..arguments.days * 86_400))
            })
            .collect();
        answer(harness, api, &answers).await?;
        left -= count;
    }
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&harness.pool).await?;
    Ok(())
}

/// Writes answers of one customer: the rating, the comment, and the age in seconds.
async fn answer(harness: &Harness, api: &Api, answers: &[(i16, String, i32)]) -> Result<()> {
    let customer = Uuid::nil();
    sqlx::query(
        "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
         VALUES ($1, $2, 'Ada', 'ada@example.com', 'ada@example.com', 'individual', 'active', '{}', '', now(), now()) ON CONFLICT DO NOTHING",
    )
    .bind(api.workspace)
    .bind(customer)
    .execute(&harness.pool)
    .await?;
    sqlx::query(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, comment, category, requested_at, answered_at,
             created_at, updated_at)
         SELECT $1, id, $2, 'answered', rating, comment, 'Product', at, at, at, at
         FROM unnest($3::uuid[], $4::smallint[], $5::text[], $6::integer[]) AS new (id, rating, comment, ago),
             LATERAL (SELECT now() - make_interval(secs => ago) AS at) AS came",
    )
    .bind(api.workspace)
    .bind(customer)
    .bind(answers.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(answers.iter().map(|(rating, ..)| *rating).collect::<Vec<_>>())
    .bind(answers.iter().map(|(_, comment, _)| comment.clone()).collect::<Vec<_>>())
    .bind(answers.iter().map(|(.., ago)| *ago).collect::<Vec<_>>())
    .execute(&harness.pool)
    .await?;
    Ok(())
}

const THINGS: [&str; 40] = [
    "sound quality",
    "battery",
    "battery life",
    "screen",
    "delivery",
    "customer service",
    "price",
    "setup",
    "set up",
    "app",
    "volume",
    "bluetooth connection",
    "music",
    "alarm clock",
    "light bulb",
    "remote control",
    "keyboard",
    "packaging",
    "manual",
    "design",
    "charger",
    "cable",
    "display",
    "camera",
    "speaker",
    "microphone",
    "update",
    "subscription",
    "refund",
    "warranty",
    "color",
    "size",
    "weight",
    "button",
    "voice recognition",
    "smart home",
    "weather forecast",
    "shopping list",
    "bedroom",
    "kitchen",
];
const PRAISE: [&str; 8] = [
    "The {} is great",
    "I love the {}",
    "Really happy with the {}",
    "The {} works well",
    "Easy to use, and the {} is better than expected",
    "My kids enjoy the {} every day",
    "We bought it for the {}, and it is wonderful",
    "Best {} I ever had",
];
const BLAME: [&str; 6] = [
    "The {} is terrible",
    "The {} stopped working after two weeks",
    "Not happy with the {}",
    "I had problems with the {} from the first day",
    "Nobody helped me with the {}",
    "The {} is not worth the money",
];

/// A comment of one to four sentences about random things, with a rare word.
fn comment(random: &mut StdRng) -> (i16, String) {
    let rating = [1, 2, 3, 4, 5, 5, 5, 4][random.random_range(0..8)];
    let mut comment = String::new();
    for _ in 0..random.random_range(1..=4) {
        let happy = random.random_range(1..=5) <= rating;
        let sentence = if happy { PRAISE[random.random_range(0..8)] } else { BLAME[random.random_range(0..6)] };
        // The first things are the most frequent.
        let thing = THINGS[random.random_range(0..40).min(random.random_range(0..40))];
        comment += &sentence.replace("{}", thing);
        comment += ". ";
    }
    comment += &format!("Ordered it as a present for {}{}.", name(random), name(random));
    (rating, comment)
}

fn name(random: &mut StdRng) -> String {
    const SYLLABLES: [&str; 12] = ["ba", "do", "ki", "lu", "ma", "ne", "po", "ri", "sa", "te", "vo", "zu"];
    (0..3).map(|_| SYLLABLES[random.random_range(0..12)]).collect()
}
