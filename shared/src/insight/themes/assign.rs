//! Assigning themes to comments.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::phrase::Phrase;

/// Finds themes by the keys of their phrases.
#[derive(Debug, Clone, Default)]
pub struct Assigner(HashMap<String, Uuid>);

impl Assigner {
    /// Creates an assigner from themes and their keys. A key of two themes belongs to the first one.
    pub fn new<'a>(themes: impl IntoIterator<Item = (Uuid, &'a [String])>) -> Self {
        let mut assigner = Self::default();
        for (id, keys) in themes {
            for key in keys {
                assigner.0.entry(key.clone()).or_insert(id);
            }
        }
        assigner
    }

    /// The themes of a comment in the order of their ids, each with its sentiment in hundredths: the mean of
    /// the sentiment of the words, by the lexicon, and of the rating.
    pub fn themes_of(&self, rating: i16, phrases: &[Phrase]) -> Vec<(Uuid, i16)> {
        let mut moods = BTreeMap::<Uuid, (i64, i64)>::new();
        for phrase in phrases {
            if let Some(id) = self.0.get(&phrase.key) {
                let (sum, count) = moods.entry(*id).or_default();
                *sum += phrase.mood.map_or(0, i64::from);
                *count += i64::from(phrase.mood.is_some());
            }
        }
        moods.into_iter().map(|(id, (sum, count))| (id, blend(rating, (count > 0).then(|| sum / count)))).collect()
    }
}

/// The mean of the sentiment of the words and of the rating: 1 is -100, 3 is 0, 5 is 100.
fn blend(rating: i16, mood: Option<i64>) -> i16 {
    let rated = i64::from(rating - 3) * 50;
    let blended = mood.map_or(rated, |mood| (mood + rated) / 2);
    i16::try_from(blended.clamp(-100, 100)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(key: &str, mood: Option<i16>) -> Phrase {
        Phrase { key: key.into(), form: key.into(), firm: true, name: false, mood }
    }

    #[test]
    fn a_comment_has_each_theme_once_with_its_mean_mood() {
        let (sound, price) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let keys = [vec!["sound".to_owned(), "sound qualiti".to_owned()], vec!["price".to_owned(), "sound".to_owned()]];
        let assigner = Assigner::new([(sound, keys[0].as_slice()), (price, keys[1].as_slice())]);
        let phrases = [phrase("sound", Some(60)), phrase("sound qualiti", Some(20)), phrase("box", None)];
        assert_eq!(assigner.themes_of(5, &phrases), [(sound, 70)]);
        assert_eq!(assigner.themes_of(1, &[phrase("price", None)]), [(price, -100)]);
    }
}
