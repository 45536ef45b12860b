//! Who may speak for a site: the highest term that was ever heard of its `uplink` duty. Owns the comparison and what
//! of it is durable; never touches a session.

use crate::ids::Term;

/// The fence of one site. `durable` follows `highest` by one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    highest: Term,
    durable: Term,
}

/// What a term may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A higher term has spoken: refused, for ever.
    Fenced {
        /// That term.
        highest: Term,
    },
    /// It is the highest and the store knows it: welcome.
    Welcome,
    /// It is the highest, but the store does not know it yet: it must, before the session is welcomed, or a region
    /// that restarts would let a lower term in again.
    AwaitsStore,
}

impl Fence {
    /// The fence as the store remembers it.
    pub const fn new(durable: Term) -> Self {
        Self { highest: durable, durable }
    }

    /// Hears `term`; from now on every lower one is fenced off.
    pub fn hear(&mut self, term: Term) -> Standing {
        if term < self.highest {
            return Standing::Fenced { highest: self.highest };
        }
        self.highest = term;
        if term > self.durable {
            Standing::AwaitsStore
        } else {
            Standing::Welcome
        }
    }

    /// The term that the next transaction must make durable, if any.
    pub fn owed(&self) -> Option<Term> {
        (self.highest > self.durable).then_some(self.highest)
    }

    /// The store has made `term` durable.
    pub fn stored(&mut self, term: Term) {
        self.durable = self.durable.max(term);
    }

    /// The highest term heard.
    pub const fn highest(&self) -> Term {
        self.highest
    }

    /// Whether what is durable never runs ahead of what was heard.
    pub fn check(&self) -> bool {
        self.durable <= self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_below_is_fenced_equal_stands_one_above_waits_for_the_store() {
        let at = Term::from_token(500);
        let mut fence = Fence::new(at);
        assert_eq!(fence.hear(Term::from_token(499)), Standing::Fenced { highest: at });
        assert_eq!(fence.hear(at), Standing::Welcome);
        assert_eq!(fence.owed(), None);
        let above = Term::from_token(501);
        assert_eq!(fence.hear(above), Standing::AwaitsStore);
        assert_eq!(fence.hear(at), Standing::Fenced { highest: above });
        assert_eq!(fence.owed(), Some(above));
        fence.stored(above);
        assert_eq!((fence.owed(), fence.hear(above)), (None, Standing::Welcome));
        assert!(fence.check());
    }

    #[test]
    fn an_older_transaction_does_not_lower_what_is_durable() {
        let mut fence = Fence::new(Term::from_token(3));
        fence.stored(Term::from_token(2));
        assert_eq!(fence.hear(Term::from_token(3)), Standing::Welcome);
    }
}
