//! Health, from the definition in `docs/insight.md`.

use chrono::{Datelike, Duration, NaiveDate};
use uuid::Uuid;

use super::data::Data;

/// The score of a customer and the points of its parts; `None` if nothing is known.
pub fn of(data: &Data, id: Uuid, today: NaiveDate) -> Option<(i16, Vec<Option<f64>>)> {
    let parts = [
        (30.0, recency(data, id, today)),
        (15.0, trend(data, id, today)),
        (20.0, engagement(data, id, today)),
        (20.0, feedback(data, id, today)),
        (10.0, support(data, id, today)),
        (5.0, actions(data, id, today)),
    ];
    let points: Vec<Option<f64>> =
        parts.iter().map(|(maximum, share)| share.map(|share| (share * maximum * 100.0).round() / 100.0)).collect();
    let possible: f64 = parts.iter().filter(|(_, share)| share.is_some()).map(|(maximum, _)| maximum).sum();
    let reached: f64 = points.iter().flatten().sum();
    // A little is added, since a sum of hundredths that is a half exactly may come out below it.
    (possible > 0.0).then(|| ((100.0 * reached / possible + 1e-9).round() as i16, points))
}

fn order_dates(data: &Data, id: Uuid, today: NaiveDate) -> Vec<NaiveDate> {
    let orders = data.orders.iter().filter(|order| order.customer == id && !order.cancelled);
    let mut dates: Vec<NaiveDate> = orders.map(|order| order.at.date_naive()).filter(|date| *date <= today).collect();
    dates.sort_unstable();
    dates
}

fn two_years_before(today: NaiveDate) -> NaiveDate {
    NaiveDate::from_ymd_opt(today.year() - 2, today.month(), today.day()).unwrap_or(today - Duration::days(730))
}

fn recency(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let mut dates = order_dates(data, id, today);
    let since = (today - *dates.last()?).num_days() as f64;
    dates.retain(|date| *date >= two_years_before(today));
    dates.dedup();
    let mut gaps: Vec<f64> = dates.windows(2).map(|pair| (pair[1] - pair[0]).num_days() as f64).collect();
    gaps.sort_by(f64::total_cmp);
    let cadence = match gaps.len() {
        0 => 90.0,
        odd if odd % 2 == 1 => gaps[odd / 2].clamp(7.0, 365.0),
        even => ((gaps[even / 2 - 1] + gaps[even / 2]) / 2.0).clamp(7.0, 365.0),
    };
    Some(((3.0 - since / cadence) / 2.0).clamp(0.0, 1.0))
}

fn trend(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let dates = order_dates(data, id, today);
    let within =
        |from, to| dates.iter().filter(|date| (from..to).contains(&(today - **date).num_days())).count() as f64;
    let (recent, before) = (within(0, 90), within(90, 180));
    if recent + before == 0.0 { None } else { Some(if before == 0.0 { 1.0 } else { (recent / before).min(1.0) }) }
}

fn met(data: &Data, id: Uuid, today: NaiveDate) -> Vec<(Uuid, NaiveDate, bool)> {
    let all = data.interactions.iter().filter(|interaction| interaction.customer == id);
    let all = all.map(|interaction| (interaction.id, interaction.at.date_naive(), interaction.support));
    all.filter(|(_, date, _)| *date <= today).collect()
}

fn engagement(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let met = met(data, id, today);
    let weight: f64 = met.iter().map(|(_, date, _)| 2.0_f64.powf(-((today - *date).num_days() as f64) / 30.0)).sum();
    (!met.is_empty()).then(|| 1.0 - 2.0_f64.powf(-weight))
}

fn feedback(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let answers =
        data.feedback.iter().filter(|feedback| feedback.customer == id).filter_map(|feedback| feedback.answer.clone());
    let mut answers: Vec<_> =
        answers.filter(|(at, ..)| at.date_naive() >= two_years_before(today) && at.date_naive() <= today).collect();
    answers.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    answers.truncate(3);
    let sum: f64 = answers.iter().map(|(_, rating, _)| f64::from(*rating)).sum();
    (!answers.is_empty()).then(|| (sum / answers.len() as f64 - 1.0) / 4.0)
}

fn support(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let met = met(data, id, today);
    if met.is_empty() && order_dates(data, id, today).is_empty() {
        return None;
    }
    let recent = met.iter().filter(|(_, date, support)| *support && (today - *date).num_days() < 90).count();
    Some((1.0 - recent as f64 / 5.0).max(0.0))
}

fn actions(data: &Data, id: Uuid, today: NaiveDate) -> Option<f64> {
    let planned: Vec<(Uuid, NaiveDate)> = data
        .interactions
        .iter()
        .filter(|interaction| interaction.customer == id)
        .filter_map(|interaction| Some((interaction.id, interaction.next_action_at?.date_naive())))
        .collect();
    let met = met(data, id, today);
    let overdue = planned
        .iter()
        .filter(|(own, due)| *due < today && !met.iter().any(|(id, date, _)| id != own && date >= due))
        .count();
    (!planned.is_empty()).then(|| (1.0 - overdue as f64 / 2.0).max(0.0))
}
