//! Charts: a drawing, a sentence that says what it shows, the table of its figures, and both as files.

mod draw;
mod words;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use maud::{Markup, PreEscaped, html};

use super::parts;
use draw::Paper;

/// A drawing opened on its own runs nothing and loads nothing.
const SVG_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// What the figures of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Numbers of records.
    Count,
    /// Shares between 0 and 1, shown as percentages.
    Share,
    /// Differences of shares between -1 and 1, shown as points from -100 to 100.
    Points,
    /// Other numbers, shown with one decimal.
    Decimal,
}

impl Unit {
    /// A figure as text.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count => parts::grouped(&format!("{value}")),
            Self::Share => parts::percent(value).replace('-', "−"),
            Self::Points => format!("{:+.1}", value * 100.0).replace('-', "−"),
            Self::Decimal => parts::grouped(&format!("{value:.1}")),
        }
    }
}

/// How a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A bar for each label, upright: figures over time.
    Bars,
    /// A line for each series: figures over time.
    Lines,
    /// A bar for each label, lying, in the order given.
    Ranking,
    /// Stages, each as wide as its figure.
    Funnel,
    /// A row for each series, and a cell for each label.
    Heatmap,
}

/// Figures under one name.
#[derive(Debug, Clone)]
struct Series {
    name: String,
    unit: Unit,
    values: Vec<Option<f64>>,
}

/// A chart of figures.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// The name of its file.
    pub name: &'static str,
    /// The table that has its figures.
    table: &'static str,
    title: &'static str,
    kind: Kind,
    unit: Unit,
    /// What a label is, such as a week.
    of: &'static str,
    labels: Vec<String>,
    series: Vec<Series>,
}

/// Where the files of a chart are: each path but its extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The folder.
    pub folder: &'a str,
    /// The parameters with `?`, or nothing.
    pub query: &'a str,
}

impl Chart {
    fn new(kind: Kind, name: &'static str, title: &'static str) -> Self {
        Self { name, table: name, title, kind, unit: Unit::Count, of: "", labels: Vec::new(), series: Vec::new() }
    }

    /// A chart with a bar for each time.
    pub fn bars(name: &'static str, title: &'static str) -> Self {
        Self::new(Kind::Bars, name, title)
    }

    /// A chart with a line for each series.
    pub fn lines(name: &'static str, title: &'static str) -> Self {
        Self::new(Kind::Lines, name, title)
    }

    /// A chart with a lying bar for each label.
    pub fn ranking(name: &'static str, title: &'static str) -> Self {
        Self::new(Kind::Ranking, name, title)
    }

    /// A funnel with a stage for each label.
    pub fn funnel(name: &'static str, title: &'static str) -> Self {
        Self::new(Kind::Funnel, name, title)
    }

    /// A heatmap with a row for each series.
    pub fn heatmap(name: &'static str, title: &'static str) -> Self {
        Self::new(Kind::Heatmap, name, title)
    }

    /// With figures from a table of the API of another name.
    pub fn csv(self, table: &'static str) -> Self {
        Self { table, ..self }
    }

    /// With figures of this unit.
    pub fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// With these labels, and what they are.
    pub fn of(self, of: &'static str, labels: impl IntoIterator<Item = String>) -> Self {
        Self { of, labels: labels.into_iter().collect(), ..self }
    }

    /// With figures, one for each label; what is not known is `None`.
    pub fn series(self, name: impl Into<String>, values: impl IntoIterator<Item = impl Into<Option<f64>>>) -> Self {
        let unit = self.unit;
        self.also(name, unit, values)
    }

    /// With figures of another unit. A ranking and a funnel show them in the table only.
    pub fn also(
        mut self,
        name: impl Into<String>,
        unit: Unit,
        values: impl IntoIterator<Item = impl Into<Option<f64>>>,
    ) -> Self {
        let mut values: Vec<Option<f64>> = values.into_iter().map(Into::into).collect();
        values.resize(self.labels.len(), None);
        self.series.push(Series { name: name.into(), unit, values });
        self
    }

    /// The chart on a page: its drawing, the links to its files, and the table of its figures.
    pub fn render(&self, files: Files<'_>) -> Markup {
        let file = |name: &str, extension: &str| format!("{}/{name}.{extension}{}", files.folder, files.query);
        html! {
            figure.chart {
                figcaption { (self.title) }
                @match self.drawing(Paper::Page) {
                    Some(svg) => (PreEscaped(svg)),
                    None => p.quiet { (self.says()) },
                }
                details.figures-table {
                    summary { "Figures" span.hidden { " of " (self.title) } }
                    (self.table())
                }
                p.files {
                    a href=(file(self.table, "csv")) download { "CSV" span.hidden { " of " (self.title) } }
                    " "
                    a href=(file(self.name, "svg")) download { "SVG" span.hidden { " of " (self.title) } }
                }
            }
        }
    }

    /// The drawing as a file.
    pub fn file(&self) -> Response {
        let svg = self.drawing(Paper::White).unwrap_or_else(|| draw::blank(self.title, &self.says()));
        let headers = [
            (CONTENT_TYPE, "image/svg+xml".to_owned()),
            (CONTENT_DISPOSITION, format!("attachment; filename=\"{}.svg\"", self.name)),
            (CONTENT_SECURITY_POLICY, SVG_POLICY.to_owned()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (CACHE_CONTROL, "no-store".to_owned()),
        ];
        (headers, svg).into_response()
    }

    /// The drawing, unless there is nothing to draw.
    fn drawing(&self, paper: Paper) -> Option<String> {
        if !self.has_figures() {
            return None;
        }
        match draw::svg(self, paper) {
            Ok(svg) => Some(charts_rs::svg_with_accessibility(&svg, self.title, &self.says())),
            Err(error) => {
                tracing::error!(chart = self.name, %error, "a chart cannot be drawn");
                None
            }
        }
    }

    /// Whether any figure is more than nothing.
    fn has_figures(&self) -> bool {
        self.series.iter().flat_map(|series| &series.values).any(|value| value.is_some_and(|value| value != 0.0))
    }

    fn table(&self) -> Markup {
        let cell = |unit: Unit, value: Option<f64>| match value {
            Some(value) => html! { (unit.text(value)) },
            None => parts::text_or_dash(None),
        };
        // A row for each series of a heatmap, and else for each label.
        let (head, rows): (Vec<&str>, Vec<Vec<Markup>>) = match self.kind {
            Kind::Heatmap => {
                let head = std::iter::once(self.of).chain(self.labels.iter().map(String::as_str)).collect();
                let row = |series: &Series| {
                    let values = series.values.iter().map(|value| cell(series.unit, *value));
                    std::iter::once(html! { (series.name) }).chain(values).collect()
                };
                (head, self.series.iter().map(row).collect())
            }
            _ => {
                let names = self.series.iter().map(|series| series.name.as_str());
                let row = |(at, label): (usize, &String)| {
                    let values = self.series.iter();
                    let values = values.map(|series| cell(series.unit, series.values.get(at).copied().flatten()));
                    std::iter::once(html! { (label) }).chain(values).collect()
                };
                (std::iter::once(self.of).chain(names).collect(), self.labels.iter().enumerate().map(row).collect())
            }
        };
        parts::table(&format!("Figures of {}", self.title), &head, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</text><script>alert(1)</script>\" onload='x' & {a}";
    const FILES: Files<'_> = Files { folder: "/console/reports/leads", query: "?period=this_month" };

    fn week(chart: Chart) -> Chart {
        chart.of("Day", ["Mo", "Tu", HOSTILE].map(str::to_owned))
    }

    fn all() -> [Chart; 5] {
        let charts = [
            Chart::bars("bars", "Bars"),
            Chart::lines("lines", "Lines"),
            Chart::ranking("ranking", "Ranking"),
            Chart::funnel("funnel", "Funnel"),
            Chart::heatmap("heatmap", "Heatmap").unit(Unit::Share),
        ];
        charts.map(|chart| week(chart).series(HOSTILE, [0.75, 0.5, 0.25]))
    }

    #[test]
    fn text_of_callers_stays_text() {
        for chart in all() {
            let svg = chart.drawing(Paper::Page).unwrap();
            for markup in ["<script", "<style", "style="] {
                assert!(!svg.contains(markup), "{}: {svg}", chart.name);
            }
            // Each tag ends where its first `>` is, since none is in an attribute.
            let is_broken = |tag: &str| tag.split('>').next().is_some_and(|tag| tag.contains("alert"));
            assert!(!svg.split('<').any(is_broken), "{}: {svg}", chart.name);
            let page = chart.render(FILES).into_string();
            assert!(!page.contains("<script"), "{page}");
        }
    }

    #[test]
    fn a_drawing_has_its_name_and_says_what_it_shows() {
        for chart in all() {
            let svg = chart.drawing(Paper::Page).unwrap();
            assert!(svg.contains("role=\"img\"") && svg.contains("<title>") && svg.contains("<desc>"), "{svg}");
            assert!(svg.len() < 4_000, "{}: {} bytes", chart.name, svg.len());
        }
    }

    #[test]
    fn every_colour_of_a_drawing_has_one_for_each_theme() {
        let style = include_str!("console.css");
        for chart in all() {
            let svg = chart.drawing(Paper::Page).unwrap();
            for part in svg.split(['"', '\'']).filter(|part| part.starts_with('#')) {
                assert!(style.contains(&format!("\"{part}\"")), "{}: {part} in {svg}", chart.name);
            }
            assert!(!svg.contains("rgb"), "{svg}");
        }
    }

    #[test]
    fn a_chart_of_nothing_is_not_drawn() {
        let chart = week(Chart::bars("bars", "Bars")).series("Leads", [0.0, 0.0, 0.0]);
        assert!(chart.drawing(Paper::Page).is_none());
        assert!(chart.render(FILES).into_string().contains("Nothing in this period."));
    }
}
