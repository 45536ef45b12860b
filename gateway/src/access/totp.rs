//! The six digits that a telephone shows: RFC 6238 with SHA-1, 30 seconds and 6 digits, which is what every authenticator does. It
//! is a truncated HMAC, and the HMAC is the one of the TLS below; a crate for it would bring a second set of hash functions, and
//! does not say which step matched, without which a code that was seen over a shoulder is good once more.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use shared::time::WallMillis;

use super::secrets::{Fingerprint, NoEntropy, drawn, fingerprint};

/// How long a code is shown.
pub const STEP_MS: u64 = 30_000;
/// Codes of so many steps before and after are taken: the clock of a telephone (RFC 6238, section 5.2: one is recommended).
const STEPS_AROUND: u64 = 1;
/// Bytes of the secret: RFC 4226, section 4 recommends 160 bits.
pub const SECRET_BYTES: usize = 20;
/// Codes for those who have lost the telephone.
pub const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code.
const RECOVERY_BYTES: usize = 10;

/// What a telephone and this gateway share.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret([u8; SECRET_BYTES]);

/// A secret never reaches a log.
impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret")
    }
}

impl TotpSecret {
    /// A new one.
    pub fn draw() -> Result<Self, NoEntropy> {
        Ok(Self(drawn()?))
    }

    pub(super) const fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// As [`Self::text`] wrote it; `None` where it is none.
    pub fn of_text(text: &str) -> Option<Self> {
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As a person types it into a telephone.
    pub fn text(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    /// What a telephone reads from a square.
    pub fn uri(&self, account: &str) -> String {
        format!("otpauth://totp/Roadstead:{account}?secret={}&issuer=Roadstead", self.text())
    }

    /// The code of a step (RFC 4226, section 5.3).
    pub fn code(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag.last().copied().unwrap_or(0) & 0x0f);
        let mut four = [0; 4];
        // A tag has 20 bytes, and the last four begin at 16 at most.
        four.copy_from_slice(tag.get(at..at + 4).unwrap_or(&[0; 4]));
        format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
    }

    /// The step whose code this is, of those around `now` that are later than `used`, the newest that was taken.
    pub fn step_of(&self, code: &str, now: WallMillis, used: u64) -> Option<u64> {
        let at = step_at(now);
        let steps = at.saturating_sub(STEPS_AROUND)..=at.saturating_add(STEPS_AROUND);
        steps
            .filter(|step| verify_slices_are_equal(self.code(*step).as_bytes(), code.as_bytes()).is_ok())
            .find(|step| *step > used)
    }
}

/// The step of a moment.
pub const fn step_at(now: WallMillis) -> u64 {
    now.0 / STEP_MS
}

/// A person's code as it was meant: without the spaces and strokes that make it readable.
pub(super) fn plain(code: &str) -> String {
    let kept = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    kept.take(64).map(|c| c.to_ascii_uppercase()).collect()
}

/// Fresh recovery codes, in groups of four letters.
pub fn recovery_codes() -> Result<Vec<String>, NoEntropy> {
    let code = |_| {
        let bytes: [u8; RECOVERY_BYTES] = drawn()?;
        let letters: Vec<char> = BASE32_NOPAD.encode(&bytes).chars().collect();
        let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
        Ok(groups.join("-"))
    };
    (0..RECOVERY_CODES).map(code).collect()
}

/// What is kept of a recovery code.
pub(super) fn recovery_print(code: &str) -> Fingerprint {
    fingerprint(plain(code).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of RFC 6238, appendix B, for SHA-1.
    fn known() -> TotpSecret {
        TotpSecret::from_bytes(*b"12345678901234567890")
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        let codes = [59, 1_111_111_109, 1_111_111_111, 1_234_567_890, 2_000_000_000, 20_000_000_000_u64]
            .map(|seconds| known().code(step_at(WallMillis(seconds * 1000))));
        // The last six of the RFC's eight digits.
        assert_eq!(codes, ["287082", "081804", "050471", "005924", "279037", "353130"]);
        assert_eq!(known().text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn a_code_is_good_one_step_around_and_once() {
        let now = WallMillis(100 * STEP_MS);
        for (step, good) in [(98, false), (99, true), (100, true), (101, true), (102, false)] {
            assert_eq!(known().step_of(&known().code(step), now, 0), good.then_some(step), "step {step}");
        }
        let code = known().code(100);
        assert_eq!(known().step_of(&code, now, 99), Some(100));
        assert_eq!(known().step_of(&code, now, 100), None, "it was used");
        for bad in ["", "28708", "2870822", "abcdef"] {
            assert_eq!(known().step_of(bad, now, 0), None, "{bad:?}");
        }
    }

    #[test]
    fn recovery_codes_are_read_however_they_are_typed() {
        let codes = recovery_codes().unwrap();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let code = &codes[0];
        assert_eq!(code.len(), 19);
        assert_eq!(recovery_print(code), recovery_print(&code.replace('-', " ").to_lowercase()));
        assert_ne!(recovery_print(code), recovery_print(&codes[1]));
    }
}
