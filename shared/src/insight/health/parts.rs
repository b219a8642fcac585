//! The parts of the health score: the points of each, computed from facts.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::insight::scoring::Facts;
use crate::string_enum;

/// The cadence, in days between orders, of customers with too few orders to have their own. The bounds apply
/// to a customer's own cadence: a customer who orders daily is not missed after three days, and one who
/// ordered twice in two years is missed after three years.
const CADENCE_DAYS: f64 = 90.0;
const CADENCE_BOUNDS: (f64, f64) = (7.0, 365.0);
/// The number of cadences without an order after which no points are left.
const LOST_AFTER: f64 = 3.0;
/// The days of the recent period, for the order trend and for support interactions.
const RECENT_DAYS: i32 = 90;
/// The days after which an interaction counts half.
const HALF_LIFE_DAYS: f64 = 30.0;
/// The number of recent support interactions, and of overdue actions, at which no points are left.
const MAX_SUPPORT: f64 = 5.0;
const MAX_OVERDUE: f64 = 2.0;

string_enum! {
    /// A part of the health score.
    PartName {
        /// The time since the last order, relative to the customer's own cadence.
        OrderRecency = "order_recency",
        /// The orders of the last 90 days, compared with the 90 days before.
        OrderTrend = "order_trend",
        /// Interactions, with a half-life of 30 days.
        Engagement = "engagement",
        /// The last three ratings.
        Feedback = "feedback",
        /// Support interactions of the last 90 days.
        SupportLoad = "support_load",
        /// Next actions whose date has passed without a later interaction.
        NextActions = "next_actions",
    }
}

/// A part of the health score.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HealthPart)]
pub struct Part {
    /// The name of the part.
    pub name: PartName,
    /// The points, rounded to hundredths; `null` without data: the part then does not count.
    pub points: Option<f64>,
    /// The maximum points.
    pub maximum: i64,
    /// The facts that the points follow from.
    #[schema(value_type = Object)]
    pub facts: Map<String, Value>,
}

impl Part {
    /// All parts, in their order.
    pub(super) fn all(facts: &Facts) -> Vec<Self> {
        vec![
            order_recency(facts),
            order_trend(facts),
            engagement(facts),
            feedback(facts),
            support_load(facts),
            next_actions(facts),
        ]
    }

    /// A part with a share of its maximum points.
    fn new(name: PartName, maximum: i64, share: Option<f64>, facts: Value) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "it is at most 100")]
        let points = share.map(|share| (share.clamp(0.0, 1.0) * maximum as f64 * 100.0).round() / 100.0);
        let facts = if let Value::Object(facts) = facts { facts } else { Map::new() };
        Self { name, points, maximum, facts }
    }

    /// The points in hundredths.
    pub(super) fn hundredths(&self) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "it is at most 10,000")]
        self.points.map(|points| (points * 100.0).round() as i64)
    }
}

/// All points up to one cadence after the last order, decreasing to none at three.
fn order_recency(facts: &Facts) -> Part {
    let known = cadence(&facts.order_ages);
    let cadence = known.unwrap_or(CADENCE_DAYS);
    let share = facts.last_order_age.map(|age| (LOST_AFTER - f64::from(age) / cadence) / (LOST_AFTER - 1.0));
    let facts = json!({
        "last_order_at": facts.last_order_at,
        "days_since_last_order": facts.last_order_age,
        "cadence_days": cadence,
        "cadence_is_own": known.is_some(),
    });
    Part::new(PartName::OrderRecency, 30, share, facts)
}

/// The median number of days between two days with orders.
fn cadence(order_ages: &[i32]) -> Option<f64> {
    let mut days = order_ages.to_vec();
    days.sort_unstable();
    days.dedup();
    let mut gaps: Vec<i32> = days.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let (below, above) = (gaps.get(gaps.len().checked_sub(1)? / 2)?, gaps.get(gaps.len() / 2)?);
    let (shortest, longest) = CADENCE_BOUNDS;
    Some((f64::from(below + above) / 2.0).clamp(shortest, longest))
}

/// All points for at least as many orders as in the 90 days before, in proportion for fewer.
fn order_trend(facts: &Facts) -> Part {
    let count = |from, to| facts.order_ages.iter().filter(|age| (from..to).contains(*age)).count();
    let (recent, before) = (count(0, RECENT_DAYS), count(RECENT_DAYS, 2 * RECENT_DAYS));
    let share = match (recent, before) {
        (0, 0) => None,
        (_, 0) => Some(1.0),
        _ => Some(number(recent) / number(before)),
    };
    let facts = json!({ "orders_last_90_days": recent, "orders_90_days_before": before });
    Part::new(PartName::OrderTrend, 15, share, facts)
}

/// Half of the points for one interaction today, half of the rest for a second, and so on.
fn engagement(facts: &Facts) -> Part {
    let weight = |age: &i32| 0.5_f64.powf(f64::from(*age) / HALF_LIFE_DAYS);
    // Starts at +0.0: an empty `sum()` is -0.0, which JSON would show.
    let weighed: f64 = facts.met_ages.iter().map(weight).fold(0.0, |sum, weight| sum + weight);
    let share = (!facts.met_ages.is_empty()).then(|| 1.0 - 0.5_f64.powf(weighed));
    let facts = json!({
        "interactions": facts.met_ages.len(),
        "days_since_last_interaction": facts.met_ages.iter().min(),
        "weighed_interactions": (weighed * 1e4).round() / 1e4,
    });
    Part::new(PartName::Engagement, 20, share, facts)
}

/// Points in proportion to the mean rating: none for 1, all for 5.
fn feedback(facts: &Facts) -> Part {
    let sum: f64 = facts.ratings.iter().map(|rating| f64::from(*rating)).sum();
    let mean = (!facts.ratings.is_empty()).then(|| sum / number(facts.ratings.len()));
    let facts = json!({ "ratings": facts.ratings, "mean_rating": mean });
    Part::new(PartName::Feedback, 20, mean.map(|mean| (mean - 1.0) / 4.0), facts)
}

/// A fifth less for each support interaction.
fn support_load(facts: &Facts) -> Part {
    let support = facts.support_ages.iter().filter(|age| **age < RECENT_DAYS).count();
    let known = !facts.met_ages.is_empty() || facts.last_order_age.is_some();
    let share = known.then(|| 1.0 - number(support) / MAX_SUPPORT);
    Part::new(PartName::SupportLoad, 10, share, json!({ "support_interactions_last_90_days": support }))
}

/// Half of the points for one overdue action, none for more.
fn next_actions(facts: &Facts) -> Part {
    let overdue = overdue(facts);
    let share = (facts.actions > 0).then(|| 1.0 - number(overdue) / MAX_OVERDUE);
    Part::new(PartName::NextActions, 5, share, json!({ "next_actions": facts.actions, "overdue": overdue }))
}

/// The number of next actions whose day has passed, with no other interaction on that day or later.
fn overdue(facts: &Facts) -> usize {
    let mut met = facts.met_ages.clone();
    met.sort_unstable();
    let planned = facts.action_ages.iter().zip(&facts.action_met_ages);
    planned
        .filter(|&(&due, &own)| {
            let since = met.partition_point(|age| *age <= due);
            since == usize::from((0..=due).contains(&own))
        })
        .count()
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 orders")]
fn number(count: usize) -> f64 {
    count as f64
}
