//! What an expression of PromQL asks for: series with their matchers, and labels that it groups by. Knows no more of the
//! language than that: what is no function, keyword or label is taken for a series, so that nothing misspelt slips through.

use std::iter::Peekable;
use std::str::Chars;

/// Words before a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that stand alone, or before the labels that they group by.
const KEYWORDS: [&str; 12] =
    ["and", "or", "unless", "bool", "offset", "inf", "nan", "sum", "min", "max", "count", "topk"];

/// Series that an expression asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// All that an expression asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) series: Vec<Selector>,
    /// Labels that it groups by.
    pub(crate) labels: Vec<String>,
}

/// Reads an expression that promtool takes.
pub(crate) fn read(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            'a'..='z' | 'A'..='Z' | '_' | ':' => take_word(&mut rest, &mut asked),
            // A number or a duration, with its unit.
            '0'..='9' => drop(word(&mut rest)),
            '[' => while rest.next_if(|letter| *letter != ']').is_some() {},
            '"' | '\'' => drop(text(&mut rest)),
            '{' => panic!("matchers without a name in {expression}"),
            _ => drop(rest.next()),
        }
    }
    asked
}

fn take_word(rest: &mut Peekable<Chars<'_>>, asked: &mut Asked) {
    let name = word(rest);
    let next = after_spaces(rest);
    if GROUPING.contains(&name.as_str()) && next == Some('(') {
        rest.next();
        while after_spaces(rest).is_some_and(|letter| letter != ')') {
            if rest.next_if_eq(&',').is_none() {
                asked.labels.push(word(rest));
            }
        }
        return;
    }
    if next == Some('(') || GROUPING.contains(&name.as_str()) || KEYWORDS.contains(&name.to_lowercase().as_str()) {
        return;
    }
    let matchers = if next == Some('{') { matchers(rest) } else { Vec::new() };
    asked.series.push(Selector { name, matchers });
}

fn matchers(rest: &mut Peekable<Chars<'_>>) -> Vec<(String, String, String)> {
    let mut matchers = Vec::new();
    rest.next();
    loop {
        match after_spaces(rest) {
            Some('}') => {
                rest.next();
                return matchers;
            }
            Some(',') => drop(rest.next()),
            Some(_) => {
                let label = word(rest);
                let mut operator = String::new();
                while let Some(letter) = rest.next_if(|letter| "=!~".contains(*letter)) {
                    operator.push(letter);
                }
                assert!(!label.is_empty() && !operator.is_empty(), "no matcher after {matchers:?}");
                matchers.push((label, operator, text(rest)));
            }
            None => panic!("matchers without an end: {matchers:?}"),
        }
    }
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(letter) = rest.next_if(|letter| letter.is_ascii_alphanumeric() || "_:.".contains(*letter)) {
        word.push(letter);
    }
    word
}

/// A text in quotes, the quotes left out; none of ours has one escaped.
fn text(rest: &mut Peekable<Chars<'_>>) -> String {
    let quote = rest.next().expect("a quote");
    let mut text = String::new();
    while let Some(letter) = rest.next_if(|letter| *letter != quote) {
        text.push(letter);
    }
    rest.next();
    text
}

fn after_spaces(rest: &mut Peekable<Chars<'_>>) -> Option<char> {
    while rest.next_if(|letter| letter.is_whitespace()).is_some() {}
    rest.peek().copied()
}

/// Broken to see it fail: the words before labels taken for functions (the labels become series).
#[test]
fn series_labels_and_nothing_else_are_found() {
    let expression = r#"histogram_quantile(0.99, sum by (site, le) (rate(a_bucket{x="}(",y=~"u|v"}[10m] offset 1h))) > 0.1
        and on (site) max without(le) (b) == bool 1 or c:d / 2 * 3600"#;
    let asked = read(expression);
    let names: Vec<&str> = asked.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["a_bucket", "b", "c:d"]);
    assert_eq!(asked.labels, ["site", "le", "site", "le"]);
    let matchers = [("x", "=", "}("), ("y", "=~", "u|v")];
    let owned = matchers.map(|(label, operator, value)| (label.to_owned(), operator.to_owned(), value.to_owned()));
    assert_eq!(asked.series[0].matchers, owned);
}
