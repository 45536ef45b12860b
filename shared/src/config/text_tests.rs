//! Tests of [`super`]: every kind of broken text, shown as people see it.

use alloc::string::ToString as _;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    site: Spanned<String>,
    voters: Spanned<Vec<u8>>,
    kind: Option<Kind>,
    #[serde(default)]
    timing: Timing,
    region: Option<Spanned<Region>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Board,
    Gateway,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timing {
    heartbeat_ms: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    address: Spanned<String>,
}

fn parse(text: &str) -> Result<Raw, ConfigError> {
    Text::from_str("f.toml", text)?.parse()
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("it is broken").to_string()
}

const GOOD: &str = "site = 'north'\nvoters = [1]\n";

#[test]
fn good_text_is_read() {
    let raw =
        parse("site = 'n'\nvoters = [1, 2]\nkind = 'board'\n[timing]\nheartbeat_ms = 5\n[region]\naddress = 'a:1'")
            .unwrap();
    assert_eq!(raw.site.get_ref(), "n");
    assert_eq!(raw.voters.get_ref(), &[1, 2]);
    assert!(matches!(raw.kind, Some(Kind::Board)));
    assert!(raw.timing.heartbeat_ms.is_some());
    assert_eq!(raw.region.unwrap().get_ref().address.get_ref(), "a:1");
    assert!(matches!(parse(&(GOOD.to_string() + "kind = 'gateway'")).unwrap().kind, Some(Kind::Gateway)));
}

#[test]
fn unknown_key() {
    assert_eq!(
        refusal("site = 'n'\nvotres = [1]\n"),
        "f.toml:2:1: unknown key `votres`\n    2 | votres = [1]\n      | ^^^^^^\n  help: did you mean `voters`?"
    );
    assert_eq!(
        refusal("site = 'n'\nvoters = [1]\n[timing]\nhartbeat_ms = 1"),
        "f.toml:4:1: unknown key `hartbeat_ms`\n    4 | hartbeat_ms = 1\n      | ^^^^^^^^^^^\n  help: did you mean `heartbeat_ms`?"
    );
    assert!(refusal("colour = 1").contains("keys here are `site`, `voters`, `kind`, `timing`, `region`"));
    let quoted = refusal("'a`, expected `b' = 1");
    assert!(quoted.contains("unknown key `a`, expected `b`"), "{quoted}");
}

#[test]
fn unknown_value() {
    let shown = refusal(&(GOOD.to_string() + "kind = 'bord'"));
    assert!(shown.contains("f.toml:3:8: unknown value `bord`"), "{shown}");
    assert!(shown.contains("did you mean `board`?"), "{shown}");
}

#[test]
fn missing_key() {
    assert!(refusal("").contains("f.toml:1:1: missing key `site`"), "{}", refusal(""));
    let shown = refusal("site = 'n'\nvoters = [1]\n[region]\n");
    assert!(shown.contains("f.toml:3:1: missing key `address`"), "{shown}");
    assert!(shown.contains("add `address = ...` in `region`"), "{shown}");
}

#[test]
fn wrong_type() {
    let shown = refusal("site = 5\nvoters = [1]");
    assert!(shown.contains("f.toml:1:8: `site`: expected text in quotes, found integer `5`"), "{shown}");
    let shown = refusal("site = 'n'\nvoters = [1, 'x']");
    assert!(shown.contains("f.toml:2:14: "), "{shown}");
    assert!(shown.contains("a whole number from 0 to 255"), "{shown}");
    let shown = refusal("site = 'n'\nvoters = [256]");
    assert!(shown.contains("f.toml:2:11: "), "{shown}");
    let shown = refusal(&(GOOD.to_string() + "[timing]\nheartbeat_ms = -1"));
    assert!(shown.contains("f.toml:4:16: `timing.heartbeat_ms`: expected a whole number"), "{shown}");
    let shown = refusal(&(GOOD.to_string() + "timing = 3"));
    assert!(shown.contains("expected a table, found integer `3`"), "{shown}");
}

#[test]
fn broken_toml() {
    for text in [
        "site = ",
        "site",
        "= 1",
        "[",
        "[[",
        "site = 'a\n",
        "site = \"\\q\"",
        "a = 1\na = 2",
        "\u{0}",
        "x = [1,",
        "\u{feff}\u{feff}",
    ] {
        let shown = refusal(text);
        assert!(shown.starts_with("f.toml:"), "{shown}");
    }
    let nested = "x = ".to_string() + &"[".repeat(100_000);
    assert!(refusal(&nested).starts_with("f.toml:1:"));
    assert!(refusal(&("site = 'n'\n".to_string() + "site = 'm'")).contains("f.toml:2:1: duplicate key"));
}

#[test]
fn not_text_and_too_long() {
    let shown = Text::new("f.toml", b"a = 1\nb = \"\xff\"").unwrap_err().to_string();
    assert!(shown.contains("f.toml:2:6: this is not UTF-8 text"), "{shown}");
    let blank = alloc::vec![b'\n'; CONFIG_BYTES_MAX + 1];
    assert!(Text::new("f.toml", &blank[1..]).is_ok());
    let shown = Text::new("f.toml", &blank).unwrap_err().to_string();
    assert!(shown.contains("longer than 1048576 bytes"), "{shown}");
}

#[test]
fn ranges_hold_on_both_sides() {
    let check = |value: &str| {
        let text = GOOD.to_string() + "[timing]\nheartbeat_ms = " + value;
        let text = Text::from_str("f.toml", &text).unwrap();
        let raw: Raw = text.parse().unwrap();
        text.within_or("heartbeat_ms", raw.timing.heartbeat_ms.as_ref(), 10..=1000, "ms", 50)
            .map_err(|refusal| refusal.to_string())
    };
    assert_eq!(check("10"), Ok(10));
    assert_eq!(check("1000"), Ok(1000));
    assert_eq!(
        check("9").unwrap_err(),
        "f.toml:4:16: `heartbeat_ms` is too small: 9 ms, but it must be 10 to 1000\n    4 | heartbeat_ms = 9\n      |                ^\n  help: the nearest allowed value is 10"
    );
    assert!(check("1001").unwrap_err().contains("too large: 1001 ms"));
    let text = Text::from_str("f.toml", GOOD).unwrap();
    assert_eq!(text.within_or("heartbeat_ms", None, 10..=1000, "ms", 50), Ok(50));
}

#[test]
fn names() {
    for good in ["a", "north-2", "0", &"n".repeat(NAME_BYTES_MAX)] {
        assert_eq!(check_name(good).unwrap().as_str(), good);
    }
    for bad in ["", "-a", "a-", "North", "a.b", "ü", "a b", "a\n", &"n".repeat(NAME_BYTES_MAX + 1)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn addresses_are_read_or_refused() {
    let text = Text::from_str("f.toml", "site = '127.0.0.1:80'\nvoters = []").unwrap();
    let raw: Raw = text.parse().unwrap();
    let address: core::net::SocketAddr = text.read("site", &raw.site, "an address").unwrap();
    assert_eq!(address.port(), 80);
    let refused = text.read::<u8>("site", &raw.site, "a number like 7").unwrap_err();
    assert_eq!((refused.line, refused.column), (1, 8));
    assert!(refused.message.contains("which is not a number like 7"));
}
