//! The drawings, as SVG.
//!
//! They have the colours of the light theme as attributes, since a page allows no inline styles. The stylesheet replaces
//! each of them by a custom property; what it does not know, a test finds.

use charts_rs::{
    Align, BarChart, Box as Edges, ChartBase, Color, FunnelChart, HeatmapChart, HorizontalBarChart, LineChart, Result,
    Series as Drawn, Symbol, TextConfig, YAxisConfig, svg_with_accessibility,
};

use super::{Chart, Kind, Series, Unit};
use crate::console::parts;

/// What a drawing is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paper {
    /// A page, whose stylesheet sets the colours.
    Page,
    /// White, in a file of its own.
    White,
}

const WIDTH: f32 = 480.0;
const HEIGHT: f32 = 200.0;
const FONT: &str = "system-ui, sans-serif";
const FONT_SIZE: f32 = 12.0;
/// The width of the names beside a drawing.
const NAMES: f32 = 130.0;
/// The height of a row of a ranking, a funnel or a heatmap.
const ROW: f32 = 26.0;
const AXIS: f32 = 28.0;
/// The steps of an axis.
const SPLITS: usize = 5;
/// More points than these have no marks.
const MARKED: usize = 31;

const SERIES: [&str; 6] = ["#2B52C4", "#B3541E", "#17795E", "#7A3E9D", "#A3346C", "#5A6675"];
/// The classes of a heatmap, from low to high.
const HEAT: [&str; 5] = ["#EEF2FC", "#D8E2FA", "#C0D0F6", "#A9BFF2", "#92AEEE"];
const TEXT: &str = "#1C2430";
const QUIET: &str = "#5A6675";
const LINE: &str = "#E0E4EA";
const STRONG_LINE: &str = "#858F9C";

/// Draws a chart.
///
/// # Errors
/// Those of the library, which needs labels.
pub(super) fn svg(chart: &Chart, paper: Paper) -> Result<String> {
    let svg = match chart.kind {
        Kind::Bars => bars(chart, paper),
        Kind::Lines => lines(chart, paper),
        Kind::Ranking => ranking(chart, paper),
        Kind::Funnel => funnel(chart, paper),
        Kind::Heatmap => heatmap(chart, paper),
    }?;
    Ok(lean(&svg))
}

/// Without the copies of the figures that the library writes as attributes for scripts, and without the cells of a
/// heatmap that have none.
fn lean(svg: &str) -> String {
    let mut lean = String::with_capacity(svg.len());
    for (at, piece) in svg.split('<').enumerate() {
        let (tag, text) = piece.split_once('>').unwrap_or((piece, ""));
        if tag.contains(" data-index=") && !tag.contains(" data-value=") {
            lean.push_str(text);
            continue;
        }
        if at > 0 {
            lean.push('<');
        }
        match tag.find(" data-") {
            // They are the last attributes, and `>` is escaped in all of them.
            Some(from) => lean.extend([&tag[..from], "/>", text]),
            None => lean.push_str(piece),
        }
    }
    lean
}

/// A drawing of nothing.
pub(super) fn blank(title: &str, says: &str) -> String {
    let svg = r#"<svg width="480" height="40" viewBox="0 0 480 40" xmlns="http://www.w3.org/2000/svg"></svg>"#;
    svg_with_accessibility(svg, title, says)
}

fn bars(chart: &Chart, paper: Paper) -> Result<String> {
    let mut drawing = BarChart::new(series(chart), chart.labels.clone());
    set(&mut drawing.base, chart, paper, HEIGHT);
    drawing.y_axis_configs = vec![axis(chart)];
    drawing.svg()
}

fn lines(chart: &Chart, paper: Paper) -> Result<String> {
    let mut drawing = LineChart::new(series(chart), chart.labels.clone());
    set(&mut drawing.base, chart, paper, HEIGHT);
    drawing.y_axis_configs = vec![axis(chart)];
    drawing.series_list.iter_mut().enumerate().for_each(|(at, series)| {
        let mark = Symbol::Circle(2.5, Some(SERIES[at % SERIES.len()].into()));
        series.symbol = Some(if chart.labels.len() > MARKED { Symbol::None } else { mark });
    });
    drawing.svg()
}

/// The library's names are as far from the bars as its own font is wide, so the names are written beside the bars.
fn ranking(chart: &Chart, paper: Paper) -> Result<String> {
    let first = chart.series.first().map(figures).unwrap_or_default();
    // From the bottom to the top.
    let values = first.iter().rev().map(|figure| Some(shown(chart.unit, *figure))).collect();
    let labels = chart.labels.iter().rev().cloned().collect();
    let mut drawing = HorizontalBarChart::new(vec![Drawn::new_nullable(String::new(), values)], labels);
    let height = rows(chart.labels.len());
    set(&mut drawing.base, chart, paper, height);
    drawing.margin = Edges { left: NAMES, right: 70.0, top: 0.0, bottom: 0.0 };
    drawing.legend.show = Some(false);
    drawing.x_axis.hidden = true;
    drawing.y_axis_hidden = true;
    drawing.grid.stroke_width = 0.0;
    let highest = first.iter().map(|figure| shown(chart.unit, *figure)).fold(0.0, f32::max);
    drawing.y_axis_configs = vec![YAxisConfig { max: Some(highest), ..axis(chart) }];
    drawing.texts = beside(chart.labels.iter(), first.iter().map(|figure| chart.unit.text(*figure)), height);
    drawing.svg()
}

/// The library writes the names over the stages, where they could not be read.
fn funnel(chart: &Chart, paper: Paper) -> Result<String> {
    let figures = chart.series.first().map(figures).unwrap_or_default();
    let stages = figures.iter().map(|figure| {
        let mut stage = Drawn::new(String::new(), vec![narrow(*figure)]);
        stage.index = Some(0);
        stage
    });
    let mut drawing = FunnelChart::new(stages.collect());
    let height = rows(chart.labels.len());
    set(&mut drawing.base, chart, paper, height);
    drawing.legend.show = Some(false);
    drawing.margin = Edges { left: NAMES, right: 130.0, top: 0.0, bottom: 0.0 };
    drawing.min_width = 2.0;
    drawing.funnel_align = Align::Center;
    drawing.series.label.formatter = " ".to_owned();
    let whole = figures.first().copied().unwrap_or_default();
    let share =
        |figure: f64| if whole > 0.0 { format!(" · {}", parts::percent(figure / whole)) } else { String::new() };
    let figures = figures.iter().map(|figure| format!("{}{}", chart.unit.text(*figure), share(*figure)));
    drawing.texts = beside(chart.labels.iter(), figures, height);
    drawing.svg()
}

/// The names of rows at the left, and their figures at the right.
fn beside<'a>(
    names: impl ExactSizeIterator<Item = &'a String>,
    figures: impl Iterator<Item = String>,
    height: f32,
) -> Vec<TextConfig> {
    let row = height / count(names.len().max(1));
    let mut texts = Vec::new();
    for (at, (name, figure)) in names.zip(figures).enumerate() {
        let top = row * count(at) + (row - FONT_SIZE) / 2.0;
        texts.push(text(short(name), top, TextConfig { left: Some(0.0), ..TextConfig::default() }));
        texts.push(text(figure, top, TextConfig { right: Some(2.0), ..TextConfig::default() }));
    }
    texts
}

fn text(text: String, top: f32, place: TextConfig) -> TextConfig {
    let mut config = TextConfig { text, top: Some(top), ..place };
    config.font.size = FONT_SIZE;
    config.font.color = QUIET.into();
    config
}

/// The rows from the first series at the top to the last.
fn heatmap(chart: &Chart, paper: Paper) -> Result<String> {
    let columns = chart.labels.len();
    let values = chart.series.iter().rev().enumerate().flat_map(|(row, series)| {
        let cells = series.values.iter().enumerate();
        cells.filter_map(move |(column, value)| Some((row * columns + column, shown(chart.unit, (*value)?))))
    });
    let mut drawing =
        HeatmapChart::new(values.collect(), chart.labels.clone(), vec![String::new(); chart.series.len()]);
    let height = rows(chart.series.len());
    set(&mut drawing.base, chart, paper, height + AXIS);
    drawing.y_axis_hidden = true;
    drawing.margin = Edges { left: 70.0, right: 2.0, top: 0.0, bottom: 0.0 };
    let nothing = std::iter::repeat_with(String::new);
    drawing.texts = beside(chart.series.iter().map(|series| &series.name), nothing, height);
    let scale = &mut drawing.heatmap_series;
    scale.colors = HEAT.map(Color::from).to_vec();
    scale.steps = HEAT.len();
    scale.min = 0.0;
    scale.max = scale.max.max(1.0);
    scale.min_font_color = TEXT.into();
    scale.max_font_color = TEXT.into();
    drawing.series.label.formatter = "{c}".to_owned();
    drawing.svg()
}

/// What all drawings have in common.
fn set(base: &mut ChartBase, chart: &Chart, paper: Paper, height: f32) {
    (base.width, base.height) = (WIDTH, height);
    base.margin = Edges { left: 4.0, right: 20.0, top: 8.0, bottom: 0.0 };
    base.background_color = if paper == Paper::White { Color::white() } else { Color::transparent() };
    base.font_family = FONT.to_owned();
    base.compact = true;
    base.series.colors = SERIES.map(Color::from).to_vec();
    base.grid.stroke_color = LINE.into();
    base.x_axis.stroke_color = STRONG_LINE.into();
    base.x_axis.height = AXIS;
    base.legend.show = Some(chart.series.len() > 1 && chart.kind != Kind::Heatmap);
    for font in [&mut base.x_axis.font, &mut base.legend.font, &mut base.series.label.font] {
        (font.size, font.color) = (FONT_SIZE, QUIET.into());
    }
}

/// The axis of the figures: steps of a round number, with no fractions of records.
fn axis(chart: &Chart) -> YAxisConfig {
    let highest = chart.series.iter().flat_map(figures).map(|figure| shown(chart.unit, figure)).fold(0.0, f32::max);
    let mut axis = YAxisConfig { split_number: SPLITS, name_gap: 8.0, ..YAxisConfig::default() };
    (axis.min, axis.max) = (Some(0.0), Some(count(SPLITS) * step(highest / count(SPLITS))));
    (axis.font.size, axis.font.color) = (FONT_SIZE, QUIET.into());
    axis.stroke_color = Color::transparent();
    axis.formatter = Some(if chart.unit == Unit::Share { "{c} %" } else { "{t}" }.to_owned());
    axis
}

/// The next of 1, 2, 5, 10, 20, 50, ….
fn step(least: f32) -> f32 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if step >= least || !least.is_finite() {
            break;
        }
        step *= factor;
    }
    step
}

fn series(chart: &Chart) -> Vec<Drawn> {
    let drawn = |series: &Series| {
        let values = series.values.iter().map(|value| value.map(|value| shown(chart.unit, value)));
        Drawn::new_nullable(series.name.clone(), values.collect())
    };
    chart.series.iter().map(drawn).collect()
}

fn figures(series: &Series) -> Vec<f64> {
    series.values.iter().map(|value| value.unwrap_or_default()).collect()
}

/// A figure as it is drawn: shares as whole percentages.
fn shown(unit: Unit, value: f64) -> f32 {
    narrow(if unit == Unit::Share { (value * 100.0).round() } else { value })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a drawing has no 2^24 points, and its table has the figure itself"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[expect(clippy::cast_precision_loss, reason = "a drawing has no 2^24 rows")]
fn count(rows: usize) -> f32 {
    rows as f32
}

fn rows(count_of_rows: usize) -> f32 {
    count(count_of_rows) * ROW
}

/// A label that leaves room for the drawing.
fn short(label: &str) -> String {
    const MOST: usize = 18;
    if label.chars().count() <= MOST { label.to_owned() } else { label.chars().take(MOST - 1).chain(['…']).collect() }
}
