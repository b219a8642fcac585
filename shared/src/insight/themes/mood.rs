//! The sentiment of a text by VADER's lexicon and rules for negation, emphasis and "but".
//!
//! Hutto, Gilbert: VADER, a parsimonious rule-based model for sentiment analysis of social media
//! text (ICWSM 2014). The lexicon is English and includes emoji.

use std::sync::LazyLock;

use vader_sentimental::SentimentIntensityAnalyzer;

static ANALYZER: LazyLock<SentimentIntensityAnalyzer<'static>> = LazyLock::new(SentimentIntensityAnalyzer::new);

/// The sentiment of a text in hundredths, from -100 to 100: VADER's compound score.
pub(super) fn of(text: &str) -> i16 {
    let compound = ANALYZER.polarity_scores(text).compound;
    if compound.is_finite() { (compound * 100.0).round() as i16 } else { 0 }
}

/// The valence of a word in the lexicon, from -4 to 4.
pub(super) fn valence(word: &str) -> f64 {
    // The analyzer returns the compound v / √(v² + 15); this is the inverse.
    let compound = ANALYZER.polarity_scores(word).compound.clamp(-0.99, 0.99);
    compound * 15f64.sqrt() / (1.0 - compound * compound).sqrt()
}
