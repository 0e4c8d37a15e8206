//! Packets.

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use arrayvec::ArrayVec;

use crate::raw;

/// The most packets that one call receives or sends.
pub const BURST: usize = 64;

/// Up to [`BURST`] packets, in place. Dropping it frees those that are still in it.
pub type Burst = ArrayVec<Mbuf, BURST>;

/// The one owner of a packet: whoever has it sends it or drops it, exactly once. Dropping it gives the buffer back to
/// its pool.
///
/// The packet is one contiguous segment (fact 3 of the crate): `bytes` is all of it.
#[repr(transparent)]
pub struct Mbuf(NonNull<raw::rte_mbuf>);

// SAFETY: the only reference to its mbuf (fact 3), and pools take buffers back from any thread (see `Mempool`).
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership; `None` for a null pointer.
    ///
    /// # Safety
    /// `mbuf` is null, or points to a live mbuf of one segment, with reference count 1, that nobody else will use.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: *mut raw::rte_mbuf) -> Option<Self> {
        NonNull::new(mbuf).map(Self)
    }

    #[inline]
    fn raw(&self) -> &raw::rte_mbuf {
        // SAFETY: live and ours alone (fact 3); `&self` lets nobody write it meanwhile.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut raw::rte_mbuf {
        // SAFETY: live and ours alone (fact 3), and `&mut self` is exclusive.
        unsafe { self.0.as_mut() }
    }

    /// How many segments DPDK delivered: more than 1 is against fact 3, and [`crate::RxQueue`] lets none through.
    #[inline]
    pub(crate) fn segments(&self) -> u16 {
        self.raw().nb_segs
    }

    /// The packet, from its Ethernet header on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: DPDK's invariant, which the methods below keep: `data_off + data_len <= buf_len` bytes from
        // `buf_addr` are memory of this mbuf, initialised when the pool was made.
        unsafe {
            slice::from_raw_parts(raw.buf_addr.cast::<u8>().add(raw.data_off.into()), raw.data_len.into())
        }
    }

    /// Starts to fetch the packet's first line into the cache. Reads the mbuf's own first line.
    #[inline]
    pub fn prefetch(&self) {
        let first = self.bytes().as_ptr();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; it can't fault.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(first.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = first;
    }

    /// The packet, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: as in `bytes`, and `&mut self` is exclusive.
        unsafe {
            slice::from_raw_parts_mut(raw.buf_addr.cast::<u8>().add(raw.data_off.into()), raw.data_len.into())
        }
    }

    /// Makes room for `count` bytes in front, whose contents are undefined but initialised. `false`, and nothing is
    /// changed, if the headroom is too small.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        let Ok(n) = u16::try_from(count) else { return false };
        let (Some(offset), Some(length)) = (raw.data_off.checked_sub(n), raw.data_len.checked_add(n)) else {
            return false;
        };
        raw.data_off = offset;
        raw.data_len = length;
        raw.pkt_len = length.into();
        true
    }

    /// Cuts `count` bytes off the front. `false`, and nothing is changed, if there are fewer.
    #[inline]
    pub fn trim_front(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        let Some((n, length)) =
            u16::try_from(count).ok().and_then(|n| Some((n, raw.data_len.checked_sub(n)?)))
        else {
            return false;
        };
        // `data_off + data_len <= buf_len`, so that this can't wrap.
        raw.data_off = raw.data_off.wrapping_add(n);
        raw.data_len = length;
        raw.pkt_len = length.into();
        true
    }

    /// Shortens the packet to `length` bytes; longer ones leave it as it is.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        let raw = self.raw_mut();
        if let Ok(length) = u16::try_from(length) {
            raw.data_len = raw.data_len.min(length);
            raw.pkt_len = raw.data_len.into();
        }
    }

    /// Adds `count` bytes at the end, whose contents are undefined but initialised. `false`, and nothing is changed,
    /// if the buffer is too small.
    #[inline]
    pub fn extend(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        let Some(length) = u16::try_from(count).ok().and_then(|n| raw.data_len.checked_add(n)) else {
            return false;
        };
        if raw.data_off.checked_add(length).is_none_or(|end| end > raw.buf_len) {
            return false;
        }
        raw.data_len = length;
        raw.pkt_len = length.into();
        true
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: live and ours alone (fact 3); nobody can use it after this.
        unsafe { raw::shim_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes)", self.bytes().len())
    }
}
