//! Names as the database's text. It holds every character but NUL, which a publisher may have in its name all the same.

use std::borrow::Cow;

/// Begins what stands for itself or for NUL.
const ESCAPE: char = '\u{1a}';

/// `name` without NUL; two names stay two.
pub(super) fn to_text(name: &str) -> Cow<'_, str> {
    if !name.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.replace(ESCAPE, "\u{1a}1").replace('\0', "\u{1a}0"))
}

/// The name that became `text`.
pub(super) fn of_text(text: &str) -> Cow<'_, str> {
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\u{1a}0", "\0").replace("\u{1a}1", "\u{1a}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_two_stay_two() {
        let names =
            ["", "loop-7", "\0", "\u{1a}", "\u{1a}0", "\u{1a}1", "a\0\u{1a}\0b", "ö\u{2400}", "\u{1a}\u{1a}0\0"];
        let texts: std::collections::BTreeSet<String> = names.iter().map(|name| to_text(name).into_owned()).collect();
        assert_eq!(texts.len(), names.len());
        assert!(texts.iter().all(|text| !text.contains('\0')));
        for name in names {
            assert_eq!(of_text(&to_text(name)), name);
        }
    }
}
