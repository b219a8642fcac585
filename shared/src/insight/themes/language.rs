//! Languages: detection, stop words, articles, stems and generic words.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};
use whatlang::{Detector, Lang};

/// A supported language. Comments in other languages are read in the usual language of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// English, the default usual language.
    En,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Italian.
    It,
    /// Dutch.
    Nl,
    /// Portuguese.
    Pt,
    /// Swedish.
    Sv,
    /// Danish.
    Da,
    /// Norwegian.
    No,
    /// Finnish.
    Fi,
    /// Hungarian.
    Hu,
    /// Romanian.
    Ro,
    /// Russian.
    Ru,
    /// Turkish.
    Tr,
}

const ALL: [(Language, Lang, Algorithm, &str); 15] = [
    (Language::En, Lang::Eng, Algorithm::English, "en"),
    (Language::De, Lang::Deu, Algorithm::German, "de"),
    (Language::Fr, Lang::Fra, Algorithm::French, "fr"),
    (Language::Es, Lang::Spa, Algorithm::Spanish, "es"),
    (Language::It, Lang::Ita, Algorithm::Italian, "it"),
    (Language::Nl, Lang::Nld, Algorithm::Dutch, "nl"),
    (Language::Pt, Lang::Por, Algorithm::Portuguese, "pt"),
    (Language::Sv, Lang::Swe, Algorithm::Swedish, "sv"),
    (Language::Da, Lang::Dan, Algorithm::Danish, "da"),
    (Language::No, Lang::Nob, Algorithm::Norwegian, "no"),
    (Language::Fi, Lang::Fin, Algorithm::Finnish, "fi"),
    (Language::Hu, Lang::Hun, Algorithm::Hungarian, "hu"),
    (Language::Ro, Lang::Ron, Algorithm::Romanian, "ro"),
    (Language::Ru, Lang::Rus, Algorithm::Russian, "ru"),
    (Language::Tr, Lang::Tur, Algorithm::Turkish, "tr"),
];

impl Language {
    /// The ISO 639-1 code.
    pub fn code(self) -> &'static str {
        ALL[self as usize].3
    }

    /// The language with this code.
    pub fn of_code(code: &str) -> Option<Self> {
        ALL.iter().find(|(.., known)| *known == code).map(|(language, ..)| *language)
    }

    /// The stems of a name's words.
    pub(super) fn stems(self, name: &str) -> Vec<String> {
        self.vocabulary().stems(name)
    }

    /// The vocabulary of the language.
    pub(super) fn vocabulary(self) -> &'static Vocabulary {
        &VOCABULARIES[self as usize]
    }
}

/// Detects the language of a text. Returns also whether the result is reliable.
///
/// Stop words identify a language best: a language with many stop words in the text, and far more than any
/// other, is the result. Otherwise a longer text is classified by its letters. A short text, which a model
/// of letters cannot classify, is in the `usual` language.
pub(super) fn detect(text: &str, usual: Language) -> (Language, bool) {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<String> = words.take(MOST_WORDS).map(str::to_lowercase).collect();
    let mut hits = ALL.map(|(language, ..)| {
        let stop = &language.vocabulary().stop;
        (words.iter().filter(|word| stop.contains(word.as_str())).count(), language)
    });
    let of_usual = hits[usual as usize].0;
    hits.sort_by_key(|(count, language)| (std::cmp::Reverse(*count), *language));
    let [(most, best), (second, _), ..] = hits;
    if most >= 4 && most > 2 * second {
        return (best, true);
    }
    if words.len() >= 8
        && let Some(info) = DETECTOR.detect(text)
        && info.is_reliable()
        && let Some((language, ..)) = ALL.iter().find(|(_, lang, ..)| *lang == info.lang())
    {
        return (*language, true);
    }
    // A single word more may be chance: "die", "in", "was" and "on" belong to several languages.
    if most < of_usual + 2 { (usual, false) } else { (best, false) }
}

/// The number of words that are used to detect the language.
const MOST_WORDS: usize = 60;

static DETECTOR: LazyLock<Detector> =
    LazyLock::new(|| Detector::with_allowlist(ALL.iter().map(|(_, lang, ..)| *lang).collect()));

static VOCABULARIES: LazyLock<Vec<Vocabulary>> = LazyLock::new(|| {
    ALL.iter().map(|(language, _, algorithm, code)| Vocabulary::new(*language, *algorithm, code)).collect()
});

/// Particles that form a noun with the verb before them in English.
pub(super) const PARTICLES: [&str; 9] = ["up", "in", "out", "on", "off", "down", "over", "back", "through"];

/// The vocabulary and grammar of a language.
pub(super) struct Vocabulary {
    /// Stop words.
    pub stop: HashSet<&'static str>,
    /// Articles and similar words, which are followed by a noun.
    pub determiners: &'static [&'static str],
    /// Words that link two nouns to a phrase: "quality of the sound".
    pub links: &'static [&'static str],
    /// Words that are elided before an apostrophe: "l'hôtel".
    pub elided: &'static [&'static str],
    /// Particles that form a noun with the verb before them: "set up", "check in".
    pub particles: &'static [&'static str],
    /// Whether a noun comes before its adjectives.
    pub noun_first: bool,
    /// Generic words, which are not a theme by themselves.
    generic: HashSet<&'static str>,
    /// Words that are never part of a phrase, although they come before nouns: "my first laptop".
    pub apart: HashSet<&'static str>,
    /// Words that are a theme only in a longer phrase: "smart home".
    dependent: HashSet<&'static str>,
    generic_stems: HashSet<String>,
    stemmer: Stemmer,
}

impl Vocabulary {
    fn new(language: Language, algorithm: Algorithm, code: &str) -> Self {
        let stemmer = Stemmer::create(algorithm);
        let generic: HashSet<&str> = generic(language)
            .lines()
            .filter(|line| !line.starts_with(['#', '+', '!']))
            .flat_map(str::split_ascii_whitespace)
            .collect();
        let prefixed = |prefix: char| {
            let lines = self::generic(language).lines().filter_map(move |line| line.strip_prefix(prefix));
            lines.flat_map(str::split_ascii_whitespace).collect()
        };
        let (dependent, apart) = (prefixed('+'), prefixed('!'));
        let generic_stems = generic.iter().map(|word| stemmer.stem(word).into_owned()).collect();
        let (determiners, links, elided) = articles(language);
        Self {
            stop: stop_words::lookup(code)
                .unwrap_or_default()
                .iter()
                .copied()
                .chain(determiners.iter().copied())
                .collect(),
            determiners,
            links,
            elided,
            particles: if language == Language::En { &PARTICLES } else { &[] },
            noun_first: matches!(language, Language::Fr | Language::Es | Language::It | Language::Pt | Language::Ro),
            generic,
            dependent,
            apart,
            generic_stems,
            stemmer,
        }
    }

    /// The stem of a lower-case word, which all its inflections share.
    pub fn stem<'a>(&self, word: &'a str) -> Cow<'a, str> {
        self.stemmer.stem(word)
    }

    /// Whether a lower-case word may be a theme by itself.
    pub fn stands_alone(&self, word: &str) -> bool {
        !self.dependent.contains(word) && !self.is_generic(word)
    }

    /// The stems of a name's words.
    pub fn stems(&self, name: &str) -> Vec<String> {
        let words = name.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(|word| self.stem(&word.to_lowercase()).into_owned()).collect()
    }

    /// Whether a lower-case word is generic.
    pub fn is_generic(&self, word: &str) -> bool {
        self.generic.contains(word) || self.generic_stems.contains(self.stem(word).as_ref())
    }
}

fn generic(language: Language) -> &'static str {
    match language {
        Language::En => include_str!("words/en.txt"),
        Language::De => include_str!("words/de.txt"),
        Language::Fr => include_str!("words/fr.txt"),
        Language::Es => include_str!("words/es.txt"),
        Language::It => include_str!("words/it.txt"),
        Language::Nl => include_str!("words/nl.txt"),
        Language::Pt => include_str!("words/pt.txt"),
        _ => "",
    }
}

type Words = &'static [&'static str];

/// The determiners, links and elided words of a language.
fn articles(language: Language) -> (Words, Words, Words) {
    match language {
        Language::En => (
            &[
                "the", "a", "an", "my", "our", "your", "his", "her", "its", "their", "this", "that", "these", "those",
                "no", "any", "some", "every", "each",
            ],
            &["of"],
            &[],
        ),
        Language::De => (
            &[
                "der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines", "kein",
                "keine", "keinen", "mein", "meine", "meinen", "meinem", "meiner", "unser", "unsere", "unserem",
                "unseren", "ihr", "ihre", "sein", "seine", "dieser", "diese", "dieses", "diesem", "diesen", "im", "am",
                "zum", "zur", "vom", "beim", "ins",
            ],
            &[],
            &[],
        ),
        Language::Fr => (
            &[
                "le", "la", "les", "un", "une", "des", "du", "au", "aux", "mon", "ma", "mes", "notre", "nos", "votre",
                "vos", "son", "sa", "ses", "leur", "leurs", "ce", "cet", "cette", "ces", "l", "d", "aucun", "aucune",
                "pas de",
            ],
            &["de", "du", "des", "d", "à", "la", "en"],
            &["l", "d", "j", "m", "t", "s", "c", "n", "qu", "jusqu", "lorsqu", "puisqu"],
        ),
        Language::Es => (
            &[
                "el", "la", "los", "las", "un", "una", "unos", "unas", "del", "al", "mi", "mis", "nuestro", "nuestra",
                "nuestros", "nuestras", "tu", "su", "sus", "este", "esta", "estos", "estas", "ese", "esa", "ningún",
                "ninguna",
            ],
            &["de", "del", "la"],
            &[],
        ),
        Language::It => (
            &[
                "il", "lo", "la", "i", "gli", "le", "un", "uno", "una", "del", "dello", "della", "dei", "degli",
                "delle", "al", "allo", "alla", "ai", "agli", "alle", "nel", "nella", "nei", "nelle", "dal", "dalla",
                "sul", "sulla", "mio", "mia", "nostro", "nostra", "suo", "sua", "questo", "questa", "questi", "queste",
                "l", "dell", "nell", "all", "dall", "sull",
            ],
            &["di", "del", "della", "dei", "delle", "d", "dell"],
            &["l", "un", "dell", "all", "nell", "dall", "sull", "d", "c", "quest", "quell"],
        ),
        Language::Nl => (
            &[
                "de", "het", "een", "mijn", "ons", "onze", "jouw", "uw", "zijn", "haar", "hun", "deze", "dit", "die",
                "dat", "geen",
            ],
            &[],
            &[],
        ),
        Language::Pt => (
            &[
                "o", "a", "os", "as", "um", "uma", "uns", "umas", "do", "da", "dos", "das", "no", "na", "nos", "nas",
                "ao", "à", "aos", "às", "pelo", "pela", "meu", "minha", "nosso", "nossa", "seu", "sua", "este", "esta",
                "esse", "essa", "nenhum", "nenhuma",
            ],
            &["de", "do", "da", "dos", "das"],
            &[],
        ),
        _ => (&[], &[], &[]),
    }
}
