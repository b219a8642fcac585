//! Times in the zone of the workspace, with the UTC instant on hover.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use maud::{Markup, html};

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
