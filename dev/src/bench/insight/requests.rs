//! Random requests for reports.

use chrono::{Duration, Utc};
use rand::RngExt;
use rand::seq::IndexedRandom;

/// A report and its parameters.
#[derive(Debug)]
pub struct Report {
    /// The path below `/dev/crm`.
    pub path: &'static str,
    has_period: bool,
    has_intervals: bool,
    /// Values of its filters.
    filters: &'static [&'static str],
}

const OWNERS: &str = "assigned_to=c4ca4238-a0b9-2382-0dcc-509a6f75849b,c81e728d-9d4c-2f63-6f06-7f89cc14862c";

/// All reports about many records.
pub const REPORTS: &[Report] = &[
    Report {
        path: "reports/leads",
        has_period: true,
        has_intervals: true,
        filters: &["source=website,email", "status=won,lost", OWNERS],
    },
    Report {
        path: "reports/customers",
        has_period: true,
        has_intervals: true,
        filters: &["type=business", "status=active", "segment=loyal,active", "segment=prospects", OWNERS],
    },
    Report { path: "analytics/dashboard", has_period: true, has_intervals: false, filters: &[OWNERS] },
    Report {
        path: "customers/segments",
        has_period: false,
        has_intervals: false,
        filters: &["type=business", "status=active,inactive", OWNERS],
    },
    Report {
        path: "feedback/analytics",
        has_period: true,
        has_intervals: true,
        filters: &["category=SUPPORT", "segment=loyal", "type=individual"],
    },
    Report {
        path: "feedback/dashboard",
        has_period: true,
        has_intervals: true,
        filters: &["category=SUPPORT", "segment=loyal", "type=individual"],
    },
    Report {
        path: "feedback/themes",
        has_period: true,
        has_intervals: false,
        filters: &["category=SUPPORT", "segment=loyal", "type=individual"],
    },
];

const ZONES: &[&str] = &["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];

impl Report {
    /// A request that was not made before: its period ends at another second.
    pub fn random(&self) -> String {
        let random = &mut rand::rng();
        let mut parameters = Vec::new();
        if self.has_period {
            let to = Utc::now() - Duration::seconds(random.random_range(0..86_400));
            let days = [7, 30, 90, 365, 730].choose(random).copied().unwrap_or(90);
            parameters.push(format!("from={}", (to - Duration::days(days)).format("%Y-%m-%dT%H:%M:%SZ")));
            parameters.push(format!("to={}", to.format("%Y-%m-%dT%H:%M:%SZ")));
            parameters.push(format!("tz={}", ZONES.choose(random).unwrap_or(&"UTC")));
            if random.random_bool(0.4) {
                parameters.push("compare=previous".to_owned());
            }
        }
        if self.has_intervals {
            let interval = ["day", "week", "month", "quarter"].choose(random).unwrap_or(&"day");
            parameters.push(format!("interval={interval}"));
        }
        if random.random_bool(0.6) {
            parameters.extend(self.filters.choose(random).map(|filter| (*filter).to_owned()));
        }
        format!("{}?{}", self.path, parameters.join("&"))
    }
}

/// A report with one of a few usual periods, and its path.
pub fn usual() -> (&'static str, String) {
    let random = &mut rand::rng();
    let report = REPORTS.choose(random).unwrap_or(&REPORTS[0]);
    let period = match report.has_period {
        true => ["", "period=this_month&tz=Europe/Berlin", "period=last_30_days"].choose(random).copied(),
        false => None,
    };
    (report.path, format!("{}?{}", report.path, period.unwrap_or_default()))
}
