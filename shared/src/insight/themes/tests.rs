//! Tests of the themes of whole sets of comments.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::select::{Ratings, weight};
use super::*;

/// Finds the themes of comments with their ratings, like the worker.
fn themes(comments: &[(u8, &str)], categories: &[&str]) -> Vec<Found> {
    let usual = usual(comments.iter().map(|(_, comment)| *comment));
    let readings: Vec<Reading> = comments.iter().map(|(_, comment)| read(comment, usual)).collect();
    let mut counter = Counter::default();
    readings.iter().for_each(|reading| counter.add(&reading.phrases));
    let mut corpus = Corpus::new(counter);
    comments.iter().zip(&readings).for_each(|((rating, _), reading)| corpus.add(*rating, &reading.phrases));
    let silent: Vec<Vec<String>> = categories.iter().map(|name| usual.stems(name)).collect();
    choose(&corpus, &silent)
}

fn labels(found: &[Found]) -> Vec<&str> {
    found.iter().map(|theme| theme.label.as_str()).collect()
}

/// Sixty reviews of a coffee machine.
fn reviews() -> Vec<(u8, String)> {
    let file = include_str!("samples/reviews.csv");
    let mut reader = csv::Reader::from_reader(file.as_bytes());
    reader.records().map(|row| row.unwrap()).map(|row| (row[0].parse().unwrap(), row[1].to_owned())).collect()
}

fn borrowed(reviews: &[(u8, String)]) -> Vec<(u8, &str)> {
    reviews.iter().map(|(rating, comment)| (*rating, comment.as_str())).collect()
}

#[test]
fn the_themes_of_sixty_reviews_are_their_topics() {
    let reviews = reviews();
    let found = themes(&borrowed(&reviews), &[]);
    assert_eq!(
        labels(&found)[..12],
        [
            "set up",
            "water tank",
            "customer service",
            "milk foam",
            "milk frother",
            "espresso",
            "coffee",
            "drip tray",
            "grinder",
            "taste",
            "machine",
            "price"
        ]
    );
    let (labels, unique): (Vec<&str>, BTreeSet<&str>) = (labels(&found), labels(&found).into_iter().collect());
    assert_eq!(labels.len(), unique.len());
    for opinion in ["great", "love", "good", "machine is", "the", "easy", "quick", "problem", "week", "year"] {
        assert!(!labels.contains(&opinion), "{labels:?}");
    }
}

#[test]
fn inflections_and_spellings_are_one_theme() {
    let found = themes(
        &[
            (5, "The setup was easy and my songs play well"),
            (4, "Easy to set up. Every song sounds good"),
            (5, "Set-up in minutes, my favorite song at once"),
            (3, "I had to set up the thing twice, and the songs are gone"),
        ],
        &[],
    );
    let set_up = found.iter().find(|theme| theme.label == "set up").unwrap();
    assert_eq!((set_up.count, set_up.keys.as_slice()), (4, ["set up".to_owned(), "setup".to_owned()].as_slice()));
    assert!(found.iter().any(|theme| theme.key == "song" && theme.count == 4), "{found:?}");
}

#[test]
fn names_of_categories_are_not_themes() {
    let comments = [
        (5, "The charcoal fabric is soft, and the speaker is loud"),
        (4, "Charcoal fabric looks fine, and this speaker is louder"),
        (2, "The speaker is broken, and the charcoal fabric has a hole"),
    ];
    assert!(labels(&themes(&comments, &[])).contains(&"charcoal fabric"));
    assert_eq!(labels(&themes(&comments, &["Charcoal Fabric"])), ["speaker"]);
}

#[test]
fn german_and_french_reviews_have_themes() {
    let german = [
        (5, "Das Zimmer war sauber und das Frühstück reichhaltig. Sehr freundliches Personal!"),
        (4, "Gutes Frühstück, aber das Zimmer war etwas klein."),
        (2, "Die Zimmer sind laut, man hört die Straße. Der Parkplatz kostet extra."),
        (5, "Das Personal ist sehr hilfsbereit, die Lage ist perfekt."),
        (3, "Die Lage ist gut, das WLAN war leider sehr langsam."),
        (1, "Kein Parkplatz, kein WLAN und das Personal war unfreundlich."),
        (5, "Wir haben uns im Hotel sehr wohl gefühlt, das Frühstück war toll."),
    ];
    let found = themes(&german, &[]);
    let found: BTreeSet<&str> = labels(&found).into_iter().collect();
    assert!(
        ["Zimmer", "Frühstück", "Personal", "Lage", "WLAN", "Parkplatz"].iter().all(|label| found.contains(label)),
        "{found:?}"
    );
    assert!(!["sehr", "freundliches", "gutes", "war", "leider"].iter().any(|label| found.contains(label)), "{found:?}");
    let french = [
        (5, "La chambre était propre et le petit déjeuner copieux. Le personnel est très accueillant !"),
        (4, "Le petit déjeuner est bon mais la chambre est un peu petite."),
        (2, "Les chambres sont bruyantes, on entend la rue. Le parking est payant."),
        (5, "Le personnel est adorable et l'emplacement est parfait."),
        (3, "Un bon emplacement, mais la connexion wifi est très lente."),
        (1, "Pas de parking, le wifi ne marche pas et le personnel est désagréable."),
        (5, "Nous avons adoré la chambre, et le petit déjeuner était délicieux."),
    ];
    let found = themes(&french, &[]);
    let found: BTreeSet<&str> = labels(&found).into_iter().collect();
    assert!(
        ["petit déjeuner", "personnel", "emplacement", "parking", "wifi"].iter().all(|label| found.contains(label)),
        "{found:?}"
    );
    assert!(found.iter().any(|label| label.starts_with("chambre")), "{found:?}");
    assert!(!["très", "propre", "bon", "est", "nous"].iter().any(|label| found.contains(label)), "{found:?}");
}

#[test]
fn a_negation_reverses_the_mood() {
    let mood =
        |comment: &str| read(comment, Language::En).phrases.iter().find(|phrase| phrase.key == "sound").unwrap().mood;
    assert!(mood("The sound is good.") > Some(30));
    assert!(mood("The sound is not good.") < Some(-20));
    // Only the sentence about the theme counts.
    assert_eq!(mood("The sound is good."), mood("I hate the terrible box. The sound is good."));
}

#[test]
fn empty_comments_have_no_themes() {
    assert!(themes(&[], &[]).is_empty());
    assert!(themes(&[(5, ""), (1, "   "), (3, "!!!")], &[]).is_empty());
    assert!(themes(&[(5, "The battery is good")], &[]).is_empty());
}

/// The example of `docs/insight/themes.md`.
#[test]
fn the_worked_example() {
    // 1,000 comments: 700 of 5 stars, 200 of 4, 100 of 1; 80 are about the battery: 20 of 5 stars, 60 of 1.
    let all = Ratings { count: 1000.0, sum: 4400.0, squares: 700.0 * 25.0 + 200.0 * 16.0 + 100.0 };
    let battery = Ratings { count: 80.0, sum: 160.0, squares: 560.0 };
    assert!((weight(1, &battery, 1000.0, &all) - 561.3).abs() < 0.1, "{}", weight(1, &battery, 1000.0, &all));
    assert!((weight(2, &battery, 1000.0, &all) - 1122.5).abs() < 0.1);
    // As many comments with average ratings weigh less.
    let music = Ratings { count: 80.0, sum: 352.0, squares: 0.0 };
    assert!((weight(1, &music, 1000.0, &all) - 202.1).abs() < 0.1, "{}", weight(1, &music, 1000.0, &all));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_can_be_read(text in "\\PC{0,200}", other in "[a-zA-Z'’.\\- !?éüßñ]{0,200}") {
        for language in [Language::En, Language::De, Language::Fr, Language::Ru] {
            for text in [&text, &other] {
                let reading = read(text, language);
                prop_assert!(reading.phrases.windows(2).all(|pair| pair[0].key < pair[1].key));
                prop_assert!(reading.phrases.iter().all(|phrase| (1..=3).contains(&phrase.key.split(' ').count())));
                let keys: Vec<String> = reading.phrases.into_iter().map(|phrase| phrase.key).collect();
                let excerpt = quote::excerpt(text, &keys, language);
                prop_assert!(excerpt.chars().count() <= 224, "{excerpt}");
            }
        }
    }

    #[test]
    fn the_order_of_comments_changes_nothing(reviews in Just(reviews()).prop_shuffle()) {
        let known = self::reviews();
        prop_assert_eq!(themes(&borrowed(&reviews), &[]), themes(&borrowed(&known), &[]));
    }
}
