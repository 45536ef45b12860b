//! CRC-32C (Castagnoli), the one checksum of frames, journal blocks, runs and sealed blocks: the polynomial of
//! iSCSI (RFC 3720) and ext4. Sixteen tables at a time, because `shared` may name no CPU feature.

use crc::{CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}

/// Checksum of the parts as if they were one slice.
pub fn crc32c_of(parts: &[&[u8]]) -> u32 {
    let mut digest = CRC32C.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}
