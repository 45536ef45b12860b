//! Encryption of the journal: the file with the keys, and what is done to blocks with them. Blocks are sealed just before
//! they are written and opened just after they are read, so that whoever decides sees plain ones.

mod cipher;
mod ring;
#[cfg(test)]
mod tests;

pub use cipher::{Keys, OpenedBlocks};
pub(crate) use ring::name_of;
pub use ring::{Generation, KeyError, KeyFault, KeyRing, locate};
