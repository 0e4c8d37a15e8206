//! Packets.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use arrayvec::ArrayVec;

use crate::raw;

/// The most packets that one call receives or sends.
pub const BURST: usize = 64;

/// Up to [`BURST`] packets, in place. Dropping it frees those that are still in it.
pub type Burst = ArrayVec<Mbuf, BURST>;

/// Bytes of an Ethernet address, and of an IEEE 802.1Q tag.
const ADDRESS_BYTES: usize = 6;
const TAG_BYTES: usize = 4;

/// Where a field of an mbuf is, and its type. Generated structures have other names for it in each version of DPDK.
#[derive(Clone, Copy)]
struct Field<T> {
    offset: usize,
    of: PhantomData<T>,
}

const fn field<T>(offset: u32) -> Field<T> {
    Field { offset: offset as usize, of: PhantomData }
}

const BUF_ADDR: Field<NonNull<u8>> = field(raw::SHIM_MBUF_BUF_ADDR);
const BUF_LEN: Field<u16> = field(raw::SHIM_MBUF_BUF_LEN);
const DATA_OFF: Field<u16> = field(raw::SHIM_MBUF_DATA_OFF);
const DATA_LEN: Field<u16> = field(raw::SHIM_MBUF_DATA_LEN);
const PKT_LEN: Field<u32> = field(raw::SHIM_MBUF_PKT_LEN);
const NB_SEGS: Field<u16> = field(raw::SHIM_MBUF_NB_SEGS);
const OL_FLAGS: Field<u64> = field(raw::SHIM_MBUF_OL_FLAGS);
const VLAN_TCI: Field<u16> = field(raw::SHIM_MBUF_VLAN_TCI);

/// The one owner of a packet: its holder sends it or drops it, exactly once. Dropping it gives the buffer back to
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

    /// A field of the mbuf, at its offset of the installed headers.
    #[inline]
    fn get<T: Copy>(&self, field: Field<T>) -> T {
        // SAFETY: the mbuf is live and ours alone (fact 3), `&self` lets nobody write it meanwhile, and the offset and type
        // are those of the field, which the shim asserts.
        unsafe { self.0.as_ptr().byte_add(field.offset).cast::<T>().read() }
    }

    #[inline]
    fn set<T: Copy>(&mut self, field: Field<T>, value: T) {
        // SAFETY: as in `get`, and `&mut self` is exclusive.
        unsafe { self.0.as_ptr().byte_add(field.offset).cast::<T>().write(value) }
    }

    /// The packet is `length` bytes from `offset` of the buffer on. The caller keeps DPDK's invariant of `bytes`.
    #[inline]
    fn set_data(&mut self, offset: u16, length: u16) {
        self.set(DATA_OFF, offset);
        self.set(DATA_LEN, length);
        self.set(PKT_LEN, length.into());
    }

    /// How many segments DPDK delivered: more than 1 is against fact 3, and [`crate::RxQueue`] lets none through.
    #[inline]
    pub(crate) fn segments(&self) -> u16 {
        self.get(NB_SEGS)
    }

    /// The device has verified the IPv4 header's checksum, and it is right. `false` says nothing: it is wrong, or nobody has
    /// looked.
    #[inline]
    pub fn ipv4_checksum_is_right(&self) -> bool {
        self.get(OL_FLAGS) & raw::SHIM_RX_IPV4_CHECKSUM_MASK == raw::SHIM_RX_IPV4_CHECKSUM_GOOD
    }

    /// As if the device had set these flags.
    #[cfg(test)]
    pub(crate) fn mark(&mut self, flags: u64) {
        self.set(OL_FLAGS, flags);
    }

    /// The tag (priority and number of the VLAN) that the device took off the packet, if it did.
    #[inline]
    pub(crate) fn stripped_tag(&self) -> Option<u16> {
        (self.get(OL_FLAGS) & raw::SHIM_RX_VLAN_STRIPPED != 0).then(|| self.get(VLAN_TCI))
    }

    /// As if the device had taken this tag off.
    #[cfg(test)]
    pub(crate) fn mark_stripped(&mut self, tag: u16) {
        self.set(VLAN_TCI, tag);
        self.set(OL_FLAGS, self.get(OL_FLAGS) | raw::SHIM_RX_VLAN_STRIPPED);
    }

    /// Puts an IEEE 802.1Q tag behind both addresses. `false`, and nothing is changed, if there is no room, or no two
    /// addresses.
    pub(crate) fn insert_tag(&mut self, tag: u16) -> bool {
        self.set(OL_FLAGS, self.get(OL_FLAGS) & !raw::SHIM_RX_VLAN_STRIPPED);
        if self.bytes().len() < 2 * ADDRESS_BYTES || !self.reframe(0, TAG_BYTES, usize::MAX) {
            return false;
        }
        let bytes = self.bytes_mut();
        bytes.copy_within(TAG_BYTES..TAG_BYTES + 2 * ADDRESS_BYTES, 0);
        let [t0, t1] = tag.to_be_bytes();
        if let Some(place) = bytes.get_mut(2 * ADDRESS_BYTES..2 * ADDRESS_BYTES + TAG_BYTES) {
            place.copy_from_slice(&[0x81, 0x00, t0, t1]);
        }
        true
    }

    /// The packet, from its Ethernet header on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let (start, offset) = (self.get(BUF_ADDR), usize::from(self.get(DATA_OFF)));
        // SAFETY: DPDK's invariant, which the methods below keep: `data_off + data_len <= buf_len` bytes from
        // `buf_addr` are memory of this mbuf, initialised when the pool was made.
        unsafe { slice::from_raw_parts(start.add(offset).as_ptr(), self.get(DATA_LEN).into()) }
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
        let (start, offset) = (self.get(BUF_ADDR), usize::from(self.get(DATA_OFF)));
        // SAFETY: as in `bytes`, and `&mut self` is exclusive.
        unsafe { slice::from_raw_parts_mut(start.add(offset).as_ptr(), self.get(DATA_LEN).into()) }
    }

    /// Replaces the first `from` bytes by `to` others, whose contents are undefined but initialised, and cuts off what is more
    /// than `rest` bytes behind them. `false`, and nothing is changed, if the packet is shorter than `from` or the headroom is
    /// too small.
    #[inline]
    pub fn reframe(&mut self, from: usize, to: usize, rest: usize) -> bool {
        let (offset, length) = (usize::from(self.get(DATA_OFF)), usize::from(self.get(DATA_LEN)));
        let Some(behind) = length.checked_sub(from) else { return false };
        let Some(start) = (offset + from).checked_sub(to) else { return false };
        // Neither is cut: the packet ends no later than before, within the `buf_len` bytes of a `u16`.
        self.set_data(start as u16, (to + behind.min(rest)) as u16);
        true
    }

    /// Adds `count` bytes at the end, whose contents are undefined but initialised. `false`, and nothing is changed,
    /// if the buffer is too small.
    #[inline]
    pub fn extend(&mut self, count: usize) -> bool {
        let Some(length) = u16::try_from(count).ok().and_then(|n| self.get(DATA_LEN).checked_add(n)) else {
            return false;
        };
        let offset = self.get(DATA_OFF);
        if offset.checked_add(length).is_none_or(|end| end > self.get(BUF_LEN)) {
            return false;
        }
        self.set_data(offset, length);
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
