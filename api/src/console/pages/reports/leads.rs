//! The report of leads.

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use shared::crm::leads::{LeadSource, LeadStatus};

use super::{REPORTS, about_stars, charts, choice, report};
use crate::console::charts::{Chart, Unit};
use crate::console::figures::{Figure, IntervalCount, Rate, Spread, figures, interval};
use crate::console::links::link;
use crate::console::lists::Filter;
use crate::console::parts;
use crate::console::periods::{ReportedPeriod, Span, described};
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The owners with the most leads that a chart shows.
const OWNERS: usize = 12;

/// The report, compared with another period.
#[derive(Deserialize)]
pub(in crate::console::pages) struct Leads {
    period: ReportedPeriod,
    totals: Totals,
    created: Created,
    conversion_rate: Rate,
    win_rate: Rate,
    funnel: Vec<Stage>,
    days_to_convert: Spread,
    average_score: Option<f64>,
    by_source: Vec<Source>,
    by_owner: Vec<Owner>,
    outcomes: Outcomes,
    comparison: Option<Box<Leads>>,
}

#[derive(Deserialize)]
struct Totals {
    leads: f64,
    by_status: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Created {
    leads: f64,
    by_interval: Vec<IntervalCount>,
}

#[derive(Deserialize)]
struct Stage {
    stage: String,
    leads: f64,
    rate: Rate,
    step_rate: Rate,
    median_days: Option<f64>,
}

#[derive(Deserialize)]
struct Source {
    source: String,
    leads: f64,
    rate: Rate,
}

#[derive(Deserialize)]
struct Owner {
    assigned_to: Option<String>,
    name: Option<String>,
    leads: f64,
    rate: Rate,
}

#[derive(Deserialize)]
struct Outcomes {
    converted: f64,
    won: f64,
    lost: f64,
    by_interval: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    label: String,
    partial: bool,
    converted: f64,
    won: f64,
    lost: f64,
}

pub(super) fn filters() -> Vec<Filter> {
    vec![
        choice("source", "Source", LeadSource::WORDS),
        choice("status", "Status", LeadStatus::WORDS),
        Filter::input("assigned_to", "Owner (id)", "text"),
    ]
}

pub(super) async fn show(visit: Visit) -> Result<Response> {
    let (filters, about) = (filters(), "Figures are about the leads created in the period, unless they say otherwise.");
    let span = Span::of(&visit, &filters);
    let content = Leads::read(&visit, &span).await.map(|leads| leads.render(&span));
    report(&visit, ("Lead report", about), &span.form(&visit, &filters, true), content)
}

impl Leads {
    /// Reads the report of a period.
    pub async fn read(visit: &Visit, span: &Span) -> Result<Self> {
        visit.crm.get(&link(&span.compared("/reports/leads"), [("interval", span.interval())])).await
    }

    fn render(&self, span: &Span) -> Markup {
        html! {
            (described(&self.period))
            (figures(&self.headlines()))
            (charts(&format!("{REPORTS}/leads"), &span.query(), &self.charts()))
            (about_stars())
        }
    }

    fn headlines(&self) -> Vec<Figure> {
        let before = |figure: fn(&Self) -> Option<f64>| self.comparison.as_deref().map(figure);
        let days = self.days_to_convert;
        let mean = days.mean.map(|mean| format!("mean {}", Unit::Decimal.text(mean))).unwrap_or_default();
        vec![
            Figure::new("Leads created", Unit::Count, self.created.leads)
                .against(before(|leads| Some(leads.created.leads)))
                .formula("leads with created_at in the period"),
            Figure::rate("Conversion rate", self.conversion_rate)
                .against(before(|leads| leads.conversion_rate.rate))
                .formula("now converted or won ÷ all"),
            Figure::rate("Win rate", self.win_rate)
                .against(before(|leads| leads.win_rate.rate))
                .formula("now converted or won ÷ now converted, won or lost"),
            Figure::new("Days to convert", Unit::Decimal, days.median)
                .note(mean)
                .against(before(|leads| leads.days_to_convert.median))
                .formula("median of (first converted or won − created)"),
            Figure::new("Average score", Unit::Decimal, self.average_score)
                .against(before(|leads| leads.average_score))
                .formula("mean of score"),
            Figure::new("Converted", Unit::Count, self.outcomes.converted)
                .against(before(|leads| Some(leads.outcomes.converted)))
                .formula("first converted in the period, whenever created"),
            Figure::new("Won", Unit::Count, self.outcomes.won)
                .against(before(|leads| Some(leads.outcomes.won)))
                .formula("first won in the period, whenever created"),
            Figure::new("Lost", Unit::Count, self.outcomes.lost)
                .against(before(|leads| Some(leads.outcomes.lost)))
                .formula("first lost in the period, whenever created"),
            Figure::new("All leads", Unit::Count, self.totals.leads).formula("leads of any date"),
        ]
    }

    /// The charts, with the names of the API's tables.
    pub fn charts(&self) -> Vec<Chart> {
        vec![self.by_interval(), self.funnel(), self.by_source(), self.by_owner(), self.outcomes(), self.by_status()]
    }

    /// The leads created over time.
    pub fn by_interval(&self) -> Chart {
        let intervals = &self.created.by_interval;
        Chart::bars("by_interval", "Leads created")
            .of("Interval", intervals.iter().map(IntervalCount::name))
            .series("Leads", intervals.iter().map(|interval| interval.count))
    }

    /// The stages that they have reached.
    pub fn funnel(&self) -> Chart {
        let stages = &self.funnel;
        Chart::funnel("funnel", "Funnel: leads that have reached each stage")
            .of("Stage", stages.iter().map(|stage| parts::words(&stage.stage)))
            .series("Leads", stages.iter().map(|stage| stage.leads))
            .also("Of all", Unit::Share, stages.iter().map(|stage| stage.rate.rate))
            .also("Of the stage before", Unit::Share, stages.iter().map(|stage| stage.step_rate.rate))
            .also("Median days", Unit::Decimal, stages.iter().map(|stage| stage.median_days))
    }

    fn by_source(&self) -> Chart {
        Chart::ranking("by_source", "Leads by source")
            .of("Source", self.by_source.iter().map(|source| parts::words(&source.source)))
            .series("Leads", self.by_source.iter().map(|source| source.leads))
            .also("Conversion rate", Unit::Share, self.by_source.iter().map(|source| source.rate.rate))
    }

    fn by_owner(&self) -> Chart {
        let owners = || self.by_owner.iter().take(OWNERS);
        let name = |owner: &Owner| match (&owner.name, &owner.assigned_to) {
            (Some(name), _) => name.clone(),
            (None, Some(id)) => id.clone(),
            (None, None) => "Unassigned".to_owned(),
        };
        Chart::ranking("by_owner", "Leads by owner")
            .of("Owner", owners().map(name))
            .series("Leads", owners().map(|owner| owner.leads))
            .also("Conversion rate", Unit::Share, owners().map(|owner| owner.rate.rate))
    }

    fn outcomes(&self) -> Chart {
        let intervals = &self.outcomes.by_interval;
        Chart::lines("outcomes", "Outcomes in the period")
            .of("Interval", intervals.iter().map(|of| interval(&of.label, of.partial)))
            .series("Converted", intervals.iter().map(|of| of.converted))
            .series("Won", intervals.iter().map(|of| of.won))
            .series("Lost", intervals.iter().map(|of| of.lost))
    }

    fn by_status(&self) -> Chart {
        let statuses = &self.totals.by_status;
        Chart::ranking("totals_by_status", "All leads by status")
            .of("Status", statuses.keys().map(|status| parts::words(status)))
            .series("Leads", statuses.values().map(serde_json::Value::as_f64))
    }
}
