//! How many connections applications have accepted from a listener.

use std::mem::MaybeUninit;
use std::sync::Arc;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, OpenObject};

use super::abilities::Inability;
use super::skeletons::AcceptsSkelBuilder;
use crate::machine::Cookie;

/// The program that counts, in force as long as this is.
#[derive(Debug)]
pub(super) struct Accepts {
    counts: Arc<MapHandle>,
    _link: Link,
}

/// The counts. A clone reads the same.
#[derive(Clone, Debug)]
pub struct Accepted(Arc<MapHandle>);

impl Accepts {
    /// Loads and attaches the program.
    pub(super) fn start() -> Result<Self, Inability> {
        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let open = AcceptsSkelBuilder::default().open(&mut storage).map_err(Inability::Accepts)?;
        let skeleton = open.load().map_err(Inability::Accepts)?;
        let counts = MapHandle::try_from(&skeleton.maps.accepted).map_err(Inability::Accepts)?;
        let link = skeleton.progs.baton_accepted.attach().map_err(Inability::Accepts)?;
        Ok(Self { counts: Arc::new(counts), _link: link })
    }

    pub(super) fn counts(&self) -> Accepted {
        Accepted(Arc::clone(&self.counts))
    }
}

impl Accepted {
    /// How many connections were accepted from a listener since it was first asked about; none if the kernel does not say.
    pub fn from(&self, listener: Cookie) -> Option<u64> {
        let key = listener.0.to_ne_bytes();
        match self.0.lookup(&key, MapFlags::ANY).ok()? {
            Some(count) => count.first_chunk().copied().map(u64::from_ne_bytes),
            None => self.0.update(&key, &0_u64.to_ne_bytes(), MapFlags::NO_EXIST).ok().map(|()| 0),
        }
    }
}
