//! Segments: eleven groups of customers by how recently, how often and how much they bought.

mod report;
mod thresholds;

use std::fmt::Write;

use crate::crm::customers::Segment;

pub use report::{BandGroup, Changes, CutFigures, Group, Move, Past, SegmentFigures, SegmentReport, report};
pub use thresholds::Thresholds;

use Segment::{Active, AlmostLost, AtRisk, Champions, Dormant, Loyal, NeedsAttention, New, PreviouslyLoyal, Promising};

/// The segment for each recency and value, both from 1 to 5.
const GRID: [[Segment; 5]; 5] = [
    [Dormant, Dormant, Dormant, PreviouslyLoyal, PreviouslyLoyal],
    [AlmostLost, AlmostLost, AtRisk, AtRisk, AtRisk],
    [NeedsAttention, NeedsAttention, Active, Loyal, Loyal],
    [Promising, Active, Loyal, Loyal, Champions],
    [New, Active, Loyal, Champions, Champions],
];

/// The value of a customer: the mean of the frequency and monetary scores, rounded half up.
fn value(frequency: usize, monetary: usize) -> usize {
    (frequency + monetary).div_ceil(2)
}

impl Segment {
    /// The segment of a customer with orders, by the three scores, which are clamped to 1 to 5.
    pub fn of(recency: usize, frequency: usize, monetary: usize) -> Self {
        let [recency, frequency, monetary] = [recency, frequency, monetary].map(|score| score.clamp(1, 5));
        GRID[recency - 1][value(frequency, monetary) - 1]
    }

    /// The segments for lookups in SQL: by `(recency - 1) * 5 + value`, counted from 1.
    pub(crate) fn grid() -> Vec<&'static str> {
        GRID.iter().flatten().map(|segment| segment.as_str()).collect()
    }

    /// The scores of customers in the segment, for people.
    pub fn definition(self) -> String {
        if self == Self::Prospects {
            return "no orders in the last 24 months, except cancelled ones".into();
        }
        let mut definition = String::new();
        for recency in (1..=5).rev() {
            let values: Vec<String> =
                (1..=5).filter(|value| GRID[recency - 1][value - 1] == self).map(|value| value.to_string()).collect();
            if !values.is_empty() {
                let separator = if definition.is_empty() { "" } else { "; or " };
                // Writing to a string cannot fail.
                let _ = write!(definition, "{separator}recency {recency} and value {}", values.join(" or "));
            }
        }
        definition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented table, independent of the code: by recency, then by value.
    const DEFINED: &str = "
        5 new active loyal champions champions
        4 promising active loyal loyal champions
        3 needs_attention needs_attention active loyal loyal
        2 almost_lost almost_lost at_risk at_risk at_risk
        1 dormant dormant dormant previously_loyal previously_loyal";

    #[test]
    fn each_of_the_125_cells_has_the_documented_segment() {
        let defined: Vec<Vec<&str>> = DEFINED.trim().lines().map(|line| line.split_whitespace().collect()).collect();
        let mut cells = 0;
        let mut found = std::collections::HashSet::new();
        for r in 1..=5_usize {
            for f in 1..=5_usize {
                for m in 1..=5_usize {
                    let value = (f64::from(u8::try_from(f + m + 1).unwrap()) / 2.0).floor() as usize;
                    let row = defined.iter().find(|row| row[0] == r.to_string()).unwrap();
                    assert_eq!(Segment::of(r, f, m).as_str(), row[value], "R {r}, F {f}, M {m}");
                    assert_eq!(Segment::grid()[(r - 1) * 5 + value - 1], row[value]);
                    found.insert(Segment::of(r, f, m));
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, 125);
        // All but prospects, who have no scores.
        assert_eq!(found.len(), Segment::ALL.len() - 1);
        assert!(!found.contains(&Segment::Prospects));
    }

    #[test]
    fn a_definition_lists_the_cells_of_a_segment() {
        assert_eq!(Champions.definition(), "recency 5 and value 4 or 5; or recency 4 and value 5");
        assert_eq!(AtRisk.definition(), "recency 2 and value 3 or 4 or 5");
        assert!(Segment::ALL.iter().all(|segment| !segment.definition().is_empty()));
    }
}
