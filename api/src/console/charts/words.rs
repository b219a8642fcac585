//! What a chart shows, in a sentence.

use super::{Chart, Kind, Series};

impl Chart {
    /// What is to be seen, for those who do not see the drawing.
    pub(super) fn says(&self) -> String {
        if !self.has_figures() {
            return "Nothing in this period.".to_owned();
        }
        match self.kind {
            Kind::Bars | Kind::Lines => self.sentences(|series| self.over_time(series)),
            // The others are in the table only.
            Kind::Ranking => self.series.first().and_then(|series| self.extremes(series)).unwrap_or_default(),
            Kind::Funnel => self.series.first().and_then(|series| self.ends(series)).unwrap_or_default(),
            Kind::Heatmap => self.of_cells(),
        }
    }

    fn sentences(&self, sentence: impl Fn(&Series) -> Option<String>) -> String {
        let sentences: Vec<String> = self.series.iter().filter_map(sentence).collect();
        sentences.join(" ")
    }

    /// The figures that are known, with their labels.
    fn known<'a>(&'a self, series: &'a Series) -> impl DoubleEndedIterator<Item = (&'a str, f64)> {
        let values = self.labels.iter().zip(&series.values);
        values.filter_map(|(label, value)| Some((label.as_str(), (*value)?)))
    }

    fn over_time(&self, series: &Series) -> Option<String> {
        let (highest, lowest) = (self.highest(series)?, self.lowest(series)?);
        let last = self.known(series).next_back()?;
        let name = &series.name;
        let (highest, lowest, last) = (self.at(highest), self.at(lowest), self.at(last));
        Some(format!("{name}: highest {highest}, lowest {lowest}, last {last}."))
    }

    fn extremes(&self, series: &Series) -> Option<String> {
        let ((most, highest), (least, lowest)) = (self.highest(series)?, self.lowest(series)?);
        let (highest, lowest) = (self.unit.text(highest), self.unit.text(lowest));
        Some(format!("{}: most in {most} ({highest}), least in {least} ({lowest}).", series.name))
    }

    fn ends(&self, series: &Series) -> Option<String> {
        let (first, last) = (self.known(series).next()?, self.known(series).next_back()?);
        Some(format!("From {} {} to {} {}.", self.unit.text(first.1), first.0, self.unit.text(last.1), last.0))
    }

    fn of_cells(&self) -> String {
        let mut cells = Vec::new();
        for series in &self.series {
            cells.extend(self.known(series).map(|(label, value)| (series.name.as_str(), label, value)));
        }
        cells.sort_by(|one, other| one.2.total_cmp(&other.2));
        let (highest, lowest) = (cells.last().copied(), cells.first().copied());
        let Some((highest, lowest)) = highest.zip(lowest) else { return String::new() };
        let text = |(row, column, value): (&str, &str, f64)| format!("{} ({row}, {column})", self.unit.text(value));
        format!("Highest {}, lowest {}.", text(highest), text(lowest))
    }

    fn highest<'a>(&'a self, series: &'a Series) -> Option<(&'a str, f64)> {
        // The first of equal ones.
        self.known(series).rev().max_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn lowest<'a>(&'a self, series: &'a Series) -> Option<(&'a str, f64)> {
        self.known(series).min_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn at(&self, (label, value): (&str, f64)) -> String {
        format!("{} ({label})", self.unit.text(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_is_to_be_seen() {
        let days = || ["Mo", "Tu", "We"].map(str::to_owned);
        let chart = Chart::bars("a", "Leads").of("Day", days()).series("Leads", [2.0, 5.0, 5.0]);
        assert_eq!(chart.says(), "Leads: highest 5 (Tu), lowest 2 (Mo), last 5 (We).");
        let chart = Chart::funnel("a", "Funnel").of("Stage", days()).series("Leads", [9.0, 5.0, 1.0]);
        assert_eq!(chart.says(), "From 9 Mo to 1 We.");
        let chart = Chart::ranking("a", "Sources").of("Source", days()).series("Leads", [9.0, 5.0, 1.0]);
        assert_eq!(chart.says(), "Leads: most in Mo (9), least in We (1).");
        let chart = Chart::heatmap("a", "Cohorts").of("Month", days()).series("May", [Some(9.0), None, Some(1.0)]);
        assert_eq!(chart.says(), "Highest 9 (May, Mo), lowest 1 (May, We).");
    }
}
