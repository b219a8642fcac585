//! Rates with what they are made of, and figures beside those of the period before.

use serde::Serialize;
use utoipa::ToSchema;

/// A share: how many of how many. There is none of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Rate {
    /// How many.
    pub numerator: i64,
    /// Of how many.
    pub denominator: i64,
    /// The one divided by the other; `null` if there are none.
    pub rate: Option<f64>,
}

impl Rate {
    /// `numerator` of `denominator`.
    pub fn new(numerator: i64, denominator: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
        let rate = (denominator != 0).then(|| numerator as f64 / denominator as f64);
        Self { numerator, denominator, rate }
    }
}

/// A number beside that of the period before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    /// In the period; `null` if nothing is known.
    pub value: Option<f64>,
    /// In the period before.
    pub before: Option<f64>,
    /// `value` − `before`; `null` unless both are known.
    pub change: Option<f64>,
    /// The change divided by `before`; `null` also if that is 0.
    pub relative_change: Option<f64>,
}

impl Comparison {
    /// A number and the one before.
    pub fn new(value: Option<f64>, before: Option<f64>) -> Self {
        let change = value.zip(before).map(|(value, before)| value - before);
        let relative_change = change.zip(before).filter(|(_, before)| *before != 0.0).map(|(by, of)| by / of);
        Self { value, before, change, relative_change }
    }

    /// The same of two numbers of things.
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    pub fn of_counts(value: i64, before: i64) -> Self {
        Self::new(Some(value as f64), Some(before as f64))
    }
}

/// A rate beside that of the period before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct RateComparison {
    /// In the period.
    pub value: Rate,
    /// In the period before.
    pub before: Rate,
    /// The difference of the two rates; `null` unless there are both.
    pub change: Option<f64>,
}

impl RateComparison {
    /// A rate and the one before.
    pub fn new(value: Rate, before: Rate) -> Self {
        let change = value.rate.zip(before.rate).map(|(value, before)| value - before);
        Self { value, before, change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_there_is_no_rate() {
        assert_eq!(Rate::new(0, 0).rate, None);
        assert_eq!(Rate::new(1, 4).rate, Some(0.25));
    }

    #[test]
    fn a_change_is_known_when_both_are() {
        assert_eq!(Comparison::of_counts(3, 4).relative_change, Some(-0.25));
        assert_eq!(
            Comparison::of_counts(3, 0),
            Comparison { value: Some(3.0), before: Some(0.0), change: Some(3.0), relative_change: None }
        );
        assert_eq!(Comparison::new(Some(1.0), None).change, None);
    }
}
