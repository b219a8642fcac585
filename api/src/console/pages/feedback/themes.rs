//! The themes of comments.

use maud::{Markup, html};
use serde::Deserialize;

use super::super::reports::REPORTS;
use crate::console::charts::Unit;
use crate::console::figures::{Comparison, Rate};
use crate::console::links::link;
use crate::console::parts;
use crate::console::periods::Span;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The themes that are shown; the CSV file has all of them.
const SHOWN: usize = 12;

/// The report of themes.
#[derive(Deserialize)]
pub(super) struct Themes {
    comments: u64,
    themes: Vec<Theme>,
}

#[derive(Deserialize)]
struct Theme {
    id: String,
    label: String,
    count: u64,
    share: Rate,
    mean_rating: f64,
    sentiment: f64,
    change: Comparison,
    impact: Option<f64>,
    quotes: Vec<Quote>,
}

#[derive(Deserialize)]
struct Quote {
    excerpt: String,
    rating: u8,
}

/// Reads the themes of a period.
pub(super) async fn read(visit: &Visit, span: &Span) -> Result<Themes> {
    visit.crm.get(&span.report("/feedback/themes")).await
}

impl Themes {
    pub fn render(&self, span: &Span) -> Markup {
        let csv = format!("{REPORTS}/themes/themes.csv{}", span.query());
        let none =
            html! { p.quiet { "No phrase is shared by enough of the " (parts::count(self.comments)) " comments." } };
        parts::section(
            "Themes",
            &html! {
                @if self.themes.is_empty() { (none) }
                @else {
                    p.quiet {
                        "Phrases that many of the " (parts::count(self.comments)) " comments share, the most significant first. "
                        a href=(csv) download { "CSV of all themes" }
                    }
                    (self.table())
                    p.formula {
                        code { "impact = mean rating of all answers − mean rating of the answers that do not mention the theme" }
                    }
                }
            },
        )
    }

    fn table(&self) -> Markup {
        html! {
            div.scroll tabindex="0" role="region" aria-label="Themes" {
                table {
                    caption.hidden { "Themes of the comments" }
                    thead {
                        tr {
                            th scope="col" { "Theme" }
                            @for name in ["Comments", "Before", "Share", "Rating", "Impact", "Sentiment"] {
                                th.number scope="col" { (name) }
                            }
                            th scope="col" { "Quotes" }
                        }
                    }
                    tbody { @for theme in self.themes.iter().take(SHOWN) { (theme.row()) } }
                }
            }
        }
    }
}

impl Theme {
    fn row(&self) -> Markup {
        let answers = link("/console/feedback/answers", [("theme", self.id.as_str())]);
        let signed = |value: f64| format!("{}{:.2}", if value < 0.0 { "−" } else { "+" }, value.abs());
        html! {
            tr {
                th scope="row" { a href=(answers) { (self.label) } }
                td.number { (parts::count(self.count)) }
                td.number { (self.change.before.map_or_else(|| "–".to_owned(), |before| Unit::Count.text(before))) }
                td.number { (self.share.rate.map_or_else(|| "–".to_owned(), parts::percent)) }
                td.number { (format!("{:.1}", self.mean_rating)) }
                td.number { (self.impact.map_or_else(|| "–".to_owned(), signed)) }
                td.number { (signed(self.sentiment)) }
                td {
                    ul.quotes {
                        @for quote in &self.quotes { li { q { (quote.excerpt) } span.quiet { " " (quote.rating) " of 5" } } }
                    }
                }
            }
        }
    }
}
