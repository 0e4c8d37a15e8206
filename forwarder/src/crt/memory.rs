//! The one mapping that the table lives in: a versioned head and arrays at offsets that follow from the head, no
//! pointers, so that a later process can attach to it.
//!
//! With the arrays' elements all zero meaning "empty", a fresh mapping is an empty table. Huge pages are asked for, first
//! reserved ones, then transparent ones: with 4 kB pages most look-ups in a large table would also miss the TLB.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::atomic::{AtomicU32, AtomicU64};
use super::line::Line;

/// Bytes of a huge page.
pub(super) const HUGE: usize = 2 << 20;

/// Mapped memory, zero at first.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is plain memory that belongs to this value until it is dropped; what is shared in it is accessed
// through atomics only (`Array`), and the head is written before the value is shared.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A type whose all-zero bytes are a value of it, and that may be changed by others at any time.
///
/// # Safety
/// It must consist of atomics only.
pub(super) unsafe trait Shared: Sync + 'static {}
// SAFETY: atomics.
unsafe impl Shared for Line {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an atomic.
unsafe impl Shared for AtomicU32 {}

/// Elements inside of a mapping, which lives as long as this does.
#[derive(Debug)]
pub(super) struct Array<T> {
    first: NonNull<T>,
    last: usize,
    /// Keeps the memory mapped.
    _mapping: Arc<Mapping>,
}

// SAFETY: shared access to `T` is all that an `Array` gives, and `Shared` types are `Sync`.
unsafe impl<T: Shared> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Array<T> {}

impl Mapping {
    /// New memory of this process alone.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let rounded = bytes.next_multiple_of(HUGE);
        if let Ok(mapping) = Self::map(rounded, flags | libc::MAP_HUGETLB | libc::MAP_POPULATE, -1) {
            return Ok(mapping);
        }
        let mapping = Self::map(rounded, flags, -1)?;
        mapping.advise(libc::MADV_HUGEPAGE);
        mapping.populate();
        Ok(mapping)
    }

    /// A file's memory, shared with other processes that map it: a memfd or a file in hugetlbfs or tmpfs, of at least `bytes` bytes
    /// rounded up to huge pages. There is memory for all of it afterwards: a page that is missing later would be a SIGBUS.
    ///
    /// # Errors
    /// The system's, if there is no room; [`io::ErrorKind::InvalidData`] if the file is shorter.
    pub(super) fn file(file: &File, bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(HUGE);
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the table's file is shorter than its head says",
            ));
        }
        reserve(file, bytes)?;
        let mapping = Self::map(bytes, libc::MAP_SHARED, file.as_raw_fd())?;
        mapping.advise(libc::MADV_HUGEPAGE);
        mapping.populate();
        Ok(mapping)
    }

    fn map(bytes: usize, flags: i32, file: i32) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, file, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave a null address"))?;
        Ok(Self { start, bytes })
    }

    fn advise(&self, advice: i32) -> bool {
        // SAFETY: the range is this mapping's; both advices used leave its contents as they are.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) == 0 }
    }

    /// Has the kernel provide every page now, so that no worker takes a page fault later. An older kernel (before 5.14)
    /// can't, and faults pages in as they are used.
    fn populate(&self) {
        self.advise(libc::MADV_POPULATE_WRITE);
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A copy of the `T` at the start.
    pub(super) fn read_head<T: Copy>(&self) -> T {
        assert!(size_of::<T>() <= self.bytes, "the head lies inside of the mapping");
        // SAFETY: inside of the mapping (asserted), page-aligned; nobody writes the head while the table is in use. `T` is a
        // struct of integers (`super::layout::Head`), for which any bytes are a value.
        unsafe { self.start.cast::<T>().read() }
    }

    /// Writes the `T` at the start.
    pub(super) fn write_head<T: Copy>(&mut self, head: T) {
        assert!(size_of::<T>() <= self.bytes, "the head lies inside of the mapping");
        // SAFETY: inside of the mapping (asserted), page-aligned, and `&mut self` says that no `Array` refers to it yet.
        unsafe { self.start.cast::<T>().write(head) }
    }
}

/// Has the file system provide the first bytes of a file.
fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: concerns no memory of this process.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and no `Array` is left (each holds a reference count).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl<T: Shared> Array<T> {
    /// The `len` elements from byte `offset` on.
    ///
    /// # Panics
    /// If they are not inside of the mapping, not aligned, or none: when a table is made or attached, never later.
    pub(super) fn new(mapping: &Arc<Mapping>, offset: usize, len: usize) -> Self {
        let end = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= mapping.bytes), "the array lies inside of the mapping");
        assert!(offset.is_multiple_of(align_of::<T>()) && len > 0, "the array is aligned and has elements");
        // SAFETY: `offset` is inside of the mapping (asserted).
        let first = unsafe { mapping.start.add(offset) }.cast();
        Self { first, last: len - 1, _mapping: mapping.clone() }
    }

    /// The number of elements, at least one.
    pub(super) fn len(&self) -> usize {
        self.last + 1
    }

    /// The element at `i`; the last one if there are not so many.
    #[inline(always)]
    pub(super) fn at(&self, i: usize) -> &T {
        // SAFETY: `i.min(last)` is an element's number; the elements are inside of the mapping and aligned (asserted in `new`),
        // initialised (zero is a value of a `Shared` type), and live as long as `self` holds the mapping.
        unsafe { self.first.add(i.min(self.last)).as_ref() }
    }
}

/// Starts to fetch the line of `element`.
#[inline(always)]
pub(crate) fn prefetch<T>(element: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch accesses nothing and can't fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(element).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = element;
}
