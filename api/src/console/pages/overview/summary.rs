//! How the period went: the dashboard of the API, and the charts of its reports.

use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;

use super::super::reports::{Customers, Leads, REPORTS, about_stars, band_name};
use crate::console::charts::{Chart, Files, Unit};
use crate::console::figures::{Comparison, Figure, Rate, RateComparison, figures};
use crate::console::parts;
use crate::console::periods::{ReportedPeriod, Span, described};
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The figures and charts of the overview.
pub(super) struct Summary {
    dashboard: Dashboard,
    leads: Leads,
    customers: Customers,
    feedback: Feedback,
}

#[derive(Deserialize)]
struct Dashboard {
    period: ReportedPeriod,
    leads: LeadHeadline,
    customers: CustomerHeadline,
    orders: OrderHeadline,
    segments: SegmentHeadline,
    health: HealthHeadline,
    feedback: FeedbackHeadline,
    followups: Followups,
}

#[derive(Deserialize)]
struct LeadHeadline {
    total: f64,
    created: Comparison,
    conversion_rate: RateComparison,
    win_rate: RateComparison,
}

#[derive(Deserialize)]
struct CustomerHeadline {
    total: f64,
    new: Comparison,
    repeat_rate: RateComparison,
}

#[derive(Deserialize)]
struct OrderHeadline {
    orders: Comparison,
    quantity: Comparison,
}

#[derive(Deserialize)]
struct SegmentHeadline {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    segment: String,
    count: f64,
    share: Rate,
}

#[derive(Deserialize)]
struct HealthHeadline {
    mean_score: Comparison,
    by_health: Vec<Band>,
}

#[derive(Deserialize)]
struct Band {
    band: String,
    count: f64,
    share: Rate,
}

#[derive(Deserialize)]
struct FeedbackHeadline {
    response_rate: RateComparison,
    mean_rating: Comparison,
    nps: Comparison,
}

#[derive(Deserialize)]
struct Followups {
    due: u64,
}

/// The part of the feedback report that the dashboard lacks.
#[derive(Deserialize)]
struct Feedback {
    csat: Rate,
    comparison: Option<FeedbackBefore>,
}

#[derive(Deserialize)]
struct FeedbackBefore {
    csat: Rate,
}

/// Reads the figures, if the key may.
pub(super) async fn read(visit: &Visit, span: &Span) -> Result<Option<Summary>> {
    if !visit.may(Scope::RecordsRead) {
        return Ok(None);
    }
    let alone = span.alone();
    let (path, ratings) = (span.report("/analytics/dashboard"), span.compared("/feedback/analytics"));
    let (dashboard, leads, customers, feedback) = tokio::try_join!(
        visit.crm.get(&path),
        Leads::read(visit, &alone),
        Customers::read(visit, &alone),
        visit.crm.get(&ratings),
    )?;
    Ok(Some(Summary { dashboard, leads, customers, feedback }))
}

impl Summary {
    /// The next actions that are due.
    pub fn due_followups(&self) -> u64 {
        self.dashboard.followups.due
    }

    /// The summary with what is shown beside it.
    pub fn render(&self, visit: &Visit, span: &Span, beside: &Markup) -> Markup {
        let (dashboard, query) = (&self.dashboard, span.query());
        if dashboard.leads.total + dashboard.customers.total == 0.0 {
            return html! { (start(visit)) (beside) };
        }
        let files = |report: &'static str| FilesOf { folder: format!("{REPORTS}/{report}"), query: query.clone() };
        let (leads, customers, segments) = (files("leads"), files("customers"), files("segments"));
        html! {
            (described(&dashboard.period))
            (figures(&self.headlines()))
            (beside)
            div.charts {
                (leads.of(&self.leads.by_interval()))
                (customers.of(&self.customers.orders_by_interval()))
                (leads.of(&self.leads.funnel()))
                (segments.of(&self.segments()))
                (segments.of(&self.health()))
            }
            (about_stars())
        }
    }

    fn headlines(&self) -> Vec<Figure> {
        let Dashboard { leads, customers, orders, feedback, health, .. } = &self.dashboard;
        let csat_before = self.feedback.comparison.as_ref().map(|before| before.csat.rate);
        vec![
            Figure::compared("Leads created", Unit::Count, leads.created),
            Figure::rates("Conversion rate", leads.conversion_rate),
            Figure::rates("Win rate", leads.win_rate),
            Figure::compared("New customers", Unit::Count, customers.new),
            Figure::compared("Orders", Unit::Count, orders.orders),
            Figure::compared("Quantity ordered", Unit::Count, orders.quantity),
            Figure::rates("Repeat rate", customers.repeat_rate),
            Figure::compared("Mean health", Unit::Decimal, health.mean_score),
            Figure::rate("CSAT", self.feedback.csat).against(csat_before),
            Figure::compared("NPS", Unit::Points, feedback.nps),
            Figure::compared("Mean rating", Unit::Decimal, feedback.mean_rating),
            Figure::rates("Response rate", feedback.response_rate),
        ]
    }

    fn segments(&self) -> Chart {
        let groups = &self.dashboard.segments.groups;
        Chart::ranking("groups", "Customers by segment")
            .of("Segment", groups.iter().map(|group| parts::words(&group.segment)))
            .series("Customers", groups.iter().map(|group| group.count))
            .also("Share", Unit::Share, groups.iter().map(|group| group.share.rate))
    }

    fn health(&self) -> Chart {
        let bands = &self.dashboard.health.by_health;
        Chart::ranking("by_health", "Customers by health")
            .of("Health", bands.iter().map(|band| band_name(&band.band)))
            .series("Customers", bands.iter().map(|band| band.count))
            .also("Share", Unit::Share, bands.iter().map(|band| band.share.rate))
    }
}

/// Where the charts of a report have their files.
struct FilesOf {
    folder: String,
    query: String,
}

impl FilesOf {
    fn of(&self, chart: &Chart) -> Markup {
        chart.render(Files { folder: &self.folder, query: &self.query })
    }
}

/// What to do first.
fn start(visit: &Visit) -> Markup {
    html! {
        div.empty {
            p { strong { "There are no leads and no customers yet" } }
            ol {
                @let (imports, keys) = (visit.may(Scope::Imports), visit.may(Scope::Keys));
                li { (parts::link_if(imports, "/console/imports", "Import leads or customers")) " from a file, with a dry run first." }
                li { (parts::link_if(keys, "/console/settings/keys", "Create an API key")) " for each program that uses the API." }
                li {
                    a href="/console/settings" { "Set the sender" } " of emails. The operator sets the mail server in the \
                    section " code { "[mail]" } " of the configuration."
                }
            }
        }
    }
}
