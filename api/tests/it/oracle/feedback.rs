//! Feedback figures, from the definition.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};
use shared::db;
use shared::period::Period;
use shared::ratings::{self, Ratings, Requests};
use sqlx::PgConnection;

use super::data::{Data, Feedback};

/// Compares the figures of the last 400 days by month, and of the default period by week.
pub async fn compare(connection: &mut PgConnection, data: &Data) {
    let now = db::now();
    let from = (now - Duration::days(400)).to_rfc3339();
    for parameters in [vec![("from", from.as_str()), ("interval", "month")], vec![("interval", "week")]] {
        let parameters: Vec<(String, String)> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let period = Period::parse(&parameters, now).unwrap();
        let figures = ratings::figures(connection, data.workspace, now, &period).await.unwrap();
        let within = |at: DateTime<Utc>| period.from <= at && at < period.to;
        let sent: Vec<&Feedback> = data.feedback.iter().filter(|feedback| within(feedback.requested_at)).collect();
        let given: Vec<(DateTime<Utc>, i16, Option<String>)> = data
            .feedback
            .iter()
            .filter_map(|feedback| feedback.answer.clone())
            .filter(|(at, ..)| within(*at))
            .collect();
        check_requests(&figures.requests, &sent, data.seed);
        check_ratings(&figures.ratings, &given.iter().map(|(_, rating, _)| *rating).collect::<Vec<_>>(), data.seed);

        let mut categories: Vec<Option<String>> = given.iter().map(|(.., category)| category.clone()).collect();
        categories.sort();
        categories.dedup();
        assert_eq!(figures.by_category.len(), categories.len());
        for of_category in &figures.by_category {
            let ratings = given.iter().filter(|(.., category)| *category == of_category.category);
            check_ratings(&of_category.ratings, &ratings.map(|(_, rating, _)| *rating).collect::<Vec<_>>(), data.seed);
        }

        // Each day of the period belongs to the interval that has its first day.
        let first = |at: DateTime<Utc>| -> NaiveDate {
            let date = at.date_naive();
            match period.interval.as_str() {
                "month" => date.with_day(1).unwrap(),
                _ => date - Duration::days(i64::from(date.weekday().num_days_from_monday())),
            }
        };
        for interval in &figures.by_interval {
            let start = interval.start.date_naive();
            let sent: Vec<&Feedback> =
                sent.iter().filter(|feedback| first(feedback.requested_at) == start).copied().collect();
            check_requests(&interval.requests, &sent, data.seed);
            let ratings = given.iter().filter(|(at, ..)| first(*at) == start);
            check_ratings(&interval.ratings, &ratings.map(|(_, rating, _)| *rating).collect::<Vec<_>>(), data.seed);
        }
        let sum: i64 = figures.by_interval.iter().map(|interval| interval.ratings.n).sum();
        assert_eq!(sum, figures.ratings.n, "every answer is in one interval");
    }
}

fn check_requests(requests: &Requests, sent: &[&Feedback], seed: u64) {
    let mut hours: Vec<f64> = sent
        .iter()
        .filter_map(|feedback| {
            Some((feedback.answer.as_ref()?.0 - feedback.requested_at).num_seconds() as f64 / 3600.0)
        })
        .collect();
    hours.sort_by(f64::total_cmp);
    let (n, middle) = (hours.len(), hours.len() / 2);
    let median = match n {
        0 => None,
        n if n % 2 == 1 => Some(hours[middle]),
        _ => Some((hours[middle - 1] + hours[middle]) / 2.0),
    };
    assert_eq!((requests.sent as usize, requests.answered as usize), (sent.len(), n), "seed {seed}");
    assert_same(requests.response_rate.rate, (!sent.is_empty()).then(|| n as f64 / sent.len() as f64), seed);
    assert_same(requests.median_hours_to_answer, median, seed);
}

fn check_ratings(figures: &Ratings, ratings: &[i16], seed: u64) {
    let count = |wanted: &[i16]| ratings.iter().filter(|rating| wanted.contains(rating)).count() as f64;
    let n = ratings.len() as f64;
    let known = |value: f64| (n > 0.0).then_some(value);
    assert_eq!(figures.n as f64, n);
    for (rating, counted) in &figures.distribution {
        assert_eq!(*counted as f64, count(&[*rating]), "seed {seed}");
    }
    let sum: i16 = ratings.iter().sum();
    assert_same(figures.mean_rating, known(f64::from(sum) / n), seed);
    assert_same(figures.csat.rate, known(count(&[4, 5]) / n), seed);
    assert_same(figures.nps.value, known(count(&[5]) / n - count(&[1, 2, 3]) / n), seed);
    // The ends of the interval are the shares from which what was seen is 1.96 standard errors away.
    for end in [figures.csat.low, figures.csat.high] {
        assert_eq!(end.is_some(), n > 0.0);
        if let Some(end) = end.filter(|end| *end > 0.0 && *end < 1.0) {
            let away = (count(&[4, 5]) / n - end).abs();
            assert!((away - 1.959_963_985 * (end * (1.0 - end) / n).sqrt()).abs() < 1e-7, "seed {seed}: {figures:?}");
        }
    }
}

fn assert_same(figure: Option<f64>, expected: Option<f64>, seed: u64) {
    let same = match (figure, expected) {
        (Some(figure), Some(expected)) => (figure - expected).abs() < 1e-9,
        (None, None) => true,
        _ => false,
    };
    assert!(same, "seed {seed}: {figure:?} is not {expected:?}");
}
