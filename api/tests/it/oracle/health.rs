//! Health, computed from the definition in `docs/insight/health.md`.

use chrono::{Datelike, Duration, NaiveDate};
use serde_json::{Value, json};
use uuid::Uuid;

use super::data::Data;

/// A customer's score and its components.
pub struct Known {
    pub score: i16,
    /// The points of each part, in order.
    pub points: Vec<Option<f64>>,
    pub coverage: f64,
}

/// `None` if nothing is known.
pub fn of(data: &Data, id: Uuid, today: NaiveDate) -> Option<Known> {
    let parts = parts(data, id, today);
    let points: Vec<Option<f64>> = parts.iter().map(Part::points).collect();
    let possible: f64 = parts.iter().filter(|part| part.share.is_some()).map(|part| part.maximum).sum();
    let reached: f64 = points.iter().flatten().sum();
    // A little is added, because a sum of hundredths that is exactly one half may be computed
    // slightly below it.
    let score = (100.0 * reached / possible + 1e-9).round() as i16;
    (possible > 0.0).then_some(Known { score, points, coverage: possible / 100.0 })
}

impl Known {
    /// The band; none of a score that too little data supports.
    pub fn band(&self) -> Option<&'static str> {
        (self.coverage >= 0.3).then(|| band(self.score))
    }
}

pub fn band(score: i16) -> &'static str {
    match score {
        ..40 => "at_risk",
        40..70 => "watch",
        70.. => "healthy",
    }
}

/// The expected response about a customer, without the snapshots.
pub fn expected(data: &Data, id: Uuid, today: NaiveDate) -> Value {
    let known = of(data, id, today);
    let parts = parts(data, id, today).into_iter().map(|part| {
        let points = part.points();
        json!({ "name": part.name, "points": points, "maximum": part.maximum, "facts": part.facts })
    });
    json!({
        "customer_id": id,
        "score": known.as_ref().map(|known| known.score),
        "band": known.as_ref().and_then(Known::band),
        "coverage": known.map_or(0.0, |known| known.coverage),
        "parts": parts.collect::<Vec<_>>(),
    })
}

struct Part {
    name: &'static str,
    maximum: f64,
    /// `None` if nothing is known.
    share: Option<f64>,
    facts: Value,
}

impl Part {
    fn points(&self) -> Option<f64> {
        self.share.map(|share| (share * self.maximum * 100.0).round() / 100.0)
    }
}

fn parts(data: &Data, id: Uuid, today: NaiveDate) -> [Part; 6] {
    let part = |name, maximum, (share, facts)| Part { name, maximum, share, facts };
    [
        part("order_recency", 30.0, recency(data, id, today)),
        part("order_trend", 15.0, trend(data, id, today)),
        part("engagement", 20.0, engagement(data, id, today)),
        part("feedback", 20.0, feedback(data, id, today)),
        part("support_load", 10.0, support(data, id, today)),
        part("next_actions", 5.0, actions(data, id, today)),
    ]
}

fn order_dates(data: &Data, id: Uuid, today: NaiveDate) -> Vec<NaiveDate> {
    let orders = data.orders.iter().filter(|order| order.customer == id && !order.cancelled);
    let mut dates: Vec<NaiveDate> = orders.map(|order| data.date(order.at)).filter(|date| *date <= today).collect();
    dates.sort_unstable();
    dates
}

fn two_years_before(today: NaiveDate) -> NaiveDate {
    NaiveDate::from_ymd_opt(today.year() - 2, today.month(), today.day()).unwrap_or(today - Duration::days(730))
}

fn recency(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let mut dates = order_dates(data, id, today);
    let since = dates.last().map(|last| (today - *last).num_days() as f64);
    let mine = data.orders.iter().filter(|order| order.customer == id && !order.cancelled);
    let last = mine.map(|order| order.at).filter(|at| data.date(*at) <= today).max();
    dates.retain(|date| *date >= two_years_before(today));
    dates.dedup();
    let mut gaps: Vec<f64> = dates.windows(2).map(|pair| (pair[1] - pair[0]).num_days() as f64).collect();
    gaps.sort_by(f64::total_cmp);
    let cadence = match gaps.len() {
        0 => 90.0,
        odd if odd % 2 == 1 => gaps[odd / 2].clamp(7.0, 365.0),
        even => ((gaps[even / 2 - 1] + gaps[even / 2]) / 2.0).clamp(7.0, 365.0),
    };
    let facts = json!({
        "last_order_at": last, "days_since_last_order": since, "cadence_days": cadence, "cadence_is_own": !gaps.is_empty(),
    });
    (since.map(|since| ((3.0 - since / cadence) / 2.0).clamp(0.0, 1.0)), facts)
}

fn trend(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let dates = order_dates(data, id, today);
    let within =
        |from, to| dates.iter().filter(|date| (from..to).contains(&(today - **date).num_days())).count() as f64;
    let (recent, before) = (within(0, 90), within(90, 180));
    let share = if before == 0.0 { 1.0 } else { (recent / before).min(1.0) };
    let facts = json!({ "orders_last_90_days": recent, "orders_90_days_before": before });
    ((recent + before > 0.0).then_some(share), facts)
}

fn met(data: &Data, id: Uuid, today: NaiveDate) -> Vec<(Uuid, NaiveDate, bool)> {
    let all = data.interactions.iter().filter(|interaction| interaction.customer == id);
    let all = all.map(|interaction| (interaction.id, data.date(interaction.at), interaction.support));
    all.filter(|(_, date, _)| *date <= today).collect()
}

fn engagement(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let met = met(data, id, today);
    let weight: f64 = met.iter().map(|(_, date, _)| 2.0_f64.powf(-((today - *date).num_days() as f64) / 30.0)).sum();
    let facts = json!({
        "interactions": met.len(),
        "days_since_last_interaction": met.iter().map(|(_, date, _)| (today - *date).num_days()).min(),
        "weighed_interactions": (weight * 10_000.0).round() / 10_000.0,
    });
    ((!met.is_empty()).then(|| 1.0 - 2.0_f64.powf(-weight)), facts)
}

fn feedback(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let mine = data.feedback.iter().filter(|feedback| feedback.customer == id);
    let answers =
        mine.filter_map(|feedback| feedback.answer.as_ref().map(|(at, rating, _)| (*at, feedback.id, *rating)));
    let mut answers: Vec<_> =
        answers.filter(|(at, ..)| data.date(*at) >= two_years_before(today) && data.date(*at) <= today).collect();
    answers.sort_unstable();
    let ratings: Vec<i16> = answers.iter().rev().take(3).map(|(.., rating)| *rating).collect();
    let sum: f64 = ratings.iter().copied().map(f64::from).sum();
    let mean = (!ratings.is_empty()).then(|| sum / ratings.len() as f64);
    (mean.map(|mean| (mean - 1.0) / 4.0), json!({ "ratings": ratings, "mean_rating": mean }))
}

fn support(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let met = met(data, id, today);
    let is_known = !met.is_empty() || !order_dates(data, id, today).is_empty();
    let recent = met.iter().filter(|(_, date, support)| *support && (today - *date).num_days() < 90).count();
    let share = is_known.then(|| (1.0 - recent as f64 / 5.0).max(0.0));
    (share, json!({ "support_interactions_last_90_days": recent }))
}

fn actions(data: &Data, id: Uuid, today: NaiveDate) -> (Option<f64>, Value) {
    let planned: Vec<(Uuid, NaiveDate)> = data
        .interactions
        .iter()
        .filter(|interaction| interaction.customer == id)
        .filter_map(|interaction| Some((interaction.id, data.date(interaction.next_action_at?))))
        .collect();
    let met = met(data, id, today);
    let overdue = planned
        .iter()
        .filter(|(own, due)| *due < today && !met.iter().any(|(id, date, _)| id != own && date >= due))
        .count();
    let share = (!planned.is_empty()).then(|| (1.0 - overdue as f64 / 2.0).max(0.0));
    (share, json!({ "next_actions": planned.len(), "overdue": overdue }))
}
