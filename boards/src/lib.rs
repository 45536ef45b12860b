//! What hardware exists, as data: one profile a board, in `profiles/`, compiled in and tested. Owns parsing, checks and
//! look-up; touches no hardware, and claims nothing of a board that its maker or the kernel does not say.

mod profile;

pub use profile::{Limits, Profile, ProfileRefusal, Storage, StorageKind, Watchdog};

/// Every profile: its name and its text. A file in `profiles/` that is not listed here fails a test.
const PROFILES: &[(&str, &str)] = &[
    ("generic-arm64", include_str!("../profiles/generic-arm64.toml")),
    ("imx8m-plus", include_str!("../profiles/imx8m-plus.toml")),
    ("jetson-orin-nano-8gb", include_str!("../profiles/jetson-orin-nano-8gb.toml")),
    ("raspberry-pi-4b", include_str!("../profiles/raspberry-pi-4b.toml")),
    ("raspberry-pi-5", include_str!("../profiles/raspberry-pi-5.toml")),
    ("rock-5b", include_str!("../profiles/rock-5b.toml")),
    ("x86-64-dev", include_str!("../profiles/x86-64-dev.toml")),
];

/// Names of all profiles, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// The profile called `name`, or `None` where there is none: [`names`] lists what there is.
///
/// # Panics
/// Never in a build that passed its tests: they parse every profile.
pub fn find(name: &str) -> Option<Profile> {
    let (_, text) = PROFILES.iter().find(|(known, _)| *known == name)?;
    Some(Profile::parse(text).expect("every compiled-in profile is parsed by a test"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_profile_parses_and_bears_the_name_of_its_file() {
        for (name, text) in PROFILES {
            let profile = Profile::parse(text).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            assert_eq!(profile.name, *name);
            assert_eq!(find(name), Some(profile));
        }
        assert_eq!(find("no-such-board"), None);
    }

    #[test]
    fn every_file_is_compiled_in_and_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .trim_end_matches(".toml")
                    .to_owned()
            })
            .collect();
        assert_eq!(files.into_iter().collect::<Vec<_>>(), names().collect::<Vec<_>>());
    }

    #[test]
    fn every_fact_about_storage_and_watchdog_has_a_source() {
        for (name, text) in PROFILES {
            assert!(
                text.contains("# Source") || text.contains("# No hardware is described"),
                "{name}: say the sources"
            );
        }
    }
}
