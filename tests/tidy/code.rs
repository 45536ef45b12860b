//! Reads Rust as text, just well enough for rules: comments and strings blanked out, functions with their lengths,
//! words with their places. Bytes keep their places, so that a find leads to a line.

/// `text` with comments, strings and character literals as spaces.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            b'r' if at == 0 || !is_word(bytes[at - 1]) || starts_prefix(bytes, at) => raw_end(bytes, at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters were replaced, byte by byte, with spaces")
}

/// Whether the `r` at `at` follows a lone `b` or `c`, as in `br"..."`.
fn starts_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && (at < 2 || !is_word(bytes[at - 2]))
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// End of a character literal, or `start` for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => find(bytes, start + 3, b"'").map_or(bytes.len(), |end| end + 1),
        Some(first) => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0.. => 4,
            };
            let end = start + 1 + width;
            if bytes.get(end) == Some(&b'\'') { end + 1 } else { start }
        }
        None => start,
    }
}

/// End of a raw string, or `start` where none begins.
fn raw_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return start;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    find(bytes, start + 2 + hashes, &close).map_or(bytes.len(), |end| end + close.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Blanked `code` without the items that only tests have.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (start, _) in code.match_indices(mark) {
            let end = item_end(code.as_bytes(), start + mark.len());
            for byte in &mut out[start..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
    }
    String::from_utf8(out).expect("blanked code outside items is left as it is")
}

/// End of the item that begins after `from`: its closing brace, or its semicolon.
fn item_end(code: &[u8], from: usize) -> usize {
    let semicolon = find(code, from, b";").unwrap_or(code.len());
    match find(code, from, b"{") {
        Some(brace) if brace < semicolon => closing(code, brace) + 1,
        _ => (semicolon + 1).min(code.len()),
    }
}

/// Where the brace opened at `open` closes.
pub(crate) fn closing(code: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len() - 1
}

/// The words of blanked code, each with its place.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &code[start..at]))
    })
}

/// The word that begins at `at`; empty where none does.
pub(crate) fn word_at(code: &str, at: usize) -> &str {
    let length = code.as_bytes()[at..].iter().take_while(|byte| is_word(**byte)).count();
    &code[at..at + length]
}

/// Name, place and lines, first to last, of every function with a body in blanked code.
pub(crate) fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (start, _) in words(code).filter(|(_, word)| *word == "fn") {
        let name = word_at(code, (start + 3).min(code.len()));
        if name.is_empty() {
            continue;
        }
        if let Some(open) = body(bytes, start) {
            let end = closing(bytes, open);
            let lines = bytes[start..end].iter().filter(|byte| **byte == b'\n').count() + 1;
            found.push((name, start, lines));
        }
    }
    found
}

/// Where the body of the function at `start` opens, if it has one.
fn body(code: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    let source = "let a = \"x // y\"; // tail\nlet b = 'c'; /* in /* deep */ er */ fn f<'a>(s: &'a str) {}";
    let code = blank(source);
    assert_eq!(code.len(), source.len());
    assert!(!code.contains('x') && !code.contains("tail") && !code.contains("deep") && !code.contains("er "));
    assert!(code.contains("fn f<'a>(s: &'a str) {}"), "{code}");
    assert!(!code.contains("'c'"));
}

#[test]
fn raw_strings_and_escapes_end_where_they_end() {
    let code = blank(r####"a(r#"one " two"#); b(br"\"); c("\""); d('\''); e('\u{1f}'); r#type; f("ä"); g('→');"####);
    let kept: String = code.split_whitespace().collect();
    assert_eq!(kept, "a();b(b);c();d();e();r#type;f();g();");
}

#[test]
fn test_modules_are_no_product() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { x } }\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}";
    let product = without_tests(code);
    let names: Vec<_> = functions(&product).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert!(!product.contains("more"));
}

#[test]
fn functions_are_measured_from_first_to_last_line() {
    let code = "trait T { fn none(&self, x: [u8; 2]); }\nfn one() { 1 }\npub fn three(\n) -> [u8; 3] {\n}\n";
    let found = functions(code);
    assert_eq!(found.iter().map(|(name, _, lines)| (*name, *lines)).collect::<Vec<_>>(), [("one", 1), ("three", 3)]);
}
