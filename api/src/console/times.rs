//! Times in the zone of the workspace, with the UTC instant on hover.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use maud::{Markup, html};
use serde_json::Value;

/// A time to the minute, such as `3 Mar 2026, 14:05`.
pub(crate) fn time(zone: Tz, at: DateTime<Utc>) -> Markup {
    shown(at, &at.with_timezone(&zone).format("%-d %b %Y, %H:%M").to_string())
}

/// A time, or a dash.
pub(crate) fn time_or_dash(zone: Tz, at: Option<DateTime<Utc>>) -> Markup {
    at.map_or_else(|| html! { span.quiet { "–" } }, |at| time(zone, at))
}

/// The date of a time, such as `3 Mar 2026`.
pub(crate) fn date(zone: Tz, at: DateTime<Utc>) -> Markup {
    shown(at, &at.with_timezone(&zone).format("%-d %b %Y").to_string())
}

fn shown(at: DateTime<Utc>, text: &str) -> Markup {
    let instant = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    html! { time datetime=(instant) title=(at.format("%Y-%m-%d %H:%M:%S UTC")) { (text) } }
}

/// A time as `<input type="datetime-local">` has it.
pub(crate) fn input_value(zone: Tz, at: DateTime<Utc>) -> String {
    at.with_timezone(&zone).format("%Y-%m-%dT%H:%M").to_string()
}

/// A time that was entered in `<input type="datetime-local">`, for the API; other text as it is.
pub(crate) fn from_input(zone: Tz, text: &str) -> Value {
    let local =
        ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"].iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    // A time that a clock change skips is one as much later; one that comes twice is the first.
    let at = local.and_then(|local| {
        let hours = (0..=3).map(|hours| local + TimeDelta::hours(hours));
        hours.filter_map(|local| zone.from_local_datetime(&local).earliest()).next()
    });
    match (text, at) {
        ("", _) => Value::Null,
        (_, Some(at)) => at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Secs, true).into(),
        (text, None) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entered_time_is_that_of_the_zone() {
        let zone = chrono_tz::Europe::Berlin;
        for (text, instant) in [
            ("2026-07-01T10:00", "2026-07-01T08:00:00Z"),
            ("2026-01-01T10:00:30", "2026-01-01T09:00:30Z"),
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("soon", "soon"),
        ] {
            assert_eq!(from_input(zone, text), instant);
        }
        assert_eq!(from_input(zone, ""), Value::Null);
        let at = "2026-07-01T08:00:00Z".parse().unwrap();
        assert_eq!(input_value(zone, at), "2026-07-01T10:00");
    }
}
