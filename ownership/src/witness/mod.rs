//! A witness's side: which node it has granted which DVIPA.
//!
//! It grants a DVIPA to one node at a time, for as long as it leases to that node, which it counts itself from when it heard the ask.
//!
//! | a node is | Claims | Renew of that list | Renew of another | the lease lapses | another run of it claims |
//! | --- | --- | --- | --- | --- | --- |
//! | unknown, or has lapsed | leased to: Granted | Unleased | Unleased | – | leased to: Granted |
//! | leased to | its list replaced: Granted | renewed: Granted | Unleased | all its grants are free | Unleased, until it has lapsed |
//!
//! | a DVIPA is | claimed | its holder names it in a higher epoch | its holder does not name it, or lapses |
//! | --- | --- | --- | --- |
//! | free | granted, if the epoch is above the highest, or by an owner | – | – |
//! | granted | waits | granted in that epoch, if it is above the highest | to the first that waits, who is told |
//!
//! An owner (`Claim::owned`) has the grants of a majority already and may be joined in an epoch that is not above the highest: while it
//! owns, no higher one was granted by a majority, and if it does not any more, it does not count this grant.
//!
//! What a former run of the witness granted it does not know, so it leases to none until that must have lapsed; and it knows the
//! highest epoch of all ([`Kept`]), which is on disk before a grant in it leaves.
//!
//! Not granted is what the node may not claim, and an epoch so high that hardly any would be left for those that follow ([`Void`]).

mod seat;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::ownership::{Ask, Claims, FromWitness, Granted, Renew, ToWitness, Unleased, Withheld};
use model::{Dvipa, Epoch, StackName};

use crate::tenures::MAX_WANTED;
use seat::Seat;

/// So many nodes are leased to at most; one more is told to wait.
pub const MAX_NODES: usize = 64;
/// So many DVIPAs are remembered one by one at most, beyond those that are granted or waited for.
const MAX_SEATS: usize = 2 * MAX_WANTED;

/// What a witness has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The highest epoch that it has granted.
    pub epoch: Epoch,
    /// The longest lease that it has granted.
    pub lease: Duration,
}

impl Default for Kept {
    /// What one that has nothing on disk begins with.
    fn default() -> Self {
        Self { epoch: Epoch(0), lease: crate::lease::DEFAULT }
    }
}

/// What a witness wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Write this to disk. If that fails, nothing that follows may be done.
    Keep(Kept),
    /// Tell a routing stack.
    Send {
        /// Which.
        to: StackName,
        /// What.
        message: FromWitness,
    },
}

/// What is granted at present, for displays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which DVIPA.
    pub dvipa: Dvipa,
    /// To which routing stack.
    pub to: StackName,
    /// In which epoch.
    pub epoch: Epoch,
    /// Until when, unless it is renewed.
    pub until: Instant,
}

/// One of the stacks that lease to routing nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    /// It leases to none before.
    opens: Instant,
    /// The highest epoch of all.
    epoch: Epoch,
    kept: Kept,
    /// The highest epoch of the DVIPAs that are not in `seats`.
    above: Epoch,
    nodes: BTreeMap<StackName, Node>,
    seats: BTreeMap<Dvipa, Seat>,
    /// Who is to be told that its grants have changed.
    news: BTreeSet<StackName>,
    deeds: VecDeque<Deed>,
    void: u64,
}

/// A routing node that has asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    run: u64,
    /// The last ask that was heard.
    ask: Ask,
    list: Ask,
    until: Instant,
    lease: Duration,
    /// Its list, empty when the lease has lapsed.
    claims: BTreeMap<Dvipa, Claimed>,
    lapsed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Claimed {
    epoch: Epoch,
    owned: bool,
    granted: bool,
    /// It is never granted.
    is_void: bool,
}

/// Why a claim is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// The node may not claim that DVIPA.
    NotItsDvipa,
    /// The epoch is more than [`crate::MAX_LEAP`] above all that were granted.
    EpochTooHigh,
}

impl Witness {
    /// Leases to none at first.
    pub fn new(kept: Kept, now: Instant) -> Self {
        Self {
            opens: now + kept.lease,
            epoch: kept.epoch,
            kept,
            above: kept.epoch,
            nodes: BTreeMap::new(),
            seats: BTreeMap::new(),
            news: BTreeSet::new(),
            deeds: VecDeque::new(),
            void: 0,
        }
    }

    /// A routing stack says something, and may claim whatever it likes.
    pub fn heard(&mut self, from: &StackName, message: ToWitness, now: Instant) {
        // An epoch that is void is told as withheld, and that is all.
        let _ = self.heard_within(from, message, |_| true, now);
    }

    /// A routing stack says something, and may claim these DVIPAs. What it may not claim is not granted, as if another one had it.
    ///
    /// # Errors
    /// [`Void`]: some of its claims are that.
    pub fn heard_within(
        &mut self,
        from: &StackName,
        message: ToWitness,
        may: impl Fn(Dvipa) -> bool,
        now: Instant,
    ) -> Result<(), Void> {
        self.lapse(now);
        let outcome = match message {
            ToWitness::Claims(claims) => self.claims(from, &claims, may, now),
            ToWitness::Renew(renew) => {
                self.renew(from, renew, now);
                Ok(())
            }
        };
        self.tell();
        outcome
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Instant) {
        self.lapse(now);
        self.tell();
    }

    /// When [`Witness::tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.nodes.values().filter(|node| !node.lapsed).map(|node| node.until).min()
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self) -> Option<Deed> {
        self.deeds.pop_front()
    }

    /// What is granted, by DVIPA.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        self.seats.iter().filter_map(|(dvipa, seat)| {
            let to = seat.holder.clone()?;
            let node = self.nodes.get(&to)?;
            let epoch = node.claims.get(dvipa)?.epoch;
            Some(Grant { dvipa: *dvipa, to, epoch, until: node.until })
        })
    }

    /// What it has on disk, or is about to have.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// Until when it leases to none, because it has begun a short time ago.
    pub fn opens(&self) -> Instant {
        self.opens
    }

    /// How many messages were void: a lease or a list that is too long.
    pub fn void(&self) -> u64 {
        self.void
    }

    fn claims(
        &mut self,
        from: &StackName,
        asked: &Claims,
        may: impl Fn(Dvipa) -> bool,
        now: Instant,
    ) -> Result<(), Void> {
        let (run, ask) = (asked.run, asked.ask);
        let lease = Duration::from_millis(asked.lease_ms.into());
        if !(crate::lease::MIN..=crate::lease::MAX).contains(&lease) || asked.claims.len() > MAX_WANTED {
            self.void = self.void.saturating_add(1);
            return Ok(());
        }
        if let Some(wait) = self.wait(from, run, now) {
            self.unlease(from, run, ask, wait);
            return Ok(());
        }
        let former = self.nodes.get(from).filter(|node| node.run == run);
        if former.is_some_and(|node| node.ask >= ask) {
            return Ok(());
        }
        let claims = self.nodes.remove(from).map(|node| node.claims).unwrap_or_default();
        let node = Node { run, ask, list: ask, until: now + lease, lease, claims, lapsed: false };
        self.nodes.insert(from.clone(), node);
        let outcome = self.replace(from, asked, may);
        self.news.insert(from.clone());
        outcome
    }

    /// For how long this run of the node, which claims now, is not leased to.
    fn wait(&self, from: &StackName, run: u64, now: Instant) -> Option<Duration> {
        let left = |until: Instant| Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        let room = self.nodes.len() < MAX_NODES || self.nodes.contains_key(from);
        let other = self.nodes.get(from).filter(|node| node.run != run && !node.lapsed);
        let full = (!room).then_some(crate::lease::MAX);
        left(self.opens).or_else(|| other.and_then(|node| left(node.until))).or(full)
    }

    fn renew(&mut self, from: &StackName, Renew { run, ask, list }: Renew, now: Instant) {
        let node = self.nodes.get_mut(from).filter(|node| node.run == run);
        match node {
            Some(node) if node.ask >= ask => {}
            Some(node) if node.list == list && !node.lapsed => {
                node.ask = ask;
                node.until = now + node.lease;
                self.news.insert(from.clone());
            }
            Some(_) | None => {
                let wait = self.wait(from, run, now).unwrap_or_default();
                self.unlease(from, run, ask, wait);
            }
        }
    }

    fn unlease(&mut self, to: &StackName, run: u64, ask: Ask, wait: Duration) {
        // Rounded up, or the node would come a moment too early.
        let wait_ms = u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let message = FromWitness::Unleased(Unleased { run, ask, wait_ms });
        self.deeds.push_back(Deed::Send { to: to.clone(), message });
    }

    /// The node's list is this one from now on.
    fn replace(&mut self, from: &StackName, asked: &Claims, may: impl Fn(Dvipa) -> bool) -> Result<(), Void> {
        let Some(node) = self.nodes.get_mut(from) else { return Ok(()) };
        let former = std::mem::take(&mut node.claims);
        let mut outcome = Ok(());
        for claim in &asked.claims {
            let dvipa = Dvipa::new(claim.dvipa.0);
            let void = if !may(dvipa) {
                Some(Void::NotItsDvipa)
            } else {
                Some(Void::EpochTooHigh).filter(|_| !crate::is_near(claim.epoch, self.epoch))
            };
            outcome = void.map_or(outcome, Err);
            let is_void = void.is_some();
            let claimed = Claimed { epoch: claim.epoch, owned: claim.owned, granted: false, is_void };
            node.claims.insert(dvipa, claimed);
        }
        let mut free = BTreeSet::new();
        for (dvipa, had) in former.into_iter().filter(|(_, had)| had.granted) {
            let (Some(claim), Some(seat)) = (node.claims.get_mut(&dvipa), self.seats.get(&dvipa)) else {
                continue;
            };
            claim.granted = !claim.is_void && (claim.epoch == had.epoch || claim.epoch > seat.highest);
        }
        for (dvipa, seat) in &mut self.seats {
            let stays = node.claims.get(dvipa).is_some_and(|claim| claim.granted);
            if !stays {
                seat.leave(from);
                free.insert(*dvipa);
            }
        }
        for (dvipa, claim) in node.claims.iter().filter(|(_, claim)| !claim.is_void) {
            let seat = self.seats.entry(*dvipa).or_insert_with(|| Seat::new(self.above));
            if claim.granted {
                seat.highest = seat.highest.max(claim.epoch);
                self.epoch = self.epoch.max(claim.epoch);
            } else {
                seat.wait(from, claim.owned);
                free.insert(*dvipa);
            }
        }
        free.into_iter().for_each(|dvipa| self.offer(dvipa));
        outcome
    }

    /// Whom a free DVIPA goes to.
    fn offer(&mut self, dvipa: Dvipa) {
        let Some(seat) = self.seats.get_mut(&dvipa) else { return };
        while let Some(name) = seat.next() {
            let Some(claim) = self.nodes.get_mut(&name).and_then(|node| node.claims.get_mut(&dvipa)) else {
                continue;
            };
            // Also if the epoch is too low: then it claims again.
            self.news.insert(name.clone());
            if claim.owned || claim.epoch > seat.highest {
                claim.granted = true;
                seat.highest = seat.highest.max(claim.epoch);
                seat.holder = Some(name);
                self.epoch = self.epoch.max(claim.epoch);
            }
        }
    }

    /// The nodes whose leases have lapsed have nothing any more.
    fn lapse(&mut self, now: Instant) {
        let mut free = BTreeSet::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| !node.lapsed && node.until <= now) {
            node.lapsed = true;
            for dvipa in std::mem::take(&mut node.claims).into_keys() {
                if let Some(seat) = self.seats.get_mut(&dvipa) {
                    seat.leave(name);
                    free.insert(dvipa);
                }
            }
        }
        free.into_iter().for_each(|dvipa| self.offer(dvipa));
        if self.nodes.len() == MAX_NODES {
            self.nodes.retain(|_, node| !node.lapsed);
        }
        if self.seats.len() > MAX_SEATS {
            let idle = self.seats.values().filter(|seat| seat.is_idle());
            self.above = idle.fold(self.above, |above, seat| above.max(seat.highest));
            self.seats.retain(|_, seat| !seat.is_idle());
        }
    }

    /// Tells the nodes what is granted now, when it is on disk.
    fn tell(&mut self) {
        let leases = self.nodes.values().filter(|node| !node.lapsed).map(|node| node.lease);
        let lease = leases.max().unwrap_or(self.kept.lease);
        // A shorter one can wait until there is something else to write.
        if self.epoch > self.kept.epoch || lease > self.kept.lease {
            self.kept = Kept { epoch: self.epoch, lease };
            self.deeds.push_back(Deed::Keep(self.kept));
        }
        for to in std::mem::take(&mut self.news) {
            let Some(node) = self.nodes.get(&to).filter(|node| !node.lapsed) else { continue };
            let withheld = node.claims.iter().filter(|(_, claim)| !claim.granted);
            let without = withheld.map(|(dvipa, claim)| {
                let seat = self.seats.get(dvipa);
                // Without a holder a void one would be claimed in the next epoch, at once and for ever.
                let holder =
                    if claim.is_void { Some(&to) } else { seat.and_then(|seat| seat.holder.as_ref()) };
                Withheld {
                    dvipa: Address(dvipa.address()),
                    highest: seat.map_or(self.above, |seat| seat.highest),
                    holder: holder.cloned(),
                }
            });
            let (run, ask, list) = (node.run, node.ask, node.list);
            let without = without.collect();
            let message = FromWitness::Granted(Granted { run, ask, list, without });
            self.deeds.push_back(Deed::Send { to, message });
        }
    }
}

#[cfg(test)]
mod tests;
