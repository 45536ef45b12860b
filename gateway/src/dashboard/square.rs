//! A text as the square that telephones read (QR code): inline SVG, dark on light whatever the page's colours are.

use std::fmt::Write as _;

use maud::{Markup, html};
use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light around the square (ISO/IEC 18004: four).
const QUIET: i32 = 4;

/// The square; `None` where the text does not fit into any.
pub(super) fn square(text: &str) -> Option<Markup> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let side = code.size() + 2 * QUIET;
    let mut dark = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            // Writing to a String cannot fail.
            let _ = write!(dark, "M{} {}h1v1h-1z", x + QUIET, y + QUIET);
        }
    }
    Some(html! {
        svg.square viewBox=(format!("0 0 {side} {side}")) role="img" aria-label="The secret, to be read by a telephone"
            shape-rendering="crispEdges" {
            rect width=(side) height=(side) fill="#fff" {}
            path d=(dark) fill="#000" {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_has_its_three_corners_and_a_quiet_edge() {
        let drawn = square("otpauth://totp/Roadstead:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Roadstead");
        let drawn = drawn.unwrap().into_string();
        assert!(
            drawn.contains("M4 4h1v1h-1z") && drawn.contains("M10 4h1v1h-1z") && !drawn.contains("M11 4h1"),
            "{drawn}"
        );
        assert!(!drawn.contains("M3 ") && !drawn.contains(" 3h1"));
        assert!(square(&"a".repeat(10_000)).is_none());
    }
}
