//! Headline figures with their formula, and their change.

use maud::{Markup, html};
use serde::Deserialize;

use super::charts::Unit;
use super::parts;

/// A rate of the API.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Rate {
    pub numerator: f64,
    pub denominator: f64,
    pub rate: Option<f64>,
}

/// A number and that of the period before.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Comparison {
    pub value: Option<f64>,
    pub before: Option<f64>,
}

/// A rate and that of the period before.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct RateComparison {
    pub value: Rate,
    pub before: Rate,
}

/// A mean and a median.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Spread {
    pub mean: Option<f64>,
    pub median: Option<f64>,
}

/// The figures of an interval.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct IntervalCount {
    label: String,
    partial: bool,
    pub count: f64,
}

/// The name of an interval, with a star if it is not counted as a whole.
pub(crate) fn interval(label: &str, partial: bool) -> String {
    if partial { format!("{label}*") } else { label.to_owned() }
}

impl IntervalCount {
    /// The name of the interval.
    pub fn name(&self) -> String {
        interval(&self.label, self.partial)
    }
}

/// A headline figure.
#[derive(Debug)]
pub(crate) struct Figure {
    label: &'static str,
    unit: Unit,
    value: Option<f64>,
    before: Option<Option<f64>>,
    note: Option<String>,
    formula: Option<&'static str>,
}

impl Figure {
    /// A figure with what people call it.
    pub fn new(label: &'static str, unit: Unit, value: impl Into<Option<f64>>) -> Self {
        Self { label, unit, value: value.into(), before: None, note: None, formula: None }
    }

    /// A rate with its numerator and denominator.
    pub fn rate(label: &'static str, Rate { numerator, denominator, rate }: Rate) -> Self {
        let text = |value: f64| Unit::Count.text(value);
        Self::new(label, Unit::Share, rate).note(format!("{} of {}", text(numerator), text(denominator)))
    }

    /// A number and that of the period before.
    pub fn compared(label: &'static str, unit: Unit, Comparison { value, before }: Comparison) -> Self {
        Self::new(label, unit, value).against(Some(before))
    }

    /// A rate and that of the period before.
    pub fn rates(label: &'static str, rates: RateComparison) -> Self {
        Self::rate(label, rates.value).against(Some(rates.before.rate))
    }

    /// Compared with another one, if there is a comparison at all.
    pub fn against(self, before: Option<Option<f64>>) -> Self {
        Self { before, ..self }
    }

    /// With what else is to be known.
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// With how it is computed.
    pub fn formula(self, formula: &'static str) -> Self {
        Self { formula: Some(formula), ..self }
    }

    fn change(&self) -> Option<String> {
        let (value, before) = self.value.zip(self.before?)?;
        Some(change(self.unit, value, before))
    }
}

/// A change in words: shares in points, numbers in percent of the figure before.
fn change(unit: Unit, value: f64, before: f64) -> String {
    let was = unit.text(before);
    if (value - before).abs() < f64::EPSILON {
        return format!("unchanged from {was}");
    }
    let sign = if value > before { "+" } else { "−" };
    let by = match unit {
        Unit::Share | Unit::Points => format!("{:.1} points", ((value - before) * 100.0).abs()),
        _ if before > 0.0 => parts::percent(((value - before) / before).abs()),
        _ => unit.text((value - before).abs()),
    };
    format!("{sign}{by} from {was}")
}

/// Figures side by side.
pub(crate) fn figures(figures: &[Figure]) -> Markup {
    html! {
        div.figures {
            @for figure in figures {
                div.figure {
                    p.quiet { (figure.label) }
                    p.value {
                        @match figure.value {
                            Some(value) => (figure.unit.text(value)),
                            None => (parts::text_or_dash(None)),
                        }
                    }
                    @if let Some(note) = &figure.note { p.change { (note) } }
                    @if let Some(change) = figure.change() { p.change { (change) } }
                    @if let Some(formula) = figure.formula { p.formula { code { (formula) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_points_for_shares_and_in_percent_for_numbers() {
        let text = |unit, value, before| change(unit, value, before).replace('\u{202f}', " ");
        assert_eq!(text(Unit::Count, 1_200.0, 1_000.0), "+20.0 % from 1 000");
        assert_eq!(text(Unit::Count, 3.0, 0.0), "+3 from 0");
        assert_eq!(text(Unit::Count, 3.0, 3.0), "unchanged from 3");
        assert_eq!(text(Unit::Share, 0.25, 0.5), "−25.0 points from 50.0 %");
        assert_eq!(text(Unit::Decimal, -0.6, -0.2), "−0.4 from −0.2");
        assert_eq!(text(Unit::Points, -0.1, 0.05), "−15.0 points from +5.0");
    }
}
