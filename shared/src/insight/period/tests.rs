use chrono::{Datelike, Duration, Timelike};
use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-25T13:00:00Z";

fn time(text: &str) -> Time {
    Time::from_text(text).unwrap()
}

fn resolved(parameters: &[(&str, &str)], now: &str) -> Result<Compared> {
    let pairs: Vec<(String, String)> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut parameters = Parameters::new(&pairs);
    let taken = PeriodParameters::take(&mut parameters, true);
    parameters.finish()?;
    taken.resolve(Tz::UTC, time(now))
}

fn period(parameters: &[(&str, &str)]) -> Period {
    resolved(parameters, NOW).unwrap().0
}

/// The bounds in local time, without seconds.
fn bounds(period: &Period) -> (String, String) {
    let text = |time| local(time, period.tz).format("%Y-%m-%d %H:%M").to_string();
    (text(period.from), text(period.to))
}

fn compared(parameters: &[(&str, &str)], now: &str) -> (String, String) {
    bounds(&resolved(parameters, now).unwrap().1.unwrap())
}

fn strings((from, to): (&str, &str)) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

fn starts(parameters: &[(&str, &str)]) -> Vec<String> {
    let starts = period(parameters).bucket_starts();
    starts.into_iter().map(|start| start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).collect()
}

fn labels(parameters: &[(&str, &str)]) -> Vec<String> {
    period(parameters).buckets().into_iter().map(|bucket| bucket.label).collect()
}

fn faults(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    match resolved(parameters, NOW) {
        Err(Error::Invalid(errors)) => errors.into_iter().map(|error| (error.field, error.code.into_owned())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_parameters_it_is_the_last_90_days() {
    let period = period(&[]);
    assert_eq!((period.from, period.to), (time("2026-08-27T13:00:00Z"), time(NOW)));
    assert_eq!((period.interval, period.tz, period.buckets().len()), (Some(Interval::Day), Tz::UTC, 91));
    assert_eq!(
        serde_json::to_value(&period).unwrap(),
        serde_json::json!({ "from": "2026-08-27T13:00:00Z", "to": NOW, "interval": "day", "tz": "UTC" })
    );
}

#[test]
fn a_bare_date_is_midnight_in_the_time_zone() {
    let berlin = period(&[("from", "2026-03-01"), ("to", "2026-04-01"), ("tz", "Europe/Berlin")]);
    assert_eq!((berlin.from, berlin.to), (time("2026-02-28T23:00:00Z"), time("2026-03-31T22:00:00Z")));
    let kolkata = period(&[("from", "2026-03-01"), ("to", "2026-04-01T00:00:00Z"), ("tz", "Asia/Kolkata")]);
    assert_eq!((kolkata.from, kolkata.to), (time("2026-02-28T18:30:00Z"), time("2026-04-01T00:00:00Z")));
}

#[test]
fn named_periods_follow_the_local_calendar() {
    // It is already Monday, 1 March, in Auckland.
    let now = "2027-02-28T12:30:00Z";
    for (name, from, to) in [
        ("today", "2027-03-01 00:00", "2027-03-01 01:30"),
        ("last_7_days", "2027-02-23 00:00", "2027-03-01 01:30"),
        ("last_30_days", "2027-01-31 00:00", "2027-03-01 01:30"),
        ("this_month", "2027-03-01 00:00", "2027-03-01 01:30"),
        ("last_month", "2027-02-01 00:00", "2027-03-01 00:00"),
        ("this_quarter", "2027-01-01 00:00", "2027-03-01 01:30"),
        ("last_quarter", "2026-10-01 00:00", "2027-01-01 00:00"),
        ("this_year", "2027-01-01 00:00", "2027-03-01 01:30"),
        ("last_year", "2026-01-01 00:00", "2027-01-01 00:00"),
    ] {
        let (period, _) = resolved(&[("period", name), ("tz", "Pacific/Auckland")], now).unwrap();
        assert_eq!(bounds(&period), strings((from, to)), "{name}");
    }
}

#[test]
fn the_previous_of_a_named_period_is_the_calendar_period_before_it() {
    for (name, now, from, to) in [
        ("today", "2026-11-25T13:00:00Z", "2026-11-24 00:00", "2026-11-24 13:00"),
        ("last_7_days", "2026-11-25T13:00:00Z", "2026-11-12 00:00", "2026-11-19 00:00"),
        ("last_30_days", "2026-11-25T13:00:00Z", "2026-09-27 00:00", "2026-10-27 00:00"),
        ("this_month", "2026-11-25T13:00:00Z", "2026-10-01 00:00", "2026-10-25 13:00"),
        // February has no 30th.
        ("this_month", "2026-03-30T13:00:00Z", "2026-02-01 00:00", "2026-02-28 13:00"),
        ("last_month", "2026-03-30T13:00:00Z", "2026-01-01 00:00", "2026-02-01 00:00"),
        ("this_quarter", "2026-11-25T13:00:00Z", "2026-07-01 00:00", "2026-08-25 13:00"),
        ("last_quarter", "2026-11-25T13:00:00Z", "2026-04-01 00:00", "2026-07-01 00:00"),
        ("this_year", "2028-02-29T13:00:00Z", "2027-01-01 00:00", "2027-02-28 13:00"),
        ("last_year", "2026-11-25T13:00:00Z", "2024-01-01 00:00", "2025-01-01 00:00"),
    ] {
        let parameters = [("period", name), ("compare", "previous")];
        assert_eq!(compared(&parameters, now), strings((from, to)), "{name} at {now}");
    }
    // On the day after the change to summer time, the previous day ends at the same local time.
    let berlin = [("period", "today"), ("compare", "previous"), ("tz", "Europe/Berlin")];
    assert_eq!(compared(&berlin, "2026-03-30T10:00:00Z"), strings(("2026-03-29 00:00", "2026-03-29 12:00")));
    // Samoa had no 30 December in 2011.
    let apia = [("period", "today"), ("compare", "previous"), ("tz", "Pacific/Apia")];
    assert_eq!(compared(&apia, "2011-12-30T20:00:00Z"), strings(("2011-12-29 00:00", "2011-12-29 10:00")));
}

#[test]
fn the_previous_of_given_bounds_has_as_many_local_days() {
    let berlin =
        |from, to| compared(&[("from", from), ("to", to), ("tz", "Europe/Berlin"), ("compare", "previous")], NOW);
    // March has 31 days, one of 23 hours; the 31 days before it begin at midnight, too.
    assert_eq!(berlin("2026-03-01", "2026-04-01"), strings(("2026-01-29 00:00", "2026-03-01 00:00")));
    assert_eq!(berlin("2026-10-25", "2026-10-26"), strings(("2026-10-24 00:00", "2026-10-25 00:00")));
    // The same local time of two days.
    assert_eq!(
        berlin("2026-03-28T09:00:00Z", "2026-03-30T08:00:00Z"),
        strings(("2026-03-26 10:00", "2026-03-28 10:00"))
    );
    // Otherwise the same length.
    assert_eq!(
        berlin("2026-03-29T00:00:00Z", "2026-03-29T05:30:00Z"),
        strings(("2026-03-28 19:30", "2026-03-29 01:00"))
    );
    let (before, after) =
        resolved(&[("from", "0001-01-02"), ("to", "0003-01-01"), ("compare", "previous")], NOW).unwrap();
    assert_eq!((after.unwrap().from, before.from), (time("0001-01-01"), time("0001-01-02")));
}

#[test]
fn a_year_ago_has_the_same_local_dates() {
    let ago = |from, to| compared(&[("from", from), ("to", to), ("tz", "Europe/Berlin"), ("compare", "year_ago")], NOW);
    assert_eq!(ago("2026-03-01", "2026-04-01"), strings(("2025-03-01 00:00", "2025-04-01 00:00")));
    assert_eq!(ago("2028-02-29", "2028-03-01"), strings(("2027-02-28 00:00", "2027-03-01 00:00")));
    // Clocks changed on other days.
    assert_eq!(ago("2026-03-29T08:30:00Z", "2026-03-30T08:30:00Z"), strings(("2025-03-29 10:30", "2025-03-30 10:30")));
    let this_month = [("period", "this_month"), ("compare", "year_ago")];
    assert_eq!(compared(&this_month, "2028-02-29T13:00:00Z"), strings(("2027-02-01 00:00", "2027-02-28 13:00")));
}

#[test]
fn all_faults_are_reported_at_once() {
    let wrong = [
        ("from", "soon"),
        ("tz", "Mars"),
        ("intervall", "day"),
        ("interval", "hour"),
        ("interval", "day"),
        ("compare", "never"),
        ("period", "tomorrow"),
    ];
    let reported = faults(&wrong);
    let reported: Vec<_> = reported.iter().map(|(field, code)| (field.as_str(), code.as_str())).collect();
    assert_eq!(
        reported,
        [
            ("from", "invalid"),
            ("tz", "invalid"),
            ("intervall", "unknown"),
            ("interval", "invalid"),
            ("interval", "duplicate"),
            ("compare", "invalid"),
            ("period", "invalid"),
        ]
    );
    assert_eq!(faults(&[("from", "2026-11-26")])[0].0, "from");
    assert_eq!(faults(&[("from", "2020-01-01")])[0].0, "interval");
    assert_eq!(faults(&[("period", "today"), ("from", "2026-01-01")])[0].0, "period");
    assert_eq!(labels(&[("from", "2020-01-01"), ("interval", "week")]).len(), 361);
    // An empty period is valid and has no intervals.
    assert_eq!(labels(&[("from", "2026-01-01"), ("to", "2026-01-01")]).len(), 0);
}

#[test]
fn days_have_23_or_25_hours_at_clock_changes() {
    let berlin = ("tz", "Europe/Berlin");
    assert_eq!(
        starts(&[berlin, ("from", "2026-03-28T12:00:00Z"), ("to", "2026-03-30T12:00:00Z")]),
        ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]
    );
    let day = &period(&[berlin, ("from", "2026-10-25"), ("to", "2026-10-26")]).buckets()[0];
    assert_eq!((day.end - day.start, day.label.as_str(), day.partial), (Duration::hours(25), "2026-10-25", false));
    // Lord Howe Island changes its clocks by half an hour.
    let day = &period(&[("tz", "Australia/Lord_Howe"), ("from", "2026-10-04"), ("to", "2026-10-05")]).buckets()[0];
    assert_eq!((day.end - day.start, day.partial), (Duration::minutes(23 * 60 + 30), false));
}

#[test]
fn a_day_without_midnight_starts_at_its_first_instant() {
    // Lebanon changes to summer time at midnight.
    let beirut = [("tz", "Asia/Beirut"), ("from", "2025-03-29T12:00:00Z"), ("to", "2025-03-30T12:00:00Z")];
    assert_eq!(starts(&beirut), ["2025-03-28T22:00:00Z", "2025-03-29T22:00:00Z"]);
    // São Paulo did, too, until 2018. From 2019 on, the first Sunday of November is a day like others.
    for (sunday, monday, hours) in [("2018-11-04", "2018-11-05", 23), ("2019-11-03", "2019-11-04", 24)] {
        let day = &period(&[("tz", "America/Sao_Paulo"), ("from", sunday), ("to", monday)]).buckets()[0];
        assert_eq!((day.start, day.end - day.start), (time(&format!("{sunday}T03:00:00Z")), Duration::hours(hours)));
        assert_eq!((day.label.as_str(), day.partial), (sunday, false));
    }
}

#[test]
fn a_day_that_a_zone_skipped_is_no_interval() {
    // Samoa went from 29 to 31 December 2011.
    let apia = [("tz", "Pacific/Apia"), ("from", "2011-12-29"), ("to", "2012-01-01")];
    assert_eq!(starts(&apia), ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"]);
    assert_eq!(labels(&apia), ["2011-12-29", "2011-12-31"]);
    let december = period(&[apia[0], ("from", "2011-12-01"), ("to", "2012-01-01"), ("interval", "month")]);
    assert_eq!(december.to - december.from, Duration::days(30));
    assert_eq!((december.buckets().len(), december.buckets()[0].partial), (1, false));
}

#[test]
fn weeks_start_on_monday_and_belong_to_the_year_of_their_thursday() {
    let weeks = |from, to| labels(&[("interval", "week"), ("from", from), ("to", to)]);
    assert_eq!(weeks("2026-12-31", "2027-01-05"), ["2026-W53", "2027-W01"]);
    assert_eq!(weeks("2024-12-29", "2025-01-01"), ["2024-W52", "2025-W01"]);
    assert_eq!(weeks("2022-01-01", "2022-01-04"), ["2021-W52", "2022-W01"]);
    assert_eq!(
        starts(&[("interval", "week"), ("from", "2026-11-22"), ("to", "2026-11-24")]),
        ["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"]
    );
}

#[test]
fn intervals_have_names() {
    let from_to = [("from", "2027-12-31"), ("to", "2028-03-01")];
    let named = |interval| labels(&[from_to[0], from_to[1], ("interval", interval)]);
    assert_eq!(named("year"), ["2027", "2028"]);
    assert_eq!(named("quarter"), ["2027-Q4", "2028-Q1"]);
    assert_eq!(named("month"), ["2027-12", "2028-01", "2028-02"]);
    assert_eq!(named("day").last().unwrap(), "2028-02-29");
}

#[test]
fn intervals_that_the_period_or_the_present_cuts_are_partial() {
    let partial = |parameters: &[(&str, &str)]| -> Vec<bool> {
        period(parameters).buckets().into_iter().map(|bucket| bucket.partial).collect()
    };
    let month = ("interval", "month");
    assert_eq!(partial(&[month, ("from", "2026-01-01"), ("to", "2026-03-01")]), [false, false]);
    assert_eq!(partial(&[month, ("from", "2026-01-02"), ("to", "2026-04-30")]), [true, false, false, true]);
    // It is November.
    assert_eq!(partial(&[month, ("from", "2026-10-01"), ("to", "2027-01-01")]), [false, true, false]);
    assert_eq!(partial(&[month, ("period", "this_quarter")]), [false, true]);
}

/// Zones with whole, half and quarter hours, with and without summer time, and with changed rules.
fn zones() -> impl Strategy<Value = Tz> {
    let names = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "Pacific/Chatham",
        "Africa/Casablanca",
        "America/Havana",
    ];
    proptest::sample::select(names.map(|name| name.parse::<Tz>().unwrap()).to_vec())
}

/// A time from 2008 to 2037.
fn times() -> impl Strategy<Value = Time> {
    (1_200_000_000_i64..2_140_000_000).prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap())
}

fn asked(from: Time, to: Time, tz: Tz, interval: Interval, compare: Option<Compare>) -> PeriodParameters {
    let (from, to) = (Some(Bound::Instant(from)), Some(Bound::Instant(to)));
    PeriodParameters { from, to, named: None, interval: Some(interval), tz: Some(tz), compare }
}

proptest! {
    /// Intervals follow each other without gaps, and each time is in the interval that its local date names.
    #[test]
    fn intervals_divide_the_period_by_local_dates(
        tz in zones(), from in times(), minutes in 1_i64..500_000, at in 0.0..1.0,
        interval in proptest::sample::select(Interval::ALL.to_vec()),
    ) {
        let to = from + Duration::minutes(minutes);
        let (period, _) = asked(from, to, tz, interval, None).resolve(Tz::UTC, from).unwrap();
        let buckets = period.buckets();
        prop_assert!(buckets[0].start <= from && from < buckets[0].end);
        prop_assert!(buckets.last().unwrap().start < to && to <= buckets.last().unwrap().end);
        for pair in buckets.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
            prop_assert!(pair[0].label < pair[1].label);
            prop_assert!(!pair[0].partial || pair[0].start <= from);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a number of minutes")]
        let time = from + Duration::minutes((at * minutes as f64) as i64);
        let bucket = &buckets[period.bucket_starts().partition_point(|start| *start <= time) - 1];
        let expected = interval.label(interval.first_date(local(time, tz).date()));
        prop_assert_eq!(&bucket.label, &expected);
    }

    /// A day starts at its first instant: the one before belongs to an earlier date.
    #[test]
    fn a_date_starts_at_its_first_instant(tz in zones(), time in times()) {
        let date = local(time, tz).date();
        let start = start_of(date, tz);
        prop_assert!(local(start, tz).date() == date && start <= time);
        prop_assert!(local(start - Duration::seconds(1), tz).date() < date);
    }

    #[test]
    fn the_period_before_is_adjacent_and_has_as_many_local_days(
        tz in zones(), from in times(), days in 1_i64..400,
    ) {
        let first = local(from, tz).date();
        let bounds = (start_of(first, tz), start_of(first + Duration::days(days), tz));
        let (period, before) =
            asked(bounds.0, bounds.1, tz, Interval::Year, Some(Compare::Previous)).resolve(Tz::UTC, from).unwrap();
        let before = before.unwrap();
        prop_assert_eq!(before.to, period.from);
        let start = local(before.from, tz).date();
        // A skipped date begins where the next one does.
        let is_skipped = local(start_of(first - Duration::days(days), tz), tz).date() != first - Duration::days(days);
        prop_assert!((first - start).num_days() == days || is_skipped);
    }

    #[test]
    fn a_year_ago_has_the_same_date_and_time(tz in zones(), from in times(), minutes in 1_i64..500_000) {
        let to = from + Duration::minutes(minutes);
        let (_, ago) = asked(from, to, tz, Interval::Year, Some(Compare::YearAgo)).resolve(Tz::UTC, from).unwrap();
        let ago = ago.unwrap();
        for (now, then) in [(from, ago.from), (to, ago.to)] {
            let (now, then) = (local(now, tz), local(then, tz));
            prop_assert_eq!(then.year(), now.year() - 1);
            prop_assert_eq!(then.month(), now.month());
            prop_assert_eq!(then.day(), if (now.month(), now.day()) == (2, 29) { 28 } else { now.day() });
            let minutes = i64::from(then.num_seconds_from_midnight()) - i64::from(now.num_seconds_from_midnight());
            // Where clocks changed, the local time may not exist.
            prop_assert!(minutes.abs() <= 3_600);
        }
    }

    #[test]
    fn named_periods_meet_those_before_them(
        tz in zones(), now in times(), named in proptest::sample::select(NamedPeriod::ALL.to_vec()),
    ) {
        let ((from, to), (before_from, before_to)) = (named.bounds(now, tz), named.previous(now, tz));
        prop_assert!(from <= to && to <= now);
        prop_assert!(before_from < before_to && before_to <= from);
        prop_assert_eq!(start_of(local(before_from, tz).date(), tz), before_from);
        if to < now || matches!(named, NamedPeriod::Last7Days | NamedPeriod::Last30Days) {
            prop_assert_eq!(before_to, from);
        }
    }
}
