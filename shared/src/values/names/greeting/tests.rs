//! Greetings of names as people and systems write them.

use proptest::prelude::*;

use super::*;
use crate::values::Field;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn greeting(text: &str) -> String {
    name(text).greeting(None)
}

#[test]
fn titles_are_not_first_names_in_any_language() {
    for (written, greeted) in [
        ("MR. JON YANG", "Jon"),
        ("Mrs Mary Ann Smith", "Mary"),
        ("Dr. Jon Yang", "Jon"),
        ("Dr.Jon Yang", "Jon"),
        ("Prof. Dr. med. Anna Weber", "Anna"),
        ("Prof.Dr.Anna Weber", "Anna"),
        ("Frau Dr. Anna Weber", "Anna"),
        ("HERR HANS-PETER MÜLLER", "Hans-Peter"),
        ("Dipl.-Ing. Karl Braun", "Karl"),
        ("M. Jean Dupont", "Jean"),
        ("Mme Zoé Petit", "Zoé"),
        ("Sr. Juan Pérez", "Juan"),
        ("Sra. MARÍA López", "María"),
        ("Señora Ana Gil", "Ana"),
        ("Dott.ssa Giulia Rossi", "Giulia"),
        ("Sig.ra Giulia Rossi", "Giulia"),
        ("De heer Jan Jansen", "Jan"),
        ("mgr inż. Jan Kowalski", "Jan"),
        ("MUDr. Eva Nová", "Eva"),
        ("Frøken Ida Holm", "Ida"),
        ("Rouva Aino Laine", "Aino"),
        ("Sayın Ayşe Yılmaz", "Ayşe"),
        ("Г-н Иван Петров", "Иван"),
        ("Пані Олена Коваль", "Олена"),
    ] {
        assert_eq!(greeting(written), greeted, "{written}");
    }
}

#[test]
fn a_name_without_a_certain_first_name_is_greeted_as_it_is_written() {
    for written in [
        "Mr. Yang",
        "HERR MÜLLER",
        "Frau Dr. Weber",
        "Herr von Goethe",
        "Frau van der Berg",
        "van der Berg",
        "de la Cruz",
        "Dr.",
        "Mr. and Mrs. Smith",
        "Mr & Mrs Smith",
        "Müller, Herr",
        "J. Smith",
        "Yang, J. R.",
        "李 小龙",
        "山田 太郎 様",
        "김 민준",
        "123",
    ] {
        assert_eq!(greeting(written), written);
    }
}

#[test]
fn a_family_name_before_a_comma_is_not_the_first_name() {
    for (written, greeted) in [
        ("Yang, Jon", "Jon"),
        ("YANG, JON", "Jon"),
        ("van der Berg, Jan", "Jan"),
        ("García Márquez, Gabriel José", "Gabriel"),
        ("Yang, Dr. Jon", "Jon"),
        ("Dr. Yang, Jon", "Jon"),
        ("Yang, Jon, PhD", "Jon"),
        ("Yang, Jr., Jon", "Jon"),
        ("Jon Yang, PhD", "Jon"),
        ("Dr. Jon Yang, M.D.", "Jon"),
        ("Jon,", "Jon"),
    ] {
        assert_eq!(greeting(written), greeted, "{written}");
    }
}

#[test]
fn capitals_are_corrected_only_where_they_carry_no_meaning() {
    for (written, greeted) in [
        ("jon yang", "Jon"),
        ("JON", "Jon"),
        ("Jon Yang", "Jon"),
        ("McDonald", "McDonald"),
        ("MCDONALD", "McDonald"),
        ("O'Brien", "O'Brien"),
        ("O'BRIEN", "O'Brien"),
        ("o’brien", "O’Brien"),
        ("Jean-Luc Picard", "Jean-Luc"),
        ("JEAN-LUC PICARD", "Jean-Luc"),
        ("JJ", "JJ"),
        ("JJ Abrams", "JJ"),
        ("J.P. Morgan", "J.P."),
        ("ED SMITH", "Ed"),
        ("Van Morrison", "Van"),
        ("al pacino", "Al"),
        ("Vincent van Gogh", "Vincent"),
        ("ЁЖИКОВ ИВАН", "Ёжиков"),
        ("ΓΙΩΡΓΟΣ ΠΑΠΑΣ", "Γιωργος"),
        ("İSMAİL ÖZ", "Ismail"),
        ("გიორგი ბერიძე", "გიორგი"),
        ("محمد علي", "محمد"),
        ("राम शर्मा", "राम"),
        ("jon.yang", "jon.yang"),
        ("info@yang.example", "info@yang.example"),
        ("\"Jon\" Yang", "Jon"),
        ("Don Draper", "Don"),
    ] {
        assert_eq!(greeting(written), greeted, "{written}");
    }
}

#[test]
fn the_field_for_first_names_wins_unless_it_is_a_title() {
    for (first, greeted) in [
        ("Anna Maria", "Anna Maria"),
        ("ANNA MARIA", "Anna Maria"),
        ("Dr. Anna", "Anna"),
        ("Anna PhD", "Anna"),
        ("J", "J"),
        ("太郎", "太郎"),
        ("Dr.", "Eve"),
        ("Frau", "Eve"),
    ] {
        assert_eq!(name("Eve Weber").greeting(Some(&name(first))), greeted, "{first}");
    }
}

#[test]
fn every_language_of_imports_has_titles() {
    let lists: Lists = toml::from_str(include_str!("../../../../../config/names.toml")).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/import");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let language = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(language == "systems" || lists.titles.contains_key(&language), "{language} has no titles");
    }
    for words in lists.titles.values().flatten() {
        assert!(WORDS.is_title(words), "{words}");
        assert!(WORDS.is_title(&words.to_uppercase()), "{words}");
    }
}

proptest! {
    #[test]
    fn a_greeting_is_a_part_of_the_name_and_never_a_title(
        title in prop_oneof!["", "Dr\\. ", "HERR ", "Mme "], text in "\\PC{1,20}", first in proptest::option::of("\\PC{1,10}"),
    ) {
        let written = format!("{title}{text}");
        prop_assume!(Name::from_text(&written).is_ok());
        let first = first.and_then(|first| Name::from_text(&first).ok());
        let greeted = name(&written).greeting(first.as_ref());
        prop_assert!(!greeted.is_empty());
        prop_assert!(!WORDS.is_title(&greeted) || name(&written).as_ref() == greeted, "{greeted:?}");
        let plain = |text: &str| fold(text).chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let all = [Some(written.as_str()), first.as_ref().map(AsRef::as_ref)];
        prop_assert!(all.into_iter().flatten().any(|text| plain(text).contains(&plain(&greeted))), "{greeted:?}");
    }

    #[test]
    fn correcting_capitals_twice_changes_nothing(word in "\\PC{0,12}|[a-zA-Z'.-]{1,8}") {
        let once = in_usual_capitals(&word);
        prop_assert_eq!(in_usual_capitals(&once), once);
    }

    #[test]
    fn the_case_of_a_plain_name_makes_no_difference(first in "[A-Z][a-z]{3,8}", last in "[A-Z][a-z]{3,8}") {
        prop_assume!(!WORDS.is_title(&first) && !WORDS.is_particle(&first) && !first.starts_with("Mc"));
        let written = format!("{first} {last}");
        for text in [written.to_uppercase(), written.to_lowercase(), written.clone()] {
            prop_assert_eq!(greeting(&text), first.clone());
        }
    }
}
