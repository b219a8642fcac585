//! Rates with their numerator and denominator, and comparisons with the period before.

use serde::Serialize;
use utoipa::ToSchema;

/// A rate with its numerator and denominator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Rate {
    /// The numerator.
    pub numerator: i64,
    /// The denominator.
    pub denominator: i64,
    /// `numerator` / `denominator`; `null` if the denominator is 0.
    pub rate: Option<f64>,
}

impl Rate {
    /// Divides the numerator by the denominator.
    pub fn new(numerator: i64, denominator: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
        let rate = (denominator != 0).then(|| numerator as f64 / denominator as f64);
        Self { numerator, denominator, rate }
    }
}

/// A number and that of the period before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    /// The number of the period; `null` if it is unknown.
    pub value: Option<f64>,
    /// The number of the period before.
    pub before: Option<f64>,
    /// `value` − `before`; `null` unless both are known.
    pub change: Option<f64>,
    /// The change divided by `before`; `null` also if that is 0.
    pub relative_change: Option<f64>,
}

impl Comparison {
    /// Compares two numbers.
    pub fn new(value: Option<f64>, before: Option<f64>) -> Self {
        let change = value.zip(before).map(|(value, before)| value - before);
        let relative_change = change.zip(before).filter(|(_, before)| *before != 0.0).map(|(by, of)| by / of);
        Self { value, before, change, relative_change }
    }

    /// Compares two counts.
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    pub fn of_counts(value: i64, before: i64) -> Self {
        Self::new(Some(value as f64), Some(before as f64))
    }
}

/// A rate and that of the period before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct RateComparison {
    /// The rate of the period.
    pub value: Rate,
    /// The rate of the period before.
    pub before: Rate,
    /// The difference of the two rates; `null` unless both are known.
    pub change: Option<f64>,
}

impl RateComparison {
    /// Compares two rates.
    pub fn new(value: Rate, before: Rate) -> Self {
        let change = value.rate.zip(before.rate).map(|(value, before)| value - before);
        Self { value, before, change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_without_a_denominator_is_null() {
        assert_eq!(Rate::new(0, 0).rate, None);
        assert_eq!(Rate::new(1, 4).rate, Some(0.25));
    }

    #[test]
    fn a_change_needs_both_numbers() {
        assert_eq!(Comparison::of_counts(3, 4).relative_change, Some(-0.25));
        assert_eq!(
            Comparison::of_counts(3, 0),
            Comparison { value: Some(3.0), before: Some(0.0), change: Some(3.0), relative_change: None }
        );
        assert_eq!(Comparison::new(Some(1.0), None).change, None);
    }
}
