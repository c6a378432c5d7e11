//! Memory maps of files.
//!
//! The only file of the tape that holds raw addresses. A map never grows; who needs more maps
//! again. Bytes that another process may still change are reached through atomics only. A file
//! that somebody cuts under a map reads as zeros from there on, and `broken_at` says so.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::fault::MapSlot;
use crate::error::{Error, Result};

/// Size of a page of memory.
pub(crate) const PAGE: usize = 4096;

/// A shared map of the front of a file.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    length: usize,
    slot: &'static MapSlot,
}

// SAFETY: the map is memory like any other; all shared mutation goes through atomics, or through
// the one writer that owns the bytes beyond the published position.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `length` bytes to be read.
    pub(crate) fn read_only(file: &File, length: usize, path: &Path) -> Result<Self> {
        Self::new(file, length, libc::PROT_READ, path)
    }

    /// Maps the first `length` bytes to be read and written. `length` may pass the end of the
    /// file; bytes there must not be touched before the file has grown.
    pub(crate) fn writable(file: &File, length: usize, path: &Path) -> Result<Self> {
        Self::new(file, length, libc::PROT_READ | libc::PROT_WRITE, path)
    }

    /// The same, to append to. The kernel is not to read ahead what nobody wrote: it would set as
    /// much as the disk's read-ahead to zeros, megabytes, before an append goes on.
    pub(crate) fn appended(file: &File, length: usize, path: &Path) -> Result<Self> {
        let map = Self::writable(file, length, path)?;
        map.advise(0, length, libc::MADV_RANDOM);
        Ok(map)
    }

    fn new(file: &File, length: usize, protection: i32, path: &Path) -> Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length.max(1),
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                let slot = MapSlot::register(start.as_ptr() as usize, length, protection);
                Ok(Self { start, length, slot })
            }
            _ => Err(Error::io(
                std::io::Error::last_os_error(),
                format!("mapping {length} bytes of {}", path.display()),
            )),
        }
    }

    /// Length in bytes.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The first byte that the file had no longer when it was used, if there is one.
    #[inline]
    pub(crate) fn broken_at(&self) -> Option<usize> {
        self.slot.broken_at()
    }

    /// Fails if a part of the map was missing when it was used: what was read of it may be zeros,
    /// what was written to it is lost.
    ///
    /// # Errors
    /// `Error::Corrupt`: somebody cut the file at `path`, or the disk cannot read it.
    #[inline]
    pub(crate) fn intact(&self, path: &Path) -> Result<()> {
        self.broken_at().map_or(Ok(()), |byte| Err(missing(path, byte)))
    }

    /// The bytes from `from` to `to`, which must be in the file and never change again.
    #[inline]
    pub(crate) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        assert!(from <= to && to <= self.length, "bytes {from} to {to} of {}", self.length);
        // SAFETY: within the map, as just asserted.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(from), to - from) }
    }

    /// Copies `bytes` to `at`. Only the writer calls this, and only beyond what is published.
    #[inline]
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length, "{} bytes at {at}", bytes.len());
        // SAFETY: within the map, as just asserted; nobody else reads or writes there.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len());
        }
    }

    /// The word at `at`, shared with other processes.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.length);
        // SAFETY: aligned and within the map; an atomic may be shared.
        unsafe { &*self.start.as_ptr().add(at).cast::<AtomicU64>() }
    }

    /// The half word at `at`, shared with other processes.
    #[inline]
    pub(crate) fn half_word(&self, at: usize) -> &AtomicU32 {
        assert!(at % 4 == 0 && at + 4 <= self.length);
        // SAFETY: aligned and within the map; an atomic may be shared.
        unsafe { &*self.start.as_ptr().add(at).cast::<AtomicU32>() }
    }

    /// Tells the kernel how the whole pages from `from` to `to` will be used. Advice may fail:
    /// that costs time, never correctness.
    pub(crate) fn advise(&self, from: usize, to: usize, advice: i32) {
        let from = from.next_multiple_of(PAGE);
        let to = to.min(self.length) / PAGE * PAGE;
        if from < to {
            // SAFETY: whole pages within the map. None of the advice in use changes contents of
            // a shared file map.
            unsafe {
                libc::madvise(self.start.as_ptr().add(from).cast(), to - from, advice);
            }
        }
    }
}

#[cold]
fn missing(path: &Path, byte: usize) -> Error {
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let reason = if length <= byte as u64 {
        format!("the file was cut while it was open: it has {length} bytes now")
    } else {
        "the disk could not read this page".to_owned()
    };
    Error::corrupt(path, byte as u64, reason)
}

impl Drop for Map {
    fn drop(&mut self) {
        self.slot.release();
        // SAFETY: this is the mapping that `new` made, and nobody borrows from it any more.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length.max(1));
        }
    }
}
