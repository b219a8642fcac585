//! Expressions compared with a slow evaluator that walks through time minute by minute.

use std::collections::BTreeSet;

use chrono::{DateTime, DurationRound, Utc};
use proptest::prelude::*;

use super::*;

fn cron(text: &str) -> Cron {
    Cron::from_text(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The slots after an instant.
fn slots(text: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let (cron, mut slots) = (cron(text), Vec::new());
    let mut after = time(after);
    while slots.len() < count
        && let Some(slot) = cron.next(after, zone)
    {
        slots.push(slot.at.with_timezone(&zone).format("%m-%d %H:%M%z").to_string());
        after = slot.at;
    }
    slots
}

/// Walks from `start` through so many minutes, and returns the slots. A local time that was skipped is due at
/// the first minute after it; one that comes twice counts the first time, if the hour is fixed.
fn walk(text: &str, zone: Tz, start: DateTime<Utc>, minutes: i64) -> BTreeSet<DateTime<Utc>> {
    let cron = cron(text);
    let names = |local: NaiveDateTime| {
        cron.has_date(local.date()) && cron.hours.has(local.hour()) && cron.minutes.has(local.minute())
    };
    let (mut slots, mut seen) = (BTreeSet::new(), BTreeSet::new());
    // Begins two days earlier, so that local times that come twice were seen.
    let begin = start.duration_trunc(TimeDelta::minutes(1)).unwrap() - TimeDelta::days(2);
    let mut before = local_time(begin - TimeDelta::minutes(1), zone);
    for minute in 0..=(2 * 24 * 60 + minutes) {
        let at = begin + TimeDelta::minutes(minute);
        let local = local_time(at, zone);
        let is_new = cron.hours.is_any || !seen.contains(&local);
        let mut due = names(local) && is_new;
        seen.insert(local);
        if !cron.hours.is_any {
            let mut skipped = before + TimeDelta::minutes(1);
            while skipped < local {
                let is_of_a_date = skipped.date() == before.date() || skipped.date() == local.date();
                due |= names(skipped) && is_of_a_date && seen.insert(skipped);
                skipped += TimeDelta::minutes(1);
            }
        }
        before = local;
        if due && at > start {
            slots.insert(at);
        }
    }
    slots
}

fn check(text: &str, zone: Tz, start: DateTime<Utc>, minutes: i64) {
    let (cron, end) = (cron(text), start + TimeDelta::minutes(minutes));
    let (mut found, mut after) = (BTreeSet::new(), start);
    while let Some(slot) = cron.next(after, zone).filter(|slot| slot.at <= end) {
        assert!(slot.at > after, "{text} {zone} {after}");
        found.insert(slot.at);
        after = slot.at;
    }
    let wanted = walk(text, zone, start, minutes);
    let differ: Vec<_> = found.symmetric_difference(&wanted).take(5).collect();
    assert!(differ.is_empty(), "{text} {zone} from {start}: {differ:?}");
}

const ZONES: [Tz; 9] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    // Half an hour.
    Tz::Australia__Lord_Howe,
    // Around midnight.
    Tz::America__Havana,
    Tz::Asia__Beirut,
    Tz::America__Sao_Paulo,
    Tz::Asia__Kathmandu,
    Tz::Pacific__Apia,
];

/// The days before clock changes of these zones, a day that was skipped, and an ordinary day.
const STARTS: [&str; 14] = [
    "2026-03-28T12:00:00Z",
    "2026-10-24T12:00:00Z",
    "2026-03-07T12:00:00Z",
    "2026-10-31T12:00:00Z",
    "2026-04-04T03:00:00Z",
    "2026-10-03T03:00:00Z",
    "2026-03-07T20:00:00Z",
    "2026-03-27T20:00:00Z",
    "2026-10-24T10:00:00Z",
    "2018-11-03T12:00:00Z",
    "2018-02-17T12:00:00Z",
    "2011-12-29T12:00:00Z",
    "2027-02-27T23:30:30Z",
    "2026-06-01T00:00:00Z",
];

fn field(range: RangeInclusive<u32>) -> impl Strategy<Value = String> {
    let (first, last) = (*range.start(), *range.end());
    let value = first..=last;
    let span = (value.clone(), value.clone()).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other)));
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (1..=20_u32).prop_map(|step| format!("*/{step}")),
        4 => proptest::collection::vec(value.clone().prop_map(|value| value.to_string()), 1..4)
            .prop_map(|values| values.join(",")),
        1 => span.clone(),
        1 => (span, 1..=7_u32).prop_map(|(span, step)| format!("{span}/{step}")),
        1 => (value, 1..=20_u32).prop_map(|(value, step)| format!("{value}/{step}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_expression_runs_as_a_walk_through_the_minutes_says(
        minute in field(0..=59),
        hour in prop_oneof![field(0..=23), field(0..=3)],
        day in field(1..=31),
        month in prop_oneof![9 => Just("*".to_owned()), 1 => field(1..=12)],
        weekday in prop_oneof![Just("*".to_owned()), field(0..=7)],
        zone in 0..ZONES.len(),
        start in 0..STARTS.len(),
    ) {
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        prop_assume!(Cron::from_text(&text).is_ok());
        check(&text, ZONES[zone], time(STARTS[start]), 3 * 24 * 60);
    }
}

#[test]
fn common_expressions_cross_every_clock_change() {
    for zone in ZONES {
        for start in STARTS {
            for text in ["30 2 * * *", "0,15,30,45 0-3 * * *", "*/30 */2 * * *"] {
                check(text, zone, time(start), 3 * 24 * 60);
            }
        }
    }
}

#[test]
fn a_fixed_hour_runs_once_on_each_date() {
    let berlin = Tz::Europe__Berlin;
    // 02:30 does not exist on the 29th; 03:00 is the first instant after it.
    assert_eq!(
        slots("30 2 * * *", berlin, "2026-03-27T12:00:00Z", 3),
        ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]
    );
    // Several times in the gap run once, together with the one at its end.
    assert_eq!(
        slots("0,20,40 2,3 * * *", berlin, "2026-03-29T00:00:00Z", 3),
        ["03-29 03:00+0200", "03-29 03:20+0200", "03-29 03:40+0200"]
    );
    // 02:30 comes twice on the 25th.
    assert_eq!(slots("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 2), ["10-25 02:30+0200", "10-26 02:30+0100"]);
    assert_eq!(slots("*/15 2 * * *", berlin, "2026-10-25T00:50:00Z", 1), ["10-26 02:00+0100"]);
}

#[test]
fn a_star_as_hour_follows_elapsed_time() {
    let berlin = Tz::Europe__Berlin;
    assert_eq!(slots("0 * * * *", berlin, "2026-03-29T00:00:00Z", 2), ["03-29 03:00+0200", "03-29 04:00+0200"]);
    assert_eq!(
        slots("0 * * * *", berlin, "2026-10-24T23:30:00Z", 3),
        ["10-25 02:00+0200", "10-25 02:00+0100", "10-25 03:00+0100"]
    );
    let hours = |start: &str| {
        let (start, cron) = (time(start), cron("0 * * * *"));
        let mut after = start - TimeDelta::seconds(1);
        let of_day = std::iter::from_fn(|| cron.next(after, berlin).inspect(|slot| after = slot.at));
        of_day.take_while(|slot| slot.date == local_time(start, berlin).date()).count()
    };
    assert_eq!(hours("2026-03-28T23:00:00Z"), 23);
    assert_eq!(hours("2026-10-24T22:00:00Z"), 25);
    assert_eq!(hours("2026-06-01T22:00:00Z"), 24);
}

#[test]
fn either_day_field_suffices_if_both_are_given() {
    let utc = Tz::UTC;
    assert_eq!(
        slots("0 12 13 * fri", utc, "2026-11-01T00:00:00Z", 4),
        ["11-06 12:00+0000", "11-13 12:00+0000", "11-20 12:00+0000", "11-27 12:00+0000"]
    );
    assert_eq!(slots("0 12 15 * fri", utc, "2026-11-14T00:00:00Z", 2), ["11-15 12:00+0000", "11-20 12:00+0000"]);
    assert_eq!(slots("0 12 15 * *", utc, "2026-11-14T00:00:00Z", 2), ["11-15 12:00+0000", "12-15 12:00+0000"]);
    assert_eq!(slots("0 12 * * 7", utc, "2026-11-14T00:00:00Z", 2), ["11-15 12:00+0000", "11-22 12:00+0000"]);
}

#[test]
fn a_slot_has_the_date_that_it_is_for() {
    for (text, after, zone, at, date) in [
        ("0 2 * * *", "2026-11-24T02:00:00Z", Tz::UTC, "2026-11-25T02:00:00Z", "2026-11-25"),
        ("0 0 * * *", "2026-11-24T12:00:00Z", Tz::Europe__Berlin, "2026-11-24T23:00:00Z", "2026-11-25"),
        // The hour after midnight is skipped.
        ("30 0 * * *", "2010-09-09T12:00:00Z", Tz::Africa__Cairo, "2010-09-09T22:00:00Z", "2010-09-10"),
        // The whole day of the 30th is skipped.
        ("0 2 * * *", "2011-12-29T12:30:00Z", Tz::Pacific__Apia, "2011-12-30T12:00:00Z", "2011-12-31"),
    ] {
        let slot = cron(text).next(time(after), zone).unwrap();
        assert_eq!((slot.at, slot.date), (time(at), date.parse().unwrap()), "{text} {zone}");
    }
}

#[test]
fn every_date_of_twenty_years_has_a_slot_in_every_zone() {
    for zone in [Tz::Africa__Cairo, Tz::America__Sao_Paulo, Tz::Australia__Lord_Howe] {
        for text in ["0 0 * * *", "30 0 * * *", "15 2 * * *", "59 23 * * *"] {
            let (cron, mut after) = (cron(text), time("2006-01-01T12:00:00Z"));
            let mut date = cron.next(after, zone).unwrap().date;
            for _ in 0..20 * 365 {
                let slot = cron.next(after, zone).unwrap();
                assert_eq!(slot.date, date, "{zone} {text}");
                date = date + Days::new(1);
                after = slot.at;
            }
        }
    }
}

#[test]
fn rare_dates_are_found() {
    assert_eq!(slots("0 0 29 2 *", Tz::UTC, "2096-03-01T00:00:00Z", 1), ["02-29 00:00+0000"]);
    assert_eq!(slots("0 * 29 2 */6", Tz::UTC, "2026-03-01T00:00:00Z", 1), ["02-29 00:00+0000"]);
}

#[test]
fn an_invalid_expression_is_refused_with_its_field() {
    for (text, message) in [
        ("* * * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "a minute from 0 to 59, not \"60\""),
        ("* 24 * * *", "an hour"),
        ("* * 0 * *", "a day of the month from 1 to 31"),
        ("* * * 13 *", "a month"),
        ("* * * foo *", "a month from 1 to 12, not \"foo\""),
        ("* * * * 8", "a day of the week from 0 to 7"),
        ("* * L * *", "a day of the month"),
        ("* * * * 5#2", "a day of the week"),
        ("*/0 * * * *", "a step of the minute"),
        ("*/x * * * *", "a step of the minute"),
        ("5-1 * * * *", "ends before it begins"),
        ("1,,2 * * * *", "a minute"),
        ("+1 * * * *", "a minute"),
        ("-1 * * * *", "a minute"),
        ("* * 30 2 *", "never runs"),
    ] {
        let fault = Cron::from_text(text).unwrap_err();
        assert!(fault.message.contains(message.strip_prefix("an ").unwrap_or(message)), "{text}: {}", fault.message);
    }
    for text in
        ["0 9 * * MON-FRI", "0 9 * jan,Jul sun", "  0  9\t* * fri-sun ", "0 9 31 * *", "5/15 * * * *", "0 0 * * 0-7"]
    {
        assert!(Cron::from_text(text.trim()).is_ok(), "{text}");
    }
    assert_eq!(cron("0 9 * * fri-sun").weekdays.bits, 0b110_0001);
    assert_eq!(cron("0  9 * *\t*").as_str(), "0 9 * * *");
}
