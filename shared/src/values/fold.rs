//! Text without case and accents, in which searches compare.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// Returns the text in lower case and without accents, and with compatible characters made equal: `Müller`
/// and `MULLER` become `muller`, `Straße` becomes `strasse`, and `ﬁ` becomes `fi`.
///
/// Stored search words are folded. When this function changes, a migration must rewrite them.
pub fn fold(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        return Cow::Owned(fold_unicode(text));
    }
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

fn fold_unicode(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let bare = text.nfkd().filter(|&c| !is_accent(c)).flat_map(char::to_lowercase).filter(|&c| !is_accent(c));
    // Decomposed syllables become one character again.
    for c in bare.nfc() {
        match letters(c) {
            Some(letters) => folded.push_str(letters),
            None => folded.push(c),
        }
    }
    folded
}

/// Whether the character is a mark that combines with a letter. The voiced sound marks of Japanese make
/// another syllable and are kept.
fn is_accent(c: char) -> bool {
    const KANA_VOICING: u8 = 8;
    !matches!(canonical_combining_class(c), 0 | KANA_VOICING)
}

/// The plain letters of a letter whose stroke or ligature Unicode does not decompose.
fn letters(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ŧ' => "t",
        'ı' => "i",
        'ς' => "σ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_accents_are_folded() {
        for (text, folded) in [
            ("", ""),
            ("ann", "ann"),
            ("Ann O'Neil", "ann o'neil"),
            ("Müller", "muller"),
            ("Mu\u{308}ller", "muller"),
            ("ÉCOLE", "ecole"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("\u{1e9e}", "ss"),
            ("Łódź", "lodz"),
            ("Søren Ærø", "soren aero"),
            ("İstanbul, Iğdır", "istanbul, igdir"),
            ("\u{fb01}n", "fin"),
            ("\u{17f}o", "so"),
            ("Ｆｕｌｌ", "full"),
            ("Ωμέγας", "ωμεγασ"),
            ("Ёлка", "елка"),
            ("が", "が"),
            ("か\u{3099}", "が"),
            ("ｶﾞ", "ガ"),
            ("한국", "한국"),
            ("中文", "中文"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
            let folded = fold(&text).into_owned();
            prop_assert_eq!(fold(&folded), folded.as_str());
        }

        #[test]
        fn composed_and_decomposed_text_are_equal(text in "\\PC{0,20}") {
            let decomposed: String = text.nfd().collect();
            prop_assert_eq!(fold(&decomposed), fold(&text));
        }
    }
}
