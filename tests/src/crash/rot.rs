//! What befalls bytes that were durable: bits flip, pages and files are zeroed, files change places or go back to what
//! they held before, and a whole disk is an older copy of itself.

use shared::ids::SegmentId;
use shared::limits::PAGE_BYTES;

use crate::crash::medium::Medium;
use crate::crash::site::Piece;
use crate::dice::Dice;

/// A kind of rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One bit of a block.
    Flip,
    /// One page of a block reads as zeros.
    ZeroedPage,
    /// All of a segment reads as zeros.
    ZeroedSegment,
    /// Two segments have changed places.
    Swapped,
    /// A segment is as it was some time ago.
    Replayed,
    /// One copy of the state has a flipped bit.
    State,
    /// The whole disk is as it was some time ago.
    Restored,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Flip,
        Self::ZeroedPage,
        Self::ZeroedSegment,
        Self::Swapped,
        Self::Replayed,
        Self::State,
        Self::Restored,
    ];

    /// Its name in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flip => "bit flip",
            Self::ZeroedPage => "zeroed page",
            Self::ZeroedSegment => "zeroed segment",
            Self::Swapped => "swapped segments",
            Self::Replayed => "replayed segment",
            Self::State => "bit flip in a copy of the state",
            Self::Restored => "restored disk",
        }
    }
}

/// Rot that has struck.
#[derive(Clone, Debug)]
pub struct Rot {
    /// What.
    pub kind: Kind,
    /// Which board's disk.
    pub board: usize,
    /// The segment of which damage must be told where fewer than so many blocks of it are left: a whole block follows the
    /// one that was hit.
    pub must_tell: Option<(SegmentId, usize)>,
    /// In words.
    pub what: String,
}

fn file_of(segment: SegmentId) -> String {
    format!("{:016x}.seg", segment.0)
}

/// Lets rot of `kind` strike the disk of `board`, which holds `pieces`; `older` is the same disk at an earlier time.
/// `None` where there is nothing for it to strike.
pub fn strike(
    kind: Kind,
    (board, medium): (usize, &mut Medium),
    pieces: &[Piece],
    older: &Medium,
    dice: &mut Dice,
) -> Option<Rot> {
    let rot = |must_tell, what| Some(Rot { kind, board, must_tell, what });
    let piece = pieces.get(usize::try_from(dice.below(pieces.len().max(1) as u64)).ok()?);
    match kind {
        Kind::Flip | Kind::ZeroedPage => {
            let piece = piece?;
            let pages = u64::from(piece.length) / PAGE_BYTES as u64;
            let first = piece.offset as usize / PAGE_BYTES;
            let page = first + usize::try_from(dice.below(pages)).ok()?;
            let (byte, bit) = (usize::try_from(dice.below(PAGE_BYTES as u64)).ok()?, dice.below(8));
            medium.spoil(&file_of(piece.segment), page, |bytes| match kind {
                Kind::Flip => bytes[byte] ^= 1 << bit,
                _ => bytes.fill(0),
            });
            let follows = |other: &&Piece| other.segment == piece.segment && other.offset > piece.offset;
            let blocks = pieces.iter().filter(|other| other.segment == piece.segment).count();
            let must_tell = pieces.iter().any(|other| follows(&other)).then_some((piece.segment, blocks));
            rot(must_tell, format!("{} in page {page} of {}", kind.name(), file_of(piece.segment)))
        }
        Kind::ZeroedSegment => {
            let name = file_of(piece?.segment);
            let mut page = 0;
            while medium.spoil(&name, page, |bytes| bytes.fill(0)) {
                page += 1;
            }
            rot(None, format!("{name} is zeroed"))
        }
        Kind::Swapped => {
            let one = piece?.segment;
            let other = pieces.iter().map(|piece| piece.segment).find(|other| *other != one)?;
            medium.swap(&file_of(one), &file_of(other)).then_some(())?;
            rot(None, format!("{} and {} change places", file_of(one), file_of(other)))
        }
        Kind::Replayed => {
            let name = file_of(piece?.segment);
            medium.replay(&name, older).then_some(())?;
            rot(None, format!("{name} is as it was before"))
        }
        Kind::State => {
            let (copy, byte) = (usize::from(dice.coin()), usize::try_from(dice.below(PAGE_BYTES as u64)).ok()?);
            medium.spoil("state", copy, |bytes| bytes[byte] ^= 1).then_some(())?;
            rot(None, format!("copy {copy} of the state has a flipped bit at {byte}"))
        }
        Kind::Restored => {
            *medium = older.clone();
            rot(None, "the disk is as it was before".into())
        }
    }
}
