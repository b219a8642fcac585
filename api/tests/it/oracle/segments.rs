//! Segments, from the definition.

use chrono::{Datelike, Duration, NaiveDate};
use uuid::Uuid;

use super::data::{Data, Order};

const TABLE: [&str; 5] = [
    "dormant dormant dormant previously_loyal previously_loyal",
    "almost_lost almost_lost at_risk at_risk at_risk",
    "needs_attention needs_attention active loyal loyal",
    "promising active loyal loyal champions",
    "new active loyal champions champions",
];

type Scores = [Option<i16>; 3];

/// The scores and the segment of every customer.
pub fn of_all(data: &Data, today: NaiveDate) -> Vec<(Uuid, Scores, &'static str)> {
    let since =
        NaiveDate::from_ymd_opt(today.year() - 2, today.month(), today.day()).unwrap_or(today - Duration::days(730));
    let counts = |order: &&Order| {
        let date = order.at.date_naive();
        !order.cancelled && date >= since && date <= today
    };
    let bought: Vec<(Uuid, Vec<&Order>)> = data
        .customers
        .iter()
        .map(|id| (*id, data.orders.iter().filter(|order| order.customer == *id).filter(counts).collect()))
        .collect();
    let last = |orders: &[&Order]| orders.iter().map(|order| order.at).max().unwrap();
    let number = |orders: &[&Order]| orders.len() as i64;
    let quantity = |orders: &[&Order]| orders.iter().map(|order| order.quantity).sum::<i64>();
    let buyers: Vec<&Vec<&Order>> =
        bought.iter().map(|(_, orders)| orders).filter(|orders| !orders.is_empty()).collect();
    let (mut lasts, mut numbers, mut quantities): (Vec<_>, Vec<i64>, Vec<i64>) = (vec![], vec![], vec![]);
    for orders in &buyers {
        lasts.push(last(orders));
        numbers.push(number(orders));
        quantities.push(quantity(orders));
    }
    let place = |orders: &[&Order]| {
        let (r, f, m) = if buyers.len() >= 500 {
            (rank(&lasts, &last(orders)), rank(&numbers, &number(orders)), rank(&quantities, &quantity(orders)))
        } else {
            let days = (today - last(orders).date_naive()).num_days();
            (
                [(30, 5), (60, 4), (90, 3), (180, 2)]
                    .into_iter()
                    .find(|(limit, _)| days <= *limit)
                    .map_or(1, |(_, r)| r),
                [(10, 5), (6, 4), (4, 3), (2, 2)]
                    .into_iter()
                    .find(|(limit, _)| number(orders) >= *limit)
                    .map_or(1, |(_, f)| f),
                [(50, 5), (20, 4), (10, 3), (4, 2)]
                    .into_iter()
                    .find(|(limit, _)| quantity(orders) >= *limit)
                    .map_or(1, |(_, m)| m),
            )
        };
        let value = (f + m + 1) / 2;
        (r, f, m, TABLE[r as usize - 1].split(' ').nth(value as usize - 1).unwrap())
    };
    bought
        .iter()
        .map(|(id, orders)| match orders.is_empty() {
            true => (*id, [None; 3], "prospects"),
            false => {
                let (r, f, m, segment) = place(orders);
                (*id, [Some(r), Some(f), Some(m)], segment)
            }
        })
        .collect()
}

/// ⌈5·cume_dist⌉
fn rank<T: Ord>(all: &[T], value: &T) -> i16 {
    let reached = all.iter().filter(|other| *other <= value).count();
    i16::try_from((5 * reached).div_ceil(all.len())).unwrap()
}
