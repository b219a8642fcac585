//! Windows across midnight, weeks and clock changes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::values::hours::Day;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn window(hours: &str, days: &[&str], zone: Tz) -> Window {
    Window {
        hours: (!hours.is_empty()).then(|| Hours::from_text(hours).unwrap()),
        days: (!days.is_empty()).then(|| Days::from_json(json!(days)).unwrap()),
        zone,
    }
}

/// Checks when an email that becomes due at each of these times leaves.
fn check(window: &Window, times: &[(&str, &str)]) {
    for (at, leaves) in times {
        assert_eq!(window.next_opening(time(at)), time(leaves), "{at} {window:?}");
    }
}

const WEEK: [&str; 5] = ["monday", "tuesday", "wednesday", "thursday", "friday"];

#[test]
fn an_email_waits_for_the_hours_of_its_zone() {
    let berlin = window("09:00-17:00", &[], Tz::Europe__Berlin);
    check(
        &berlin,
        &[
            ("2026-11-25T02:00:00Z", "2026-11-25T08:00:00Z"),
            ("2026-11-25T08:00:00Z", "2026-11-25T08:00:00Z"),
            ("2026-11-25T15:59:59Z", "2026-11-25T15:59:59Z"),
            ("2026-11-25T16:00:00Z", "2026-11-26T08:00:00Z"),
        ],
    );
    check(&berlin.in_zone(Some("America/New_York")), &[("2026-11-25T02:00:00Z", "2026-11-25T14:00:00Z")]);
    // An unknown zone does not count.
    let berlin = window("09:00-17:00", &[], Tz::Europe__Berlin);
    check(&berlin.in_zone(Some("Mars/Olympus")), &[("2026-11-25T02:00:00Z", "2026-11-25T08:00:00Z")]);
}

#[test]
fn an_email_waits_for_a_day_of_the_week() {
    // 2026-11-27 is a Friday.
    check(&window("", &WEEK, Tz::UTC), &[("2026-11-28T03:00:00Z", "2026-11-30T00:00:00Z")]);
    check(&window("", &["sunday"], Tz::UTC), &[("2026-11-30T00:00:00Z", "2026-12-06T00:00:00Z")]);
    check(
        &window("09:00-17:00", &WEEK, Tz::UTC),
        &[("2026-11-27T16:59:00Z", "2026-11-27T16:59:00Z"), ("2026-11-27T17:00:00Z", "2026-11-30T09:00:00Z")],
    );
}

#[test]
fn hours_across_midnight_belong_to_the_day_on_which_they_begin() {
    check(
        &window("22:00-02:00", &["friday"], Tz::UTC),
        &[
            ("2026-11-27T01:00:00Z", "2026-11-27T22:00:00Z"),
            ("2026-11-28T01:59:00Z", "2026-11-28T01:59:00Z"),
            ("2026-11-28T02:00:00Z", "2026-12-04T22:00:00Z"),
        ],
    );
}

#[test]
fn clock_changes_move_the_opening() {
    // In Berlin, 02:00 to 03:00 is skipped on 2026-03-29, and is repeated on 2026-10-25.
    check(
        &window("02:30-05:00", &[], Tz::Europe__Berlin),
        &[
            ("2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
            // Between 02:30 and 03:00 the first time, and from 02:30 the second time.
            ("2026-10-25T00:45:00Z", "2026-10-25T00:45:00Z"),
            ("2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"),
        ],
    );
    // The hours do not exist on that day.
    check(
        &window("02:15-02:45", &[], Tz::Europe__Berlin),
        &[("2026-03-28T23:00:00Z", "2026-03-30T00:15:00Z"), ("2026-10-25T00:50:00Z", "2026-10-25T01:15:00Z")],
    );
    check(&window("02:15-02:45", &["sunday"], Tz::Europe__Berlin), &[("2026-03-28T23:00:00Z", "2026-04-05T00:15:00Z")]);
    // Midnight is skipped.
    check(&window("", &["sunday"], Tz::America__Sao_Paulo), &[("2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z")]);
    // A whole Friday is skipped.
    check(&window("09:00-10:00", &["friday"], Tz::Pacific__Apia), &[("2011-12-29T12:00:00Z", "2012-01-05T19:00:00Z")]);
}

proptest! {
    #[test]
    fn an_email_never_leaves_outside_of_its_window_nor_long_after_it_opens(
        from in 0..1440_u32, length in 60..1440_u32, day in 0..8_usize, at in 1_700_000_000..1_900_000_000_i64,
        zone in prop_oneof![Just(Tz::UTC), Just(Tz::Europe__Berlin), Just(Tz::Australia__Lord_Howe), Just(Tz::Asia__Kathmandu)],
    ) {
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
        let days: Vec<&str> = Day::WORDS.iter().copied().skip(day).take(1).collect();
        let window = window(&format!("{}-{}", clock(from), clock(from + length)), &days, zone);
        let at = DateTime::from_timestamp(at, 0).unwrap();
        let opening = window.next_opening(at);
        prop_assert!(opening >= at && window.is_open(opening), "{opening} {window:?}");
        prop_assert!(opening - at <= chrono::Duration::days(15), "{opening} {window:?}");
        // Nothing before it was open, except in an hour that a clock change repeats.
        let minutes = (opening - at).num_minutes();
        let open = (0..minutes).step_by(7).filter(|minute| window.is_open(at + chrono::Duration::minutes(*minute)));
        prop_assert!(open.count() <= 9, "{at} {window:?}");
    }
}
