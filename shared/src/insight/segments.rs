//! Segments: eleven groups of customers by how recently, how often and how much they bought.

mod report;
mod thresholds;

use crate::crm::customers::Segment;

pub use report::{BandGroup, Changes, Group, Move, Past, SegmentFigures, SegmentReport, ThresholdFigures};
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

    /// What the customers of the segment have in common, for people.
    pub fn definition(self) -> &'static str {
        match self {
            Self::Champions => {
                "Bought very recently, and are among those who buy most often and in the largest quantities."
            }
            Self::Loyal => "Buy often or in large quantities, and bought not long ago.",
            Self::Active => "Buy now and then, and bought not long ago.",
            Self::New => "Bought very recently, once or twice and in small quantities.",
            Self::Promising => "Bought recently, once or twice and in small quantities.",
            Self::NeedsAttention => "Bought rarely and in small quantities, some time ago.",
            Self::AtRisk => "Used to buy often or in large quantities, but have not bought for a long time.",
            Self::PreviouslyLoyal => "Were among those who bought most, but have not bought for a very long time.",
            Self::AlmostLost => "Bought rarely and in small quantities, a long time ago.",
            Self::Dormant => "Bought little, a very long time ago.",
            Self::Prospects => "Have no orders in the last 24 months, except cancelled ones.",
        }
    }

    /// The scores of customers in the segment; `None` for prospects, who have none.
    pub fn scores(self) -> Option<String> {
        let cells = (1..=5).rev().filter_map(|recency| {
            let is_mine = |value: &usize| GRID[recency - 1][*value - 1] == self;
            let values: Vec<String> = (1..=5).filter(is_mine).map(|value| value.to_string()).collect();
            (!values.is_empty()).then(|| format!("recency {recency} and value {}", values.join(" or ")))
        });
        Some(cells.collect::<Vec<_>>().join("; or ")).filter(|scores| !scores.is_empty())
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
    fn every_segment_is_defined_in_words_and_by_its_cells() {
        assert_eq!(Champions.scores().unwrap(), "recency 5 and value 4 or 5; or recency 4 and value 5");
        assert_eq!(AtRisk.scores().unwrap(), "recency 2 and value 3 or 4 or 5");
        assert_eq!(Segment::Prospects.scores(), None);
        let mut definitions: Vec<&str> = Segment::ALL.iter().map(|segment| segment.definition()).collect();
        assert!(definitions.iter().all(|definition| definition.ends_with('.')));
        definitions.sort_unstable();
        definitions.dedup();
        assert_eq!(definitions.len(), Segment::ALL.len());
    }
}
