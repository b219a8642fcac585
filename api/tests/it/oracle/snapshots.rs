//! Random snapshots, and the reports about them.

use std::collections::{BTreeMap, HashMap};

use chrono::{Days, NaiveDate};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::data::Data;
use super::health;
use super::segments::SEGMENTS;
use crate::report_helpers::some;

/// The health of a customer on a day, and their segment.
#[derive(Debug, Clone)]
struct Past {
    customer: Uuid,
    date: NaiveDate,
    score: Option<i16>,
    segment: &'static str,
}

/// The snapshots of a workspace.
#[derive(Debug)]
pub struct Snapshots {
    /// The day of the last one.
    since: Option<NaiveDate>,
    /// The segments of customers in the last one.
    previous: HashMap<Uuid, &'static str>,
    segments: Vec<(NaiveDate, &'static str, i64)>,
    health: Vec<Past>,
}

impl Snapshots {
    pub fn random(data: &Data, today: NaiveDate) -> Self {
        let random = &mut StdRng::seed_from_u64(data.seed);
        let mut dates: Vec<NaiveDate> =
            (0..random.random_range(0..12)).map(|_| today - Days::new(random.random_range(0..200))).collect();
        dates.sort_unstable();
        dates.dedup();
        let mut snapshots =
            Self { since: dates.last().copied(), previous: HashMap::new(), segments: vec![], health: vec![] };
        for date in dates {
            for segment in some(random, &SEGMENTS, 0.6) {
                snapshots.segments.push((date, segment, random.random_range(1..50)));
            }
            for customer in data.customers.iter().take(2) {
                let score = random.random_bool(0.8).then(|| random.random_range(0..=100));
                let segment = SEGMENTS.choose(random).unwrap();
                snapshots.health.push(Past { customer: *customer, date, score, segment });
            }
        }
        for customer in &data.customers {
            if random.random_bool(0.8) {
                snapshots.previous.insert(*customer, SEGMENTS.choose(random).unwrap());
            }
        }
        snapshots
    }

    /// Stores the snapshots; the scores must exist already.
    pub async fn store(&self, connection: &mut PgConnection, workspace: Uuid) {
        sqlx::query("UPDATE score_states SET snapshot_date = $2 WHERE workspace_id = $1")
            .bind(workspace)
            .bind(self.since)
            .execute(&mut *connection)
            .await
            .unwrap();
        sqlx::query(
            "UPDATE customer_scores SET previous_segment = segments.segment
             FROM unnest($2::uuid[], $3::text[]) AS segments (id, segment)
             WHERE workspace_id = $1 AND customer_id = segments.id",
        )
        .bind(workspace)
        .bind(self.previous.keys().copied().collect::<Vec<_>>())
        .bind(self.previous.values().copied().collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO segment_snapshots (workspace_id, date, segment, customers)
             SELECT $1, * FROM unnest($2::date[], $3::text[], $4::bigint[])",
        )
        .bind(workspace)
        .bind(self.segments.iter().map(|(date, ..)| *date).collect::<Vec<_>>())
        .bind(self.segments.iter().map(|(_, segment, _)| *segment).collect::<Vec<_>>())
        .bind(self.segments.iter().map(|(.., customers)| *customers).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO health_snapshots (workspace_id, customer_id, date, health, band, segment)
             SELECT $1, * FROM unnest($2::uuid[], $3::date[], $4::smallint[], $5::text[], $6::text[])",
        )
        .bind(workspace)
        .bind(self.health.iter().map(|past| past.customer).collect::<Vec<_>>())
        .bind(self.health.iter().map(|past| past.date).collect::<Vec<_>>())
        .bind(self.health.iter().map(|past| past.score).collect::<Vec<_>>())
        .bind(self.health.iter().map(|past| past.score.map(health::band)).collect::<Vec<_>>())
        .bind(self.health.iter().map(|past| past.segment).collect::<Vec<_>>())
        .execute(connection)
        .await
        .unwrap();
    }

    /// The moves between segments: the most frequent first, then by name, new customers last.
    pub fn changes<T>(&self, placed: &[(Uuid, T, &'static str)]) -> Value {
        let mut moves: BTreeMap<(Option<&str>, &str), usize> = BTreeMap::new();
        for (id, _, segment) in placed.iter().filter(|_| self.since.is_some()) {
            let previous = self.previous.get(id).copied();
            if previous != Some(*segment) {
                *moves.entry((previous, segment)).or_default() += 1;
            }
        }
        let mut moves: Vec<_> = moves.into_iter().collect();
        moves.sort_by_key(|((from, to), count)| (usize::MAX - count, from.is_none(), *from, *to));
        let row = |((from, to), count)| json!({ "from": from, "to": to, "count": count });
        json!({ "since": self.since, "moves": moves.into_iter().map(row).collect::<Vec<_>>() })
    }

    /// The snapshots of the last 90 days.
    pub fn history_of_segments(&self, today: NaiveDate) -> Vec<Value> {
        let mut days: Vec<NaiveDate> = self.segments.iter().map(|(date, ..)| *date).collect();
        days.dedup();
        let row = |day: NaiveDate| {
            let mut groups =
                SEGMENTS.map(|segment| (segment.to_owned(), json!(0))).into_iter().collect::<serde_json::Map<_, _>>();
            for (_, segment, customers) in self.segments.iter().filter(|(date, ..)| *date == day) {
                groups[*segment] = json!(customers);
            }
            json!({ "date": day, "groups": groups })
        };
        days.into_iter().filter(|day| *day > today - Days::new(90) && *day <= today).map(row).collect()
    }

    /// The trend and the history of a customer whose score is this.
    pub fn of_customer(&self, id: Uuid, score: Option<i16>, today: NaiveDate) -> Value {
        let mine: Vec<&Past> = self.health.iter().filter(|past| past.customer == id).collect();
        let oldest = mine.iter().find(|past| past.date >= today - Days::new(30) && past.date < today);
        let previous = oldest.and_then(|past| past.score);
        let row = |past: &&Past| json!({ "date": past.date, "score": past.score, "band": past.score.map(health::band), "segment": past.segment });
        json!({
            "trend": {
                "since": oldest.map(|past| past.date), "from": previous, "to": score,
                "change": score.zip(previous).map(|(to, from)| to - from),
            },
            "history": mine.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
