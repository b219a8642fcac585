//! The pages of feedback: ratings and themes, the answers, and asking for more.

mod answers;
mod one;
mod themes;
mod workflows;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::accounts::scopes::Scope;
use shared::crm::customers::{CustomerType, Segment};

use super::reports::{REPORTS, about_stars, charts as side_by_side, choice, report};
use crate::AppState;
use crate::console::charts::{Chart, Unit};
use crate::console::figures::{Figure, Rate, figures, interval};
use crate::console::links::link;
use crate::console::lists::Filter;
use crate::console::parts;
use crate::console::periods::{ReportedPeriod, Span, described};
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::times::time_or_dash;

/// The categories that a chart shows.
const CATEGORIES: usize = 12;

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/feedback", get(show))
        .route("/feedback/answers", get(answers::show))
        .route("/feedback/request", post(workflows::request))
        .route("/feedback/process", post(workflows::process))
        .route("/feedback/{id}", get(one::show))
        .route("/feedback/{id}/delete", post(one::delete))
        .route("/feedback/{id}/restore", post(one::restore))
}

#[derive(Deserialize)]
struct Dashboard {
    analytics: Ratings,
    open_requests: Open,
    comparison: Option<Box<Dashboard>>,
}

/// The requests that are open now.
#[derive(Deserialize)]
struct Open {
    count: u64,
    oldest_requested_at: Option<DateTime<Utc>>,
    due_reminders: u64,
    due_to_expire: u64,
}

/// The figures of a period.
#[derive(Deserialize)]
pub(super) struct Ratings {
    period: ReportedPeriod,
    sent: f64,
    response_rate: Rate,
    median_hours_to_answer: Option<f64>,
    n: f64,
    mean_rating: Option<f64>,
    distribution: Map<String, Value>,
    csat: Csat,
    nps: Nps,
    by_category: Vec<Category>,
    by_interval: Vec<Interval>,
}

#[derive(Deserialize)]
struct Csat {
    #[serde(flatten)]
    share: Rate,
    low: Option<f64>,
    high: Option<f64>,
}

#[derive(Deserialize)]
struct Nps {
    promoters: f64,
    passives: f64,
    detractors: f64,
    n: f64,
    value: Option<f64>,
}

#[derive(Deserialize)]
struct Category {
    category: Option<String>,
    n: f64,
    mean_rating: Option<f64>,
    csat: Csat,
    nps: Nps,
}

#[derive(Deserialize)]
struct Interval {
    label: String,
    partial: bool,
    sent: f64,
    n: f64,
    mean_rating: Option<f64>,
}

pub(super) fn filters() -> Vec<Filter> {
    vec![
        Filter::input("category", "Category", "text"),
        choice("segment", "Segment", Segment::WORDS),
        choice("type", "Type", CustomerType::WORDS),
    ]
}

/// The charts of a period.
pub(super) async fn charts(visit: &Visit) -> Result<Vec<Chart>> {
    let span = Span::of(visit, &filters());
    let ratings: Ratings =
        visit.crm.get(&link(&span.report("/feedback/analytics"), [("interval", span.interval())])).await?;
    Ok(ratings.charts())
}

async fn show(visit: Visit) -> Result<Response> {
    let filters = filters();
    let span = Span::of(&visit, &filters);
    let about = "Requests belong to the period in which they were made, ratings to the one in which they were given.";
    report(&visit, ("Feedback", about), &span.form(&visit, &filters, true), content(&visit, &span).await)
}

async fn content(visit: &Visit, span: &Span) -> Result<Markup> {
    let path = link(&span.compared("/feedback/dashboard"), [("interval", span.interval())]);
    let (dashboard, themes) = tokio::try_join!(visit.crm.get::<Dashboard>(&path), themes::read(visit, span))?;
    let Dashboard { analytics, open_requests, comparison } = dashboard;
    let before = comparison.map(|comparison| comparison.analytics);
    Ok(html! {
        (described(&analytics.period))
        @if analytics.n == 0.0 && analytics.sent == 0.0 && open_requests.count == 0 { (nothing(visit)) }
        (figures(&analytics.headlines(before.as_ref())))
        p { a href="/console/feedback/answers?status=answered" { "All answers" } }
        (side_by_side(&format!("{REPORTS}/feedback"), &span.query(), &analytics.charts()))
        (about_stars())
        (themes.render(span))
        (requests(visit, &open_requests))
    })
}

fn nothing(visit: &Visit) -> Markup {
    parts::empty(
        "No feedback in this period",
        &html! {
            "Request feedback of a customer below, or "
            (parts::link_if(visit.may(Scope::Imports), "/console/imports", "import answers")) " from a file."
        },
    )
}

/// The open requests, and what can be done about them.
fn requests(visit: &Visit, open: &Open) -> Markup {
    let due =
        html! { (parts::count(open.due_reminders)) " to remind, " (parts::count(open.due_to_expire)) " to expire" };
    let all = html! {
        a href="/console/feedback/answers?status=requested" { (parts::count(open.count)) " open" }
    };
    parts::section(
        "Requests",
        &html! {
            (parts::facts([
                ("Open requests", all),
                ("Oldest", time_or_dash(visit.zone, open.oldest_requested_at)),
                ("Due now", due),
            ]))
            @if visit.may(Scope::Workflows) { (workflows::forms(visit, open.due_reminders, open.due_to_expire)) }
        },
    )
}

impl Ratings {
    fn headlines(&self, before: Option<&Self>) -> Vec<Figure> {
        let before = |figure: fn(&Self) -> Option<f64>| before.map(figure);
        let interval = |unit: Unit, low: Option<f64>, high: Option<f64>| match low.zip(high) {
            Some((low, high)) => format!("95 % interval: {} to {}", unit.text(low), unit.text(high)),
            None => String::new(),
        };
        let (low, high) = self.nps.interval().unzip();
        vec![
            Figure::new("Ratings", Unit::Count, self.n)
                .against(before(|ratings| Some(ratings.n)))
                .formula("ratings given in the period"),
            Figure::new("Mean rating", Unit::Decimal, self.mean_rating)
                .against(before(|ratings| ratings.mean_rating))
                .formula("mean of the ratings, 1 to 5"),
            Figure::rate("CSAT", self.csat.share)
                .note(interval(Unit::Share, self.csat.low, self.csat.high))
                .against(before(|ratings| ratings.csat.share.rate))
                .formula("ratings of 4 and 5 ÷ all; interval after Wilson"),
            Figure::new("NPS", Unit::Points, self.nps.value)
                .note(interval(Unit::Points, low, high))
                .against(before(|ratings| ratings.nps.value))
                .formula("share of 5 − share of 1 to 3; interval: ± 1.96 · √(variance ÷ n)"),
            Figure::new("Requests", Unit::Count, self.sent)
                .against(before(|ratings| Some(ratings.sent)))
                .formula("requests created in the period"),
            Figure::rate("Response rate", self.response_rate)
                .against(before(|ratings| ratings.response_rate.rate))
                .formula("of these requests, answered by now ÷ all"),
            Figure::new("Hours to answer", Unit::Decimal, self.median_hours_to_answer)
                .against(before(|ratings| ratings.median_hours_to_answer))
                .formula("median of (answered − requested)"),
        ]
    }

    fn charts(&self) -> Vec<Chart> {
        let stars = |rating: &String| if rating == "1" { "1 star".to_owned() } else { format!("{rating} stars") };
        let ratings = || self.distribution.iter().rev();
        let distribution = Chart::ranking("distribution", "Ratings")
            .of("Rating", ratings().map(|(rating, _)| stars(rating)))
            .series("Ratings", ratings().map(|(_, count)| count.as_f64()));
        let intervals = &self.by_interval;
        let over_time = Chart::bars("by_interval", "Requests and ratings")
            .of("Interval", intervals.iter().map(|of| interval(&of.label, of.partial)))
            .series("Requests", intervals.iter().map(|of| of.sent))
            .series("Ratings", intervals.iter().map(|of| of.n));
        let mean = Chart::lines("mean_rating", "Mean rating")
            .csv("by_interval")
            .unit(Unit::Decimal)
            .of("Interval", intervals.iter().map(|of| interval(&of.label, of.partial)))
            .series("Mean rating", intervals.iter().map(|of| of.mean_rating));
        vec![distribution, over_time, mean, self.by_category()]
    }

    fn by_category(&self) -> Chart {
        let categories = || self.by_category.iter().take(CATEGORIES);
        let name = |category: &Category| category.category.clone().unwrap_or_else(|| "No category".to_owned());
        Chart::ranking("by_category", "Ratings by category")
            .of("Category", categories().map(name))
            .series("Ratings", categories().map(|category| category.n))
            .also("Mean rating", Unit::Decimal, categories().map(|category| category.mean_rating))
            .also("CSAT", Unit::Share, categories().map(|category| category.csat.share.rate))
            .also("NPS", Unit::Points, categories().map(|category| category.nps.value))
    }
}

impl Nps {
    /// The 95 % interval: a rating counts as 1, 0 or −1, and the mean of n of these is nearly normal.
    fn interval(&self) -> Option<(f64, f64)> {
        const Z: f64 = 1.959_96;
        let value = self.value?;
        let variance = (self.promoters + self.detractors) / self.n - value * value;
        let by = Z * (variance.max(0.0) / self.n).sqrt();
        debug_assert!(self.passives <= self.n);
        Some(((value - by).max(-1.0), (value + by).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_the_score_is_that_of_a_mean() {
        let nps = Nps { promoters: 60.0, passives: 20.0, detractors: 20.0, n: 100.0, value: Some(0.4) };
        let (low, high) = nps.interval().unwrap();
        // √((0.8 − 0.16) ÷ 100) = 0.08
        assert!((low - (0.4 - 0.156_797)).abs() < 1e-5 && (high - (0.4 + 0.156_797)).abs() < 1e-5, "{low} {high}");
        let none = Nps { promoters: 0.0, passives: 0.0, detractors: 0.0, n: 0.0, value: None };
        assert!(none.interval().is_none());
    }
}
