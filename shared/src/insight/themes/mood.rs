//! How a text sounds, by the words of VADER's lexicon with its rules of negation, emphasis and "but".
//!
//! Hutto, Gilbert: VADER, a parsimonious rule-based model for sentiment analysis of social media
//! text (ICWSM 2014). The lexicon is English, and knows emoji.

use std::sync::LazyLock;

use vader_sentimental::SentimentIntensityAnalyzer;

static ANALYZER: LazyLock<SentimentIntensityAnalyzer<'static>> = LazyLock::new(SentimentIntensityAnalyzer::new);

/// The mood of a text in hundredths, from -100 to 100: VADER's compound score.
pub(super) fn of(text: &str) -> i16 {
    let compound = ANALYZER.polarity_scores(text).compound;
    if compound.is_finite() { (compound * 100.0).round() as i16 } else { 0 }
}

/// How strongly one word judges, from -4 to 4, as the people asked by the lexicon's authors said.
pub(super) fn valence(word: &str) -> f64 {
    // The analyzer gives the compound v / √(v² + 15); this is its inverse.
    let compound = ANALYZER.polarity_scores(word).compound.clamp(-0.99, 0.99);
    compound * 15f64.sqrt() / (1.0 - compound * compound).sqrt()
}
