//! Worlds by seed, held to the promises; and lies that the same checks must find.

mod crash_points;
mod fuzz_corpora;
mod lies;
mod race;
mod seeds;
mod shrinking;
