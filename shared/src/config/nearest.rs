//! "Did you mean": the known word nearest to a mistyped one. Owns the distance and how near is near enough.

use alloc::vec::Vec;

/// Longest word that is compared, in characters: bounds the work that a hostile file can cause.
const WORD_CHARS_MAX: usize = 64;

/// The word of `known` nearest to `given`, or `None` where none is near: at most a third of the longer word's
/// letters may differ, and a word that merely differs in case or in `-` for `_` is always near.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = folded(given)?;
    known
        .into_iter()
        .filter_map(|word| {
            let folded = folded(word)?;
            let far = distance(&given, &folded);
            let allowed = (given.len().max(folded.len()) / 3).max(1);
            (far <= allowed).then_some((far, word))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// The word without what people mix up: case and the joining character. `None` where it is too long to compare.
fn folded(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word
        .chars()
        .take(WORD_CHARS_MAX + 1)
        .map(|letter| match letter {
            '-' | '.' | ' ' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    (letters.len() <= WORD_CHARS_MAX).then_some(letters)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b` (optimal string
/// alignment, three rows of the table at a time).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = alloc::vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to;
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn far(a: &str, b: &str) -> usize {
        let letters = |word: &str| word.chars().collect::<Vec<_>>();
        distance(&letters(a), &letters(b))
    }

    #[test]
    fn distances() {
        assert_eq!(far("", ""), 0);
        assert_eq!(far("abc", ""), 3);
        assert_eq!(far("", "abc"), 3);
        assert_eq!(far("votres", "voters"), 1, "a swap counts once");
        assert_eq!(far("kitten", "sitting"), 3);
    }

    #[test]
    fn near_enough_and_not() {
        let known = ["voters", "copies", "heartbeat_ms"];
        assert_eq!(nearest("votres", known), Some("voters"));
        assert_eq!(nearest("Heartbeat-MS", known), Some("heartbeat_ms"));
        assert_eq!(nearest("heartbeat", known), Some("heartbeat_ms"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"v".repeat(1_000_000), known), None);
    }

    #[test]
    fn the_longest_word_compared() {
        let word: String = "w".repeat(WORD_CHARS_MAX);
        assert_eq!(nearest(&word, [word.as_str()]), Some(word.as_str()));
        let word: String = "w".repeat(WORD_CHARS_MAX + 1);
        assert_eq!(nearest(&word, [word.as_str()]), None);
    }
}
