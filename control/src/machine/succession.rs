//! What a routing stack wants to own: decided DVIPA by DVIPA from what it defines and what the other routing stacks say. What it may is
//! decided in the room `ownership`.
//!
//! A stack's rank is 255 where it is the primary, 1 to 254 where it is a backup. Of two stacks one *precedes*: one that is not leaving
//! before one that is, then the higher rank, then the name that comes first in the alphabet.
//!
//! | this stack | the others | it wants the DVIPA |
//! | --- | --- | --- |
//! | neither defines it nor backs it up | – | no |
//! | owns it | one owns it in a later epoch, or in the same one and precedes | no |
//! | owns it by lease | one that is to follow wants it: the next one by order, any if this one is leaving, the primary | no |
//! | owns it | all others | yes |
//! | does not own it | the owner names it as the next one | when it is warm |
//! | does not own it | the owner names another stack as the next one | no |
//! | does not own it | the owner is leaving, and of the others that live it precedes | when it is warm |
//! | does not own it | the owner is leaving, and another precedes | no |
//! | does not own it | the owner has it by order | no |
//! | is the primary, immediate | a backup owns it | when it is warm, or has waited for that |
//! | is the primary, when idle | a backup owns it | the same, and there is no connection |
//! | is a backup, or leaving | another owns it | no |
//! | owned it by lease until a moment ago | none owns it, and one wants it | no |
//! | does not own it | none owns it, and the former owner names it as the next one | when it is warm |
//! | does not own it | none owns it, and the former owner names another one | no |
//! | does not own it | none that lives owns it, and one was not heard yet | no |
//! | does not own it | none that lives owns it, and one precedes | no |
//! | precedes all that live | none that lives owns it | yes |
//!
//! The former owner wants it until it hears that the next one owns it: no address is without an owner in between. Where witnesses or
//! etcd decide, no two own it even for a moment: the former owner releases it when the next one waits for it, and forwards what still arrives.

use std::cmp::Reverse;

use model::{Epoch, StackName};

use crate::config::Moveable;

/// The rank of the stack with the VIPADEFINE.
pub(super) const PRIMARY: u8 = 255;

/// How a routing stack stands with a DVIPA that it defines or backs up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) stack: StackName,
    pub(super) rank: u8,
    /// It is about to end.
    pub(super) leaving: bool,
    /// Its ownership; none: it does not own it.
    pub(super) owns: Option<Owns>,
    /// It does not own it, and wants to.
    pub(super) wants: bool,
    /// Whom this stack, which owns it or owned it until a moment ago, wants to own it next, by order.
    pub(super) next: Option<StackName>,
}

/// An ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owns {
    pub(super) epoch: Epoch,
    /// An operator has ordered that.
    pub(super) by_order: bool,
}

/// This stack's own claim, and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) claim: Claim,
    /// When the primary takes it back.
    pub(super) moveable: Moveable,
    /// It knows the connections of every stack that the owner knows them of.
    pub(super) warm: bool,
    /// It has waited for that for long enough since its start.
    pub(super) settled: bool,
    /// No connection to the DVIPA is known.
    pub(super) idle: bool,
    /// It owned it until a moment ago.
    pub(super) former: bool,
    /// Witnesses decide, or etcd does, so that no stack owns it before the former owner has released it.
    pub(super) leased: bool,
}

impl Claim {
    fn precedes(&self, other: &Claim) -> bool {
        let place = |claim: &Claim| (!claim.leaving, claim.rank, Reverse(claim.stack.clone()));
        place(self) > place(other)
    }
}

/// Whether this stack wants the DVIPA. `others`: the claims of those that live; `unheard`: one of the others may live and have a claim,
/// but has not said anything yet.
pub(super) fn wants(own: Option<&Own>, others: &[Claim], unheard: bool) -> bool {
    let Some(own) = own else { return false };
    let claim = &own.claim;
    let owner = others.iter().filter_map(|other| Some((other, other.owns.as_ref()?))).max_by(|a, b| {
        let place = |(claim, owns): &(&Claim, &Owns)| (owns.epoch, claim.rank, Reverse(claim.stack.clone()));
        place(a).cmp(&place(b))
    });
    let precedes_all = |but: Option<&StackName>| {
        others.iter().filter(|other| Some(&other.stack) != but).all(|other| claim.precedes(other))
    };
    match (&claim.owns, owner) {
        (Some(ours), Some((other, theirs))) => {
            ours.epoch > theirs.epoch || (ours.epoch == theirs.epoch && claim.precedes(other))
        }
        (Some(ours), None) => !own.leased || !others.iter().any(|other| follows(claim, ours, other)),
        (None, Some((Claim { next: Some(next), .. }, _))) => *next == claim.stack && own.warm,
        (None, Some((owner, _))) if owner.leaving => {
            !claim.leaving && precedes_all(Some(&owner.stack)) && own.warm
        }
        (None, Some((owner, theirs))) => {
            let primary = claim.rank == PRIMARY && owner.rank != PRIMARY && !claim.leaving;
            let may = match own.moveable {
                Moveable::Immediate | Moveable::NonDisruptive | Moveable::Disruptive => true,
                Moveable::WhenIdle => own.idle,
            };
            primary && !theirs.by_order && (own.warm || own.settled) && may
        }
        (None, None) if own.leased && own.former && others.iter().any(|other| other.wants) => false,
        (None, None) => match others.iter().find_map(|other| other.next.as_ref()) {
            // The former owner has released it, or has heard that the next one owns it, who is not heard yet.
            Some(next) => *next == claim.stack && own.warm,
            None => !unheard && precedes_all(None),
        },
    }
}

/// Whether this other stack, which wants the DVIPA, is to own it after this one.
fn follows(claim: &Claim, ours: &Owns, other: &Claim) -> bool {
    let takes_back = other.rank == PRIMARY && claim.rank != PRIMARY && !ours.by_order;
    other.wants && (claim.leaving || claim.next.as_ref() == Some(&other.stack) || takes_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StackName {
        StackName::new(name).unwrap()
    }

    fn claim(stack: &str, rank: u8) -> Claim {
        Claim { stack: name(stack), rank, leaving: false, owns: None, wants: false, next: None }
    }

    fn owner(stack: &str, rank: u8, epoch: u64) -> Claim {
        Claim { owns: Some(Owns { epoch: Epoch(epoch), ..Owns::default() }), ..claim(stack, rank) }
    }

    fn leaving(claim: Claim) -> Claim {
        Claim { leaving: true, ..claim }
    }

    fn next(claim: Claim, stack: &str) -> Claim {
        Claim { next: Some(name(stack)), ..claim }
    }

    fn by_order(claim: Claim) -> Claim {
        let owns = claim.owns.map(|owns| Owns { by_order: true, ..owns });
        Claim { owns, ..claim }
    }

    fn warm(claim: Claim) -> Own {
        Own {
            claim,
            moveable: Moveable::Immediate,
            warm: true,
            settled: false,
            idle: false,
            former: false,
            leased: false,
        }
    }

    fn cold(claim: Claim) -> Own {
        Own { warm: false, ..warm(claim) }
    }

    fn leased(own: Own, former: bool) -> Own {
        Own { former, leased: true, ..own }
    }

    fn next_own(claim: &Claim, stack: &str) -> Own {
        warm(next(claim.clone(), stack))
    }

    fn wanting(claim: Claim) -> Claim {
        Claim { wants: true, ..claim }
    }

    fn when_idle(claim: Claim, idle: bool) -> Own {
        Own { moveable: Moveable::WhenIdle, idle, ..warm(claim) }
    }

    #[test]
    fn every_row_of_the_table() {
        let (none, rt1, rt2, rt3) = (&[][..], claim("rt1", 255), claim("rt2", 200), claim("rt3", 100));
        #[rustfmt::skip]
        let rows = [
            ("owns it, alone", warm(owner("rt1", 255, 7)), none.to_vec(), false, true),
            ("owns it, one was not heard", warm(owner("rt2", 200, 7)), vec![], true, true),
            ("owns it, a later epoch", warm(owner("rt1", 255, 7)), vec![owner("rt2", 200, 8)], false, false),
            ("owns it, an earlier epoch", warm(owner("rt2", 200, 8)), vec![owner("rt1", 255, 7)], false, true),
            ("owns it, the same epoch, precedes", warm(owner("rt1", 255, 7)), vec![owner("rt2", 200, 7)], false, true),
            ("owns it, the same epoch, follows", warm(owner("rt2", 200, 7)), vec![owner("rt1", 255, 7)], false, false),
            ("owns it and leaves, the next does not own it yet", warm(leaving(owner("rt1", 255, 7))), vec![rt2.clone()], false, true),
            ("named as the next one", warm(rt3.clone()), vec![next(owner("rt1", 255, 7), "rt3"), rt2.clone()], false, true),
            ("named, but cold", cold(rt3.clone()), vec![next(owner("rt1", 255, 7), "rt3")], false, false),
            ("another is named", warm(rt2.clone()), vec![next(owner("rt1", 255, 7), "rt3"), rt3.clone()], false, false),
            ("the owner leaves, precedes", warm(rt2.clone()), vec![leaving(owner("rt1", 255, 7)), rt3.clone()], false, true),
            ("the owner leaves, but cold", cold(rt2.clone()), vec![leaving(owner("rt1", 255, 7))], false, false),
            ("the owner leaves, another precedes", warm(rt3.clone()), vec![leaving(owner("rt1", 255, 7)), rt2.clone()], false, false),
            ("the owner leaves, and so does this one", warm(leaving(rt2.clone())), vec![leaving(owner("rt1", 255, 7))], false, false),
            ("the primary comes back", warm(rt1.clone()), vec![owner("rt2", 200, 8)], false, true),
            ("the primary comes back, but cold", cold(rt1.clone()), vec![owner("rt2", 200, 8)], false, false),
            ("the primary comes back, moved by order", warm(rt1.clone()), vec![by_order(owner("rt2", 200, 8))], false, false),
            ("when idle, and it is", when_idle(rt1.clone(), true), vec![owner("rt2", 200, 8)], false, true),
            ("when idle, and it is not", when_idle(rt1.clone(), false), vec![owner("rt2", 200, 8)], false, false),
            ("a backup that is higher", warm(rt2.clone()), vec![owner("rt3", 100, 8)], false, false),
            ("the primary leaves", warm(leaving(rt1.clone())), vec![owner("rt2", 200, 8)], false, false),
            ("the primary has waited for long enough", Own { settled: true, ..cold(rt1.clone()) }, vec![owner("rt2", 200, 8)], false, true),
            ("named, cold, and has waited", Own { settled: true, ..cold(rt3.clone()) }, vec![next(owner("rt1", 255, 7), "rt3")], false, false),
            ("released by order", leased(warm(rt3.clone()), false), vec![next(rt1.clone(), "rt3"), rt2.clone()], false, true),
            ("released by order, another is named", leased(warm(rt2.clone()), false), vec![next(rt1.clone(), "rt3"), rt3.clone()], false, false),
            ("released by order, but cold", leased(cold(rt3.clone()), false), vec![next(rt1.clone(), "rt3")], false, false),
            ("has released it, one wants it", leased(next_own(&rt1, "rt3"), true), vec![wanting(rt3.clone())], false, false),
            ("has released it, none wants it", leased(next_own(&rt1, "rt3"), true), vec![rt3.clone()], false, true),
            ("owns it by grants, the next one waits", leased(next_own(&owner("rt1", 255, 7), "rt3"), false), vec![wanting(rt3.clone())], false, false),
            ("owns it by grants, another waits", leased(next_own(&owner("rt1", 255, 7), "rt3"), false), vec![wanting(rt2.clone())], false, true),
            ("has yielded by order, another is named and not heard yet", warm(rt1.clone()), vec![next(rt2.clone(), "rt3"), rt3.clone()], false, false),
            ("two primaries", warm(claim("rt2", 255)), vec![owner("rt1", 255, 8)], false, false),
            ("none owns it, one was not heard", warm(rt1.clone()), vec![], true, false),
            ("none owns it, one precedes", warm(rt3.clone()), vec![rt2.clone()], false, false),
            ("none owns it, precedes", cold(rt2.clone()), vec![rt3.clone()], false, true),
            ("none owns it, all others leave", warm(rt3), vec![leaving(rt1), leaving(rt2)], false, true),
            ("none owns it, equal ranks, first by name", warm(claim("rt2", 100)), vec![claim("rt3", 100)], false, true),
            ("none owns it, equal ranks, second by name", warm(claim("rt3", 100)), vec![claim("rt2", 100)], false, false),
        ];
        for (row, own, others, unheard, wanted) in rows {
            assert_eq!(wants(Some(&own), &others, unheard), wanted, "{row}");
        }
        assert!(!wants(None, &[], false), "neither defined nor backed up");
    }

    #[test]
    fn of_any_number_that_hear_each_other_exactly_one_wants_what_none_owns() {
        let all =
            [("rt1", 255), ("rt2", 200), ("rt3", 200), ("rt4", 1)].map(|(stack, rank)| claim(stack, rank));
        for living in 1_u8..16 {
            let lives = |at: &usize| living & (1 << at) != 0;
            let those: Vec<Claim> = (0..4).filter(lives).map(|at| all[at].clone()).collect();
            let wanting = those.iter().filter(|own| {
                let others: Vec<Claim> = those.iter().filter(|other| other != own).cloned().collect();
                wants(Some(&warm((*own).clone())), &others, false)
            });
            assert_eq!(wanting.count(), 1, "{those:?}");
        }
    }
}
