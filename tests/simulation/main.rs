//! Worlds by seed, held to the promises; and lies that the same checks must find.

mod lies;
mod seeds;
mod shrinking;
