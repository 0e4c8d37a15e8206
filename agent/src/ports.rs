//! Blocks of ports (row U3): what this host has of each DVIPA, what it asks for and gives back ([`model::ports`]).
//!
//! | event | what follows |
//! | --- | --- |
//! | a routing stack lists the DVIPA, in a new session or epoch | it is told what this host has; its owner is asked for more |
//! | the owner grants | what is new is for applications from now on; what is missing is not, any more |
//! | fewer than half of the ports are left | the owner is asked for as many blocks as there are |
//! | hardly any port is in use | half of the blocks are given back, those that are wholly free |
//!
//! Routing stacks that are no owners, as backups, are told what this host has whenever it changes: so they know it when they take over.
//!
//! What this host has is kept in one place, the kernel's pools; a restarted agent finds it there.

use std::collections::{BTreeMap, BTreeSet};

use model::codec::Address;
use model::message::FromStack;
use model::ports::{PORTS_A_BLOCK, PortBlocks, PortsGranted, PortsHeld};
use model::{Dvipa, Epoch, StackName};

/// So many blocks are kept even if no port of them is in use.
const KEPT: u16 = 16;

/// The kernel's pools of ports.
pub trait Pools {
    /// What there is of a DVIPA; none: the kernel chooses ports of it as of other addresses.
    fn pool(&self, dvipa: Dvipa) -> Option<Pool>;
    /// From now on there is a pool, which has nothing.
    fn make(&self, dvipa: Dvipa);
    /// The block is this host's, all its ports are free.
    fn grant(&self, dvipa: Dvipa, block: u16);
    /// The block is not this host's any more, if all its ports are free. `true`: so it is.
    fn withdraw(&self, dvipa: Dvipa, block: u16) -> bool;
    /// The block is not this host's any more. Sockets keep the ports that they have.
    fn revoke(&self, dvipa: Dvipa, block: u16);
    /// These are other hosts' blocks.
    fn set_elsewhere(&self, dvipa: Dvipa, elsewhere: &PortBlocks);
    /// The agent is to be told when fewer ports than this are left.
    fn set_low(&self, dvipa: Dvipa, low: u32);
}

/// What there is of a DVIPA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// This host's blocks.
    pub granted: PortBlocks,
    /// Other hosts'.
    pub elsewhere: PortBlocks,
    /// Ports of this host's blocks that are free.
    pub left: u32,
}

impl Pool {
    /// The ports of all its blocks.
    pub fn ports(&self) -> u32 {
        u32::from(self.granted.len()) * u32::from(PORTS_A_BLOCK)
    }

    /// How many blocks more it takes.
    fn wanted(&self) -> u16 {
        let is_low = self.left * 2 < self.ports() || self.granted.is_empty();
        if is_low { self.granted.len().max(1) } else { 0 }
    }
}

/// A routing stack that lists a DVIPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// Which stack.
    pub stack: &'a StackName,
    /// Which DVIPA.
    pub dvipa: Dvipa,
    /// In which epoch.
    pub epoch: Epoch,
    /// It owns the DVIPA.
    pub owner: bool,
}

/// What was said to whom.
#[derive(Debug, Default)]
pub struct Ports {
    talks: BTreeMap<(StackName, Dvipa), Talk>,
    /// The number of the last grant that was read in a session.
    read: BTreeMap<(StackName, Dvipa), u64>,
}

#[derive(Debug)]
struct Talk {
    epoch: Epoch,
    owner: bool,
    /// What was said last; none yet.
    said: Option<(PortBlocks, u16, u64)>,
}

impl Ports {
    /// These are the routing stacks that are told of changes, and what they list, from now on.
    pub fn listed<'a>(&mut self, listings: impl Iterator<Item = Listing<'a>>) {
        let mut former = std::mem::take(&mut self.talks);
        for Listing { stack, dvipa, epoch, owner } in listings {
            let key = (stack.clone(), dvipa);
            let same = former.remove(&key).filter(|talk| (talk.epoch, talk.owner) == (epoch, owner));
            self.talks.insert(key, same.unwrap_or(Talk { epoch, owner, said: None }));
        }
    }

    /// The session with a routing stack is over: what was said in it is void.
    pub fn session_over(&mut self, stack: &StackName) {
        self.talks.retain(|(of, _), _| of != stack);
        self.read.retain(|(of, _), _| of != stack);
    }

    /// The owner of a DVIPA grants blocks. That it is the owner was judged before.
    pub fn granted(&mut self, from: &StackName, granted: &PortsGranted, pools: &impl Pools) {
        let dvipa = Dvipa::new(granted.dvipa.0);
        // With the number of the last one it says what others have, and may have crossed with blocks that are being given back.
        let is_new = self.read.insert((from.clone(), dvipa), granted.number) != Some(granted.number);
        let pool = pools.pool(dvipa).unwrap_or_else(|| {
            pools.make(dvipa);
            Pool::default()
        });
        let lost = pool.granted.without(&granted.granted);
        if !lost.is_empty() {
            tracing::warn!(%dvipa, blocks = lost.len(), "blocks of ports are other hosts' by now, not used any more");
        }
        lost.iter().for_each(|block| pools.revoke(dvipa, block));
        if is_new {
            granted.granted.without(&pool.granted).iter().for_each(|block| pools.grant(dvipa, block));
        }
        if pool.elsewhere != granted.elsewhere {
            pools.set_elsewhere(dvipa, &granted.elsewhere);
        }
        set_low(dvipa, pools);
    }

    /// Gives back what is not needed. To be called when it is known which ports are in use.
    pub fn give_back(&mut self, pools: &impl Pools) {
        // Several routing stacks may list one.
        let dvipas: BTreeSet<Dvipa> = self.talks.keys().map(|(_, dvipa)| *dvipa).collect();
        for dvipa in dvipas {
            let Some(pool) = pools.pool(dvipa) else { continue };
            let is_idle = pool.left * 8 > pool.ports() * 7 && pool.granted.len() > KEPT;
            if !is_idle {
                continue;
            }
            let mut surplus = pool.granted.len() - KEPT.max(pool.granted.len() / 2);
            for block in pool.granted.iter().collect::<Vec<_>>().into_iter().rev() {
                if surplus > 0 && pools.withdraw(dvipa, block) {
                    surplus -= 1;
                }
            }
            set_low(dvipa, pools);
        }
    }

    /// What is to be said now.
    pub fn say(&mut self, pools: &impl Pools) -> Vec<(StackName, FromStack)> {
        let mut messages = Vec::new();
        for ((stack, dvipa), talk) in &mut self.talks {
            let pool = pools.pool(*dvipa).unwrap_or_default();
            let wanted = if talk.owner { pool.wanted() } else { 0 };
            let read = self.read.get(&(stack.clone(), *dvipa)).copied().unwrap_or(0);
            let says = (pool.granted, wanted, read);
            // A backup has no use for what there is nothing of.
            let is_void = !talk.owner && talk.said.is_none() && pool.granted.is_empty();
            if talk.said == Some(says) || is_void {
                continue;
            }
            talk.said = Some(says);
            let (dvipa, epoch, held) = (Address(dvipa.address()), talk.epoch, pool.granted);
            let message = FromStack::PortsHeld(PortsHeld { dvipa, epoch, read, held, wanted });
            messages.push((stack.clone(), message));
        }
        messages
    }
}

fn set_low(dvipa: Dvipa, pools: &impl Pools) {
    if let Some(pool) = pools.pool(dvipa) {
        pools.set_low(dvipa, pool.ports().div_ceil(2));
    }
}

#[cfg(test)]
mod tests;
