//! The period of a report, in the URL with the names that the API has.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::links::link;
use super::lists::{Filter, filter_input};
use super::session::Visit;
use super::times::time;

/// The periods to choose from. Without a name, the API reports the last 90 days.
const NAMED: [(&str, &str); 9] = [
    ("last_7_days", "7 days"),
    ("last_30_days", "30 days"),
    ("", "90 days"),
    ("this_month", "This month"),
    ("last_month", "Last month"),
    ("this_quarter", "This quarter"),
    ("last_quarter", "Last quarter"),
    ("this_year", "This year"),
    ("last_year", "Last year"),
];
/// What a period can be compared with; the first is the default.
const COMPARED: [(&str, &str); 3] =
    [("previous", "The period before"), ("year_ago", "A year ago"), ("none", "Nothing")];

/// A period that a page shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    period: String,
    from: String,
    to: String,
    tz: String,
    compare: String,
    /// The filters that are given.
    filters: Vec<(&'static str, String)>,
    today: NaiveDate,
    /// Whether the page shows twelve months by default, and whether it does now.
    yearly: Option<bool>,
}

impl Span {
    /// The period of the URL, with these filters.
    pub fn of(visit: &Visit, filters: &[Filter]) -> Self {
        let given = |name: &str| visit.parameter(name).unwrap_or_default().trim().to_owned();
        let (from, to) = (given("from"), given("to"));
        // Dates are more exact than a name.
        let period = if from.is_empty() && to.is_empty() { given("period") } else { String::new() };
        let filters = filters.iter().map(|filter| (filter.name, given(filter.name)));
        let filters = filters.filter(|(_, value)| !value.is_empty()).collect();
        let today = Utc::now().with_timezone(&visit.zone).date_naive();
        Self { period, from, to, tz: given("tz"), compare: given("compare"), filters, today, yearly: None }
    }

    /// Without a comparison.
    pub fn alone(&self) -> Self {
        Self { compare: COMPARED[2].0.to_owned(), ..self.clone() }
    }

    /// Only the filters of the URL, for reports as of today.
    pub fn filtered(visit: &Visit, filters: &[Filter]) -> Self {
        let Self { filters, today, .. } = Self::of(visit, filters);
        Self { filters, today, ..Self::default() }
    }

    /// With the twelve months up to now, unless the URL has a period.
    pub fn or_a_year(self) -> Self {
        if !(self.period.is_empty() && self.from.is_empty() && self.to.is_empty()) {
            return Self { yearly: Some(false), ..self };
        }
        let first = self.today.with_day(1).and_then(|day| day.checked_sub_months(Months::new(11)));
        Self { from: first.map(|day| day.to_string()).unwrap_or_default(), yearly: Some(true), ..self }
    }

    /// The parameters of a report.
    fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [("period", &self.period), ("from", &self.from), ("to", &self.to), ("tz", &self.tz)];
        let own = own.into_iter().map(|(name, value)| (name, value.as_str()));
        own.chain(self.filters.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// The path of a report of the API for this period.
    pub fn report(&self, path: &str) -> String {
        link(path, self.parameters())
    }

    /// The same, compared with the period that the page asks for.
    pub fn compared(&self, path: &str) -> String {
        let compare = match self.compare.as_str() {
            "" => COMPARED[0].0,
            "none" => "",
            given => given,
        };
        link(&self.report(path), [("compare", compare)])
    }

    /// The parameters for the paths of files, with `?`.
    pub fn query(&self) -> String {
        link("", self.parameters())
    }

    /// Intervals of which the period has a few dozen at most.
    pub fn interval(&self) -> &'static str {
        match self.period.as_str() {
            "today" | "last_7_days" | "last_30_days" | "this_month" | "last_month" => "day",
            "this_year" | "last_year" => "month",
            "" if !self.from.is_empty() || !self.to.is_empty() => match self.days() {
                ..32 => "day",
                32..191 => "week",
                191..1_201 => "month",
                1_201..4_001 => "quarter",
                4_001.. => "year",
            },
            _ => "week",
        }
    }

    /// The days between the dates given; 90 if they are none.
    fn days(&self) -> i64 {
        let date = |text: &str| text.get(..10).and_then(|day| day.parse::<NaiveDate>().ok());
        let to = date(&self.to).unwrap_or(self.today);
        date(&self.from).map_or(90, |from| (to - from).num_days())
    }

    /// The links to named periods, and the form for dates, the time zone and filters.
    pub fn form(&self, visit: &Visit, filters: &[Filter], can_compare: bool) -> Markup {
        let is_default = self.yearly == Some(true);
        let is_dated = !self.from.is_empty() || !self.to.is_empty();
        let has_dates = is_dated && !is_default;
        let is_here = |name: &str| !has_dates && self.period == name;
        let from = if is_default { "" } else { &self.from };
        html! {
            nav.tabs aria-label="Period" {
                @for (name, label) in NAMED {
                    a href=(self.link_to(visit, name)) aria-current=[is_here(name).then_some("true")] {
                        @if name.is_empty() && self.yearly.is_some() { "12 months" } @else { (label) }
                    }
                }
            }
            form.filters method="get" action=(visit.path) role="search" aria-label="Period and filters" {
                @if !self.period.is_empty() { input type="hidden" name="period" value=(self.period); }
                (dated("from", "From", from))
                (dated("to", "Before", &self.to))
                div.filter {
                    label for="q-tz" { "Time zone" }
                    input id="q-tz" type="text" name="tz" value=(self.tz) placeholder=(visit.zone.name()) autocomplete="off";
                }
                @if can_compare {
                    div.filter {
                        label for="q-compare" { "Compare with" }
                        select id="q-compare" name="compare" {
                            @for (value, label) in COMPARED {
                                option value=(value) selected[value == self.compare] { (label) }
                            }
                        }
                    }
                }
                @for filter in filters { (filter_input(visit, filter)) }
                button type="submit" { "Apply" }
            }
        }
    }

    /// This page with a named period in place of its own.
    fn link_to(&self, visit: &Visit, period: &str) -> String {
        let others = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let others = others.filter(|(name, _)| !matches!(*name, "period" | "from" | "to"));
        link(&visit.path, others.chain([("period", period)]))
    }
}

fn dated(name: &str, label: &str, value: &str) -> Markup {
    // A date input shows no other text, so a time stays readable in a text input.
    let kind = if value.is_empty() || value.parse::<NaiveDate>().is_ok() { "date" } else { "text" };
    html! {
        div.filter {
            label for=(format!("q-{name}")) { (label) }
            input id=(format!("q-{name}")) type=(kind) name=(name) value=(value) autocomplete="off";
        }
    }
}

/// The period that a report is about, in words.
pub(crate) fn described(period: &ReportedPeriod) -> Markup {
    let zone = period.tz.parse().unwrap_or_default();
    html! {
        p.quiet {
            (time(zone, period.from)) " to " (time(zone, period.to)) ", " (period.tz)
        }
    }
}

/// The period of a report.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReportedPeriod {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    tz: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(period: &str, from: &str, to: &str) -> Span {
        let (period, from, to) = (period.to_owned(), from.to_owned(), to.to_owned());
        Span { period, from, to, today: NaiveDate::from_ymd_opt(2026, 11, 30).unwrap(), ..Span::default() }
    }

    #[test]
    fn a_period_has_a_few_dozen_intervals() {
        for (period, from, to, interval) in [
            ("", "", "", "week"),
            ("last_7_days", "", "", "day"),
            ("this_quarter", "", "", "week"),
            ("this_year", "", "", "month"),
            ("", "2026-11-01", "", "day"),
            ("", "2026-01-01", "2026-04-01", "week"),
            ("", "2025-01-01", "2026-04-01", "month"),
            ("", "2000-01-01", "", "year"),
            ("", "nonsense", "", "week"),
            ("", "é2026-01-01", "ééééé", "week"),
        ] {
            assert_eq!(span(period, from, to).interval(), interval, "{period} {from} {to}");
        }
    }

    #[test]
    fn cohorts_begin_a_year_ago() {
        assert_eq!(span("", "", "").or_a_year().from, "2025-12-01");
        assert_eq!(span("this_year", "", "").or_a_year().from, "");
    }
}
