//! Blocks of ports (row U3): which stack has which of a DVIPA ([`model::ports`]).
//!
//! | event | what follows |
//! | --- | --- |
//! | a stack says what it has, for the first time in a session | that is what it has, but for blocks of others, which it is told |
//! | the same later, the last grant read | as before |
//! | the same later, the last grant not read | nothing: it will say so again when it has read it |
//! | it wants more | free blocks, if this stack owns the DVIPA and knows what the others have |
//! | this stack becomes the owner | all have to say anew what they have: the former owner may have granted more than was heard here |
//! | its session ends | it keeps what it has: its host may serve on |
//! | it is dead, or forgotten | its blocks are free |
//!
//! A backup writes down what stacks say as the owner does, so that it knows when it takes over; it grants nothing before. What the others
//! have is known when each that may have something has said so in the owner's epoch, or is dead, and at the latest after
//! [`super::SETTLES`].
//!
//! Of a DVIPA that moves from stack to stack (VIPARANGE) no blocks are granted: an application that follows it has to get the same ports at each.
//!
//! Free are blocks from port 1024 on that no stack has, in which no port is enumerated, and in which no other stack listens. A stack
//! that has nothing gets [`FIRST`] blocks, as long as there is enough for four times as many stacks as there are: the first
//! burst of connections need not wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use model::codec::Address;
use model::dpt::StackState;
use model::message::ToStack;
use model::ports::{BLOCKS, FIRST_BLOCK, PortBlocks, PortsGranted, PortsHeld, block_of};
use model::{Dvipa, Service, StackName};

use super::dirty::Mark;
use super::pace::Urgency;
use super::stacks::StackNow;
use super::{Action, Offence, Refusal, RoutingStack};

/// Blocks for a stack that has none: 1024 ports.
const FIRST: u16 = 16;

/// The blocks of all DVIPAs.
#[derive(Debug, Default)]
pub(super) struct Ports {
    shares: BTreeMap<Dvipa, BTreeMap<StackName, Share>>,
    /// DVIPAs whose stacks have to be told what others have.
    untold: BTreeSet<Dvipa>,
    /// DVIPAs of which it is not known what stacks have, because this one owns them since a moment ago, and until when that is waited for.
    unknown: BTreeMap<Dvipa, Instant>,
    /// A fault on purpose: nothing is waited for.
    #[cfg(test)]
    pub(super) grants_at_once: bool,
}

/// What a stack has of a DVIPA.
#[derive(Debug, Default)]
struct Share {
    blocks: PortBlocks,
    /// It has said so in the session that is up.
    is_here: bool,
    /// The number of the last grant of this session.
    number: u64,
    /// How many blocks more it wants.
    wanted: u16,
    /// What it was told that others have.
    elsewhere: Option<PortBlocks>,
}

impl Ports {
    /// Does the stack have the block of this port?
    pub(super) fn has(&self, dvipa: Dvipa, stack: &StackName, port: u16) -> bool {
        let share = self.shares.get(&dvipa).and_then(|shares| shares.get(stack));
        share.is_some_and(|share| share.blocks.contains(block_of(port)))
    }

    /// What stacks other than this one have.
    fn elsewhere(&self, dvipa: Dvipa, stack: &StackName) -> PortBlocks {
        let others = self.shares.get(&dvipa).into_iter().flatten().filter(|(name, _)| *name != stack);
        others.fold(PortBlocks::NONE, |all, (_, share)| all.union(&share.blocks))
    }

    /// A stack says what it has. `Err`: it does not know the last grant yet. Otherwise the blocks of others among them.
    fn said(&mut self, dvipa: Dvipa, stack: &StackName, held: &PortsHeld) -> Result<PortBlocks, ()> {
        let elsewhere = self.elsewhere(dvipa, stack);
        let share = self.shares.entry(dvipa).or_default().entry(stack.clone()).or_default();
        if share.is_here && share.number != held.read {
            return Err(());
        }
        let blocks = held.held.without(&elsewhere);
        if blocks != share.blocks {
            self.untold.insert(dvipa);
        }
        *share = Share {
            blocks,
            is_here: true,
            number: held.read,
            wanted: held.wanted,
            elsewhere: share.elsewhere,
        };
        Ok(held.held.intersection(&elsewhere))
    }

    /// The session with a stack is over.
    pub(super) fn session_over(&mut self, stack: &StackName) {
        for share in self.shares.values_mut().filter_map(|shares| shares.get_mut(stack)) {
            *share = Share { blocks: share.blocks, ..Share::default() };
        }
    }

    /// This stack owns the DVIPA from now on.
    pub(super) fn gained(&mut self, dvipa: Dvipa, until: Instant) {
        #[cfg(test)]
        if self.grants_at_once {
            return;
        }
        self.say_anew(dvipa);
        self.unknown.insert(dvipa, until);
    }

    /// When [`RoutingStack::know_ports`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.unknown.values().min().copied()
    }

    /// This stack does not own the DVIPA any more. What it was about to grant, none takes.
    pub(super) fn lost(&mut self, dvipa: Dvipa) {
        self.unknown.remove(&dvipa);
        self.say_anew(dvipa);
    }

    /// Stacks say anew what they have.
    fn say_anew(&mut self, dvipa: Dvipa) {
        for share in self.shares.get_mut(&dvipa).into_iter().flat_map(BTreeMap::values_mut) {
            share.is_here = false;
        }
    }

    /// The stack has nothing any more.
    pub(super) fn forget(&mut self, stack: &StackName) {
        for (dvipa, shares) in &mut self.shares {
            if shares.remove(stack).is_some() {
                self.untold.insert(*dvipa);
            }
        }
    }

    /// The DVIPA is forgotten.
    pub(super) fn forget_dvipa(&mut self, dvipa: Dvipa) {
        self.shares.remove(&dvipa);
        self.unknown.remove(&dvipa);
    }

    /// Grants what is wanted, as far as there is something free, and says what stacks have to be told. `taken`: what can't be
    /// granted to a stack, beside what others have.
    fn grant(
        &mut self,
        dvipa: Dvipa,
        anew: Option<&StackName>,
        taken: impl Fn(&StackName) -> PortBlocks,
    ) -> Vec<(StackName, Grant)> {
        let Some(shares) = self.shares.get_mut(&dvipa) else { return Vec::new() };
        let mut given = shares.values().fold(PortBlocks::NONE, |all, share| all.union(&share.blocks));
        let stacks = u16::try_from(shares.len()).unwrap_or(u16::MAX);
        let mut told = Vec::new();
        for (stack, share) in shares.iter_mut().filter(|(_, share)| share.is_here) {
            let mut changed = anew == Some(stack);
            if share.wanted > 0 {
                let all: PortBlocks = (FIRST_BLOCK..BLOCKS).collect();
                let free = all.without(&given).without(&taken(stack));
                let first = FIRST.min(free.len() / stacks.saturating_mul(4).max(1));
                let most = if share.blocks.is_empty() { share.wanted.max(first) } else { share.wanted };
                let new: PortBlocks = free.iter().take(usize::from(most)).collect();
                if !new.is_empty() {
                    given = given.union(&new);
                    (share.blocks, share.wanted, changed) = (share.blocks.union(&new), 0, true);
                    self.untold.insert(dvipa);
                }
            }
            if changed {
                share.number = share.number.saturating_add(1);
                let elsewhere = given.without(&share.blocks);
                share.elsewhere = Some(elsewhere);
                told.push((stack.clone(), Grant { number: share.number, granted: share.blocks, elsewhere }));
            }
        }
        told
    }

    /// What stacks are to be told of others, where they do not know it.
    fn tell(&mut self, dvipa: Dvipa) -> Vec<(StackName, Grant)> {
        let Some(shares) = self.shares.get_mut(&dvipa) else { return Vec::new() };
        let given = shares.values().fold(PortBlocks::NONE, |all, share| all.union(&share.blocks));
        let mut told = Vec::new();
        for (stack, share) in shares.iter_mut().filter(|(_, share)| share.is_here) {
            let elsewhere = given.without(&share.blocks);
            if share.elsewhere.replace(elsewhere) != Some(elsewhere) {
                told.push((stack.clone(), Grant { number: share.number, granted: share.blocks, elsewhere }));
            }
        }
        told
    }
}

/// What a stack is told.
#[derive(Clone, Copy, Debug)]
struct Grant {
    number: u64,
    granted: PortBlocks,
    elsewhere: PortBlocks,
}

impl RoutingStack {
    /// A stack says which blocks of ports it has, and how many more it wants.
    pub(super) fn ports_held(&mut self, from: &StackName, held: &PortsHeld) -> Result<(), Refusal> {
        let (dvipa, _) = self.present(from, held.dvipa, held.epoch)?;
        let Ok(taken) = self.ports.said(dvipa, from, held) else { return Ok(()) };
        self.pace.want(Urgency::Soon);
        self.claim_own_ports(from, dvipa);
        self.grant_ports(dvipa, Some(from).filter(|_| !taken.is_empty()));
        match taken.is_empty() {
            true => Ok(()),
            false => Err(Offence::PortsTaken { dvipa, blocks: taken.len() }.by(from)),
        }
    }

    /// Grants what is wanted of a DVIPA, if this stack owns it and has waited for what the others have.
    fn grant_ports(&mut self, dvipa: Dvipa, anew: Option<&StackName>) {
        let Some(epoch) = self.dvipas.owned(dvipa).map(|held| held.epoch) else { return };
        if self.settles.is_some() || self.config.vipadynamic.moves_alone(dvipa) || !self.knows_ports(dvipa) {
            return;
        }
        let enumerated = self.config.vipadynamic.distributes_of(dvipa).iter().flat_map(|d| &d.ports);
        let enumerated: PortBlocks = enumerated.map(|port| block_of(*port)).collect();
        let stacks = &self.stacks;
        let taken = |stack: &StackName| {
            let others = stacks.iter().filter(|other| other.name != stack).filter_map(|other| other.said);
            let listens =
                others.flat_map(|said| said.services_of(dvipa)).map(|service| block_of(service.port));
            enumerated.union(&listens.collect())
        };
        for (to, grant) in self.ports.grant(dvipa, anew, taken) {
            let message = ToStack::PortsGranted(PortsGranted {
                dvipa: Address(dvipa.address()),
                epoch,
                number: grant.number,
                granted: grant.granted,
                elsewhere: grant.elsewhere,
            });
            self.actions.push_back(Action::Send { to, message });
        }
    }

    /// For a fault: it does not wait until it knows what stacks have.
    #[cfg(test)]
    pub(crate) fn grant_at_once(&mut self) {
        self.ports.grants_at_once = true;
    }

    /// Whether it is known what stacks have of a DVIPA that this one owns.
    fn knows_ports(&mut self, dvipa: Dvipa) -> bool {
        if !self.ports.unknown.contains_key(&dvipa) {
            return true;
        }
        let picture = self.picture();
        let shares = self.ports.shares.get(&dvipa);
        let is_missing = |stack: &StackNow<'_>| {
            let said = shares.and_then(|shares| shares.get(stack.name)).is_some_and(|share| share.is_here);
            !said && picture.stack_state(*stack) != StackState::Dead && picture.may_have(dvipa, *stack)
        };
        let knows = !self.stacks.iter().any(|stack| is_missing(&stack));
        if knows {
            self.ports.unknown.remove(&dvipa);
        }
        knows
    }

    /// What stacks have of DVIPAs that this one has owned for long enough is known by now.
    pub(super) fn know_ports(&mut self, now: Instant) {
        let known: Vec<Dvipa> =
            self.ports.unknown.iter().filter(|(_, until)| **until <= now).map(|(dvipa, _)| *dvipa).collect();
        for dvipa in known {
            self.ports.unknown.remove(&dvipa);
            self.grant_ports(dvipa, None);
        }
    }

    /// This stack knows by now what the others have.
    pub(super) fn grant_all_ports(&mut self) {
        let owned: Vec<Dvipa> = self.dvipas.iter().map(|(dvipa, _)| dvipa).collect();
        owned.into_iter().for_each(|dvipa| self.grant_ports(dvipa, None));
    }

    /// Tells stacks what others have, of DVIPAs where that has changed.
    pub(super) fn tell_ports(&mut self) {
        if self.settles.is_some() {
            return;
        }
        for dvipa in std::mem::take(&mut self.ports.untold) {
            // Some of what another stack had may be what one waits for.
            self.grant_ports(dvipa, None);
            if self.config.vipadynamic.moves_alone(dvipa) {
                continue;
            }
            let Some(epoch) = self.dvipas.owned(dvipa).map(|held| held.epoch) else { continue };
            for (to, Grant { number, granted, elsewhere }) in self.ports.tell(dvipa) {
                let dvipa = Address(dvipa.address());
                let granted = PortsGranted { dvipa, epoch, number, granted, elsewhere };
                self.actions.push_back(Action::Send { to, message: ToStack::PortsGranted(granted) });
            }
        }
    }

    /// Listeners on ports of a stack's own blocks are its own, also where a definition without ports would spread them.
    fn claim_own_ports(&mut self, stack: &StackName, dvipa: Dvipa) {
        let picture = self.picture();
        let listens = picture.stacks.get(stack).and_then(|stack| stack.said).into_iter();
        let services = listens.flat_map(|said| said.services_of(dvipa));
        let own: Vec<Service> = services.filter(|service| picture.may_be_direct(stack, *service)).collect();
        for service in own {
            if self.direct.claim(service, stack) == super::direct::Claim::Won {
                self.mark(Mark::Service(service), Urgency::Now);
            }
        }
    }
}
