//! Where packet buffers come from.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::eal::Eal;
use crate::error::{Error, last};
use crate::mbuf::Mbuf;
use crate::raw;

/// Bytes in front of a received packet that [`Mbuf::reframe`] can use.
pub const HEADROOM_BYTES: u16 = raw::RTE_PKTMBUF_HEADROOM as u16;

/// Mbufs that a core keeps for itself; it gives back what exceeds one and a half times as many.
const CACHE: u32 = 256;
/// Mbufs that may be in the cache of a core.
pub const CACHED: u32 = CACHE + CACHE / 2;
/// DPDK's SOCKET_ID_ANY.
const ANY_NODE: i32 = -1;

/// The pool of equal packet buffers: one for all ports, so that a device may give every buffer that it has sent back to
/// the pool of the first (fact 5). It lives as long as the process, because packets may be anywhere (fact 2).
#[derive(Clone, Copy, Debug)]
pub struct Mempool(NonNull<raw::rte_mempool>);

// SAFETY: the pool's ring is made for many producers and consumers, and the per-core caches are used by EAL threads
// only.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Makes the pool: `mbufs` buffers that each hold a frame of `frame_bytes` besides the headroom, on the NUMA node `numa`
    /// if there is room. `name` is what DPDK's own tools call it, at most 26 characters.
    ///
    /// # Errors
    /// [`Error::SecondPool`] if there is one, [`Error::Mempool`] if there is no memory.
    pub fn create(
        _: Eal,
        name: &str,
        mbufs: u32,
        frame_bytes: u16,
        numa: Option<u32>,
    ) -> Result<Self, Error> {
        static CREATED: AtomicBool = AtomicBool::new(false);
        let bytes = frame_bytes.saturating_add(HEADROOM_BYTES);
        let c_name = CString::new(name).map_err(|_| Error::ZeroByte(name.to_owned()))?;
        if CREATED.swap(true, Ordering::AcqRel) {
            return Err(Error::SecondPool);
        }
        let create = |node| {
            // SAFETY: the EAL runs (fact 1), and DPDK copies the name.
            NonNull::new(unsafe {
                raw::rte_pktmbuf_pool_create(c_name.as_ptr(), mbufs, CACHE, 0, bytes, node)
            })
        };
        let near = numa.and_then(|node| i32::try_from(node).ok()).and_then(create);
        near.or_else(|| create(ANY_NODE)).map(Self).ok_or_else(|| {
            CREATED.store(false, Ordering::Release);
            Error::Mempool { mbufs, bytes, cause: last() }
        })
    }

    /// An empty packet; `None` if all are in use.
    #[inline]
    pub fn allocate(self) -> Option<Mbuf> {
        // SAFETY: the pool is never freed (fact 2). A new mbuf has one segment, no bytes, and is ours alone (fact 3).
        unsafe { Mbuf::from_raw(raw::shim_mbuf_alloc(self.0.as_ptr())) }
    }

    /// A packet with these bytes; `None` if all buffers are in use or the bytes do not fit into one.
    pub fn packet(self, bytes: &[u8]) -> Option<Mbuf> {
        let mut packet = self.allocate()?;
        packet.extend(bytes.len()).then_some(())?;
        packet.bytes_mut().copy_from_slice(bytes);
        Some(packet)
    }

    /// How many buffers are free, those in the caches of cores included.
    pub fn free(self) -> u32 {
        // SAFETY: reads counters of a pool that is never freed.
        unsafe { raw::rte_mempool_avail_count(self.0.as_ptr()) }
    }

    pub(crate) fn as_ptr(self) -> *mut raw::rte_mempool {
        self.0.as_ptr()
    }
}
