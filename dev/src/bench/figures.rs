//! The output of a benchmark: each sample and figure as a line of JSON on standard output, and finally a
//! table of the figures on standard error.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// The bound of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// The figure must be at least this.
    AtLeast(f64),
    /// The figure must be at most this.
    AtMost(f64),
    /// The figure is only reported.
    None,
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::None => true,
        }
    }
}

/// The figures of one benchmark.
#[derive(Debug)]
pub struct Figures {
    bench: &'static str,
    settings: Value,
    rows: Vec<[String; 5]>,
    all_met: bool,
}

impl Figures {
    /// Creates an empty list of figures. Each printed line contains the settings.
    pub fn new(bench: &'static str, settings: Value) -> Self {
        Self { bench, settings, rows: Vec::new(), all_met: true }
    }

    /// Prints one sample.
    pub fn sample(&self, sample: Value) {
        self.print(json!({ "sample": sample }));
    }

    /// Adds a figure without a comparison.
    pub fn alone(&mut self, figure: &str, value: f64, unit: &str, bound: Bound) {
        let met = bound.is_met(value);
        self.print(json!({ "figure": figure, "value": value, "unit": unit, "bound": text(bound), "met": met }));
        self.row([
            figure.into(),
            format!("{} {unit}", short(value)),
            String::new(),
            String::new(),
            verdict(bound, met),
        ]);
    }

    /// Adds a figure with a comparison; the bound applies to the ratio.
    pub fn ratio(&mut self, figure: &str, (ours, theirs): (f64, f64), unit: &str, compared_to: &str, bound: Bound) {
        let ratio = ours / theirs;
        let met = bound.is_met(ratio);
        self.print(json!({
            "figure": figure, "value": ours, "unit": unit, "compared_to": compared_to, "beside": theirs,
            "ratio": ratio, "bound": text(bound), "met": met,
        }));
        self.row([
            figure.into(),
            format!("{} {unit}", short(ours)),
            format!("{compared_to}: {} {unit}", short(theirs)),
            format!("{ratio:.2}"),
            verdict(bound, met),
        ]);
    }

    fn row(&mut self, row: [String; 5]) {
        self.all_met &= !row[4].ends_with("MISSED");
        self.rows.push(row);
    }

    fn print(&self, line: Value) {
        let mut whole = Map::from_iter([("bench".to_owned(), self.bench.into())]);
        if let Value::Object(line) = line {
            whole.extend(line);
        }
        whole.insert("settings".to_owned(), self.settings.clone());
        println!("{}", Value::Object(whole));
    }

    /// Prints the table; returns success if all figures meet their bounds.
    pub fn table(&self) -> ExitCode {
        let header = ["figure", "measured", "compared to", "ratio", "must be"].map(str::to_owned);
        let rows: Vec<&[String; 5]> = std::iter::once(&header).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4].map(width);
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} |"));
            eprintln!("|{}", cells.collect::<String>());
            if number == 0 {
                eprintln!("|{}", widths.map(|width| "-".repeat(width + 2) + "|").concat());
            }
        }
        if self.all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn text(bound: Bound) -> Option<String> {
    match bound {
        Bound::AtLeast(bound) => Some(format!("≥ {bound}")),
        Bound::AtMost(bound) => Some(format!("≤ {bound}")),
        Bound::None => None,
    }
}

fn verdict(bound: Bound, met: bool) -> String {
    text(bound).map_or_else(String::new, |text| text + if met { ", met" } else { ", MISSED" })
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The smallest value that is at least as large as `share` of the values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The median of the values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
