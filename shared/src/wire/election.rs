//! Votes: between candidates and voters, boards and witnesses alike.

use serde::{Deserialize, Serialize};

use crate::ids::{Term, Voters};

/// One message of the election.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ElectionMessage {
    /// Grant me this term (or renew it) for so long.
    Acquire(Acquire),
    /// You have my grant; or, to a trial, you would have it.
    Granted {
        /// The term asked for.
        term: Term,
        /// The attempt asked for: tells renewals apart, so that a late answer extends nothing.
        attempt: u64,
        /// Nothing that the voter ever granted to another term can still run: no grant was voided before its time (by a
        /// release, a waiver or an obituary) whose time is not over by now. What was done under an earlier lease by
        /// others than its holder may go on until then.
        clear: bool,
    },
    /// You have not; nothing changed at the voter.
    Denied {
        /// The term asked for.
        term: Term,
        /// The attempt asked for.
        attempt: u64,
        /// Highest term the voter has promised.
        promised: Term,
        /// Until its own live grant or abstention ends; 0 where there is none.
        remaining_micros: u64,
        /// Who votes, where the voter knows of a later decision than the candidate.
        voters: Option<Voters>,
        /// Whether the voter has met a leader of its site.
        met: Met,
    },
    /// I do not act under this term any more; its grant is void.
    Release {
        /// The term given up.
        term: Term,
    },
    /// I do not count on the grants of this term up to this attempt any more; the voter may forget them. The term
    /// goes on with other voters.
    Waive {
        /// The term.
        term: Term,
        /// The newest attempt that is not counted on.
        attempt: u64,
    },
    /// From a leader that has stopped: its term is free, and you are to ask for the next one now.
    HandOver {
        /// The term given up.
        term: Term,
    },
    /// From a leader: remember on disk who votes from now on.
    Propose {
        /// The leader's term.
        term: Term,
        /// Who votes.
        voters: Voters,
    },
    /// It is on disk.
    Stored {
        /// The leader's term.
        term: Term,
        /// The version remembered.
        version: u64,
    },
}

/// A request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acquire {
    /// The term.
    pub term: Term,
    /// Counts the candidate's requests.
    pub attempt: u64,
    /// How long, counted by each voter from receipt and by the candidate from sending.
    pub lease_micros: u64,
    /// Only asks what the answer would be: the voter judges it like any other, and changes nothing.
    pub trial: bool,
    /// The candidate's life (the nonce of its epoch): an obituary of that life voids what it was granted.
    pub life: u64,
    /// The newest decision who votes that the candidate knows of. It counts by this one; a leader that changes it counts
    /// by the one before, until this one is complete.
    pub voters: Voters,
    /// A term that is known to have ended before its lease: handed over to this candidate, given up, or its holder's
    /// life attested over. Its grant is void, even where the voter has not been told of it yet.
    pub released: Option<Term>,
    /// What the candidate knows of its site.
    pub standing: Standing,
    /// What the voter is told because it said that it has met no leader yet.
    pub vouch: Option<Vouch>,
}

/// What a candidate knows of its site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// No leader, as far as its disk remembers: the site is new, or the board or its disk is.
    #[default]
    Stranger,
    /// It has met one since its disk remembers.
    Member,
    /// It leads: it holds the lease of the request's term.
    Leader,
    /// It leads, and is the first of its site that ever did: it was elected by voters none of which had met a leader.
    Founder,
}

/// Whether a voter has met a leader of its site since its disk remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Met {
    /// It has.
    #[default]
    Leader,
    /// It has not, and cannot be told of one yet: it may have forgotten grants that still run.
    Nobody,
    /// It has not, and waits for the founder of its site to [`Vouch`] for it; its life.
    Early(u64),
    /// It has not, and waits for any member to [`Vouch`] for it; its life.
    Waits(u64),
}

/// A member's word for a voter that has met no leader yet. It answers a denial, so that it was sent after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vouch {
    /// What the voter said when it denied.
    pub answers: Met,
    /// The highest term that the member has promised; of a leader, at least the one it leads under.
    pub promised: Term,
    /// How long the lease of a leader still runs, in microseconds.
    pub held_micros: u64,
}
