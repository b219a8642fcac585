//! Feedback figures, computed from their definition.

use serde_json::{Value, json};
use shared::insight::feedback::FeedbackReport;
use shared::insight::period::Period;
use shared::values::Time;
use sqlx::PgConnection;

use super::data::{Data, Feedback};
use super::segments;
use crate::report_calendar::assert_periods;
use crate::report_helpers::{
    assert_same, compared, date_of, dates, described, figures, filters, interval, mean, median, passes, rate, request,
};

/// An answer: its time, rating and category.
type Answer = (Time, i16, Option<String>);

/// Compares the figures of a request.
pub async fn compare(connection: &mut PgConnection, context: &str, data: &Data, pairs: &[(String, String)], now: Time) {
    let request = request::<FeedbackReport>(pairs, data.zone, now);
    assert_periods(context, &request, pairs, data.zone, now);
    let report = figures(connection, data.workspace, now, (FeedbackReport, &request)).await;
    let feedback = filtered(data, pairs, now);
    let expected = compared(&request, |period, _| figures_of(&feedback, period, now));
    assert_same(&format!("{context}: {pairs:?}"), &report, &expected);
}

/// The feedback that passes the filters.
fn filtered<'a>(data: &'a Data, pairs: &[(String, String)], now: Time) -> Vec<&'a Feedback> {
    let mut filters = filters(pairs);
    let categories: Option<Vec<String>> =
        filters.remove("category").map(|values| values.into_iter().map(str::to_lowercase).collect());
    let placed = segments::of_all(data, data.date(now));
    let passes = |feedback: &&Feedback| {
        let at = data.customers.iter().position(|id| *id == feedback.customer).unwrap();
        let category = feedback.answer.as_ref().and_then(|(.., category)| category.as_deref()).map(str::to_lowercase);
        passes(&filters, "type", Some(data.kinds[at].0))
            && passes(&filters, "segment", Some(placed[at].2))
            && categories.as_ref().is_none_or(|wanted| wanted.contains(&category.unwrap_or("null".to_owned())))
    };
    data.feedback.iter().filter(passes).collect()
}

fn figures_of(feedback: &[&Feedback], period: &Period, now: Time) -> Value {
    let is_in = |at: Time| period.from <= at && at < period.to;
    let sent: Vec<&Feedback> = feedback.iter().copied().filter(|feedback| is_in(feedback.requested_at)).collect();
    let given: Vec<&Answer> =
        feedback.iter().filter_map(|feedback| feedback.answer.as_ref()).filter(|(at, ..)| is_in(*at)).collect();
    let by_interval = dates(period).into_iter().map(|date| {
        let sent: Vec<&Feedback> =
            sent.iter().copied().filter(|feedback| date_of(feedback.requested_at, period) == date).collect();
        let given: Vec<&Answer> = given.iter().copied().filter(|(at, ..)| date_of(*at, period) == date).collect();
        with(interval(date, period, now), [requests(&sent), ratings_of(&given)])
    });
    let first = json!({
        "as_of": now, "period": described(period), "by_category": by_category(&given),
        "by_interval": by_interval.collect::<Vec<_>>(),
    });
    with(first, [requests(&sent), ratings_of(&given)])
}

fn with<const N: usize>(mut object: Value, others: [Value; N]) -> Value {
    for other in others {
        object.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    }
    object
}

/// Most ratings first, then by name in lower case; ratings without a category come before others. The name is
/// the most frequent spelling.
fn by_category(given: &[&Answer]) -> Vec<Value> {
    let folded = |answer: &&&Answer| answer.2.as_ref().map(|category| category.to_lowercase());
    let mut categories: Vec<Option<String>> = given.iter().map(|answer| folded(&answer)).collect();
    categories.sort_unstable();
    categories.dedup();
    let of = |category: &Option<String>| -> Vec<&Answer> {
        given.iter().filter(|answer| folded(answer) == *category).copied().collect()
    };
    categories.sort_by_key(|category| usize::MAX - of(category).len());
    let spelling = |category: &Option<String>| {
        let mine = of(category);
        let count = |spelling: &&String| mine.iter().filter(|(.., of)| of.as_ref() == Some(*spelling)).count();
        let mut spellings: Vec<&String> = mine.iter().filter_map(|(.., of)| of.as_ref()).collect();
        spellings.sort_by_key(|spelling| (usize::MAX - count(spelling), *spelling));
        spellings.first().map(|spelling| (*spelling).clone())
    };
    let row = |category: &Option<String>| with(json!({ "category": spelling(category) }), [ratings_of(&of(category))]);
    categories.iter().map(row).collect()
}

fn requests(sent: &[&Feedback]) -> Value {
    let hours: Vec<f64> = sent
        .iter()
        .filter_map(|feedback| {
            Some((feedback.answer.as_ref()?.0 - feedback.requested_at).num_seconds() as f64 / 3600.0)
        })
        .collect();
    json!({
        "sent": sent.len(), "answered": hours.len(), "response_rate": rate(hours.len(), sent.len()),
        "median_hours_to_answer": median(&hours),
    })
}

fn ratings_of(given: &[&Answer]) -> Value {
    let ratings: Vec<i16> = given.iter().map(|(_, rating, _)| *rating).collect();
    let count = |wanted: &[i16]| ratings.iter().filter(|rating| wanted.contains(rating)).count();
    let n = ratings.len();
    let mut csat = rate(count(&[4, 5]), n);
    csat["low"] = json!((n > 0).then(|| end(count(&[4, 5]), n, 0.0)));
    csat["high"] = json!((n > 0).then(|| end(count(&[4, 5]), n, 1.0)));
    let points = ratings.iter().map(|rating| match rating {
        5 => 1.0,
        4 => 0.0,
        _ => -1.0,
    });
    json!({
        "n": n, "mean_rating": mean(&ratings.iter().copied().map(f64::from).collect::<Vec<_>>()),
        "distribution": (1..=5).map(|rating| (rating.to_string(), json!(count(&[rating])))).collect::<serde_json::Map<_, _>>(),
        "csat": csat,
        "nps": {
            "promoters": count(&[5]), "passives": count(&[4]), "detractors": count(&[1, 2, 3]), "n": n,
            "value": mean(&points.collect::<Vec<_>>()),
        },
    })
}

/// The bound of the Wilson interval towards 0 or 1: the share from which the observed one is 1.96
/// standard errors away.
fn end(numerator: usize, n: usize, outer: f64) -> f64 {
    let (seen, n) = (numerator as f64 / n as f64, n as f64);
    let (mut inner, mut outer) = (seen, outer);
    for _ in 0..200 {
        let middle = f64::midpoint(inner, outer);
        let errors = (seen - middle).abs() - 1.959_963_984_540_054 * (middle * (1.0 - middle) / n).sqrt();
        if errors < 0.0 { inner = middle } else { outer = middle }
    }
    outer
}
