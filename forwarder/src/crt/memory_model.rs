//! The table's memory under loom, whose atomics can't be laid over mapped bytes.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::atomic::{AtomicU32, AtomicU64};
use super::line::Line;

/// Bytes of a huge page.
pub(super) const HUGE: usize = 2 << 20;

/// Stands for the mapping; holds nothing.
#[derive(Debug)]
pub(super) struct Mapping {
    bytes: usize,
}

impl Mapping {
    /// Of this process alone.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        Ok(Self { bytes })
    }

    /// There are no files here.
    pub(super) fn file(_: &File, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Can't be had: `file` gives no mapping.
    pub(super) fn read_head<T: Copy>(&self) -> T {
        panic!("the model has no head")
    }

    /// Nobody reads it.
    pub(super) fn write_head<T: Copy>(&mut self, _: T) {}
}

/// A type that has an empty value.
pub(super) trait Shared {
    fn empty() -> Self;
}
impl Shared for Line {
    fn empty() -> Self {
        Line::default()
    }
}
impl Shared for AtomicU64 {
    fn empty() -> Self {
        AtomicU64::new(0)
    }
}
impl Shared for AtomicU32 {
    fn empty() -> Self {
        AtomicU32::new(0)
    }
}

/// As `memory::Array`.
#[derive(Debug)]
pub(super) struct Array<T>(Vec<T>);

impl<T: Shared> Array<T> {
    /// `len` empty elements, at least one.
    pub(super) fn new(_: &Arc<Mapping>, _: usize, len: usize) -> Self {
        Self((0..len.max(1)).map(|_| T::empty()).collect())
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The element at `i`; the last one if there are not so many.
    pub(super) fn at(&self, i: usize) -> &T {
        &self.0[i.min(self.0.len() - 1)]
    }
}

/// Nothing.
pub(crate) fn prefetch<T>(_: &T) {}
