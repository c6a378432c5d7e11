//! Room on the disk. All of it is allocated before it is mapped for writing: a full disk is an
//! error of the call that wanted more, never a signal in the middle of a store.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::doing;
use crate::error::{Error, Result};

/// Smallest piece by which a file grows.
const STEP: usize = 1 << 20;
/// Largest piece by which a file grows.
const STEP_MAX: usize = 64 << 20;

/// Grows `file` from `length` so that it holds `needed` bytes, and more where there is room, up
/// to `limit` or what is needed. Returns the new length.
pub(crate) fn grow(
    file: &File,
    path: &Path,
    length: usize,
    needed: usize,
    limit: usize,
) -> Result<usize> {
    let step = length.clamp(STEP, STEP_MAX);
    let generous = (length + step).next_multiple_of(STEP).min(limit).max(needed);
    match allocate(file, length, generous) {
        Ok(()) => return Ok(generous),
        Err(error) if !is_full(&error) => {
            return Err(Error::io(error, doing("growing", path)));
        }
        Err(_) => give_back(file, length),
    }
    match allocate(file, length, needed) {
        Ok(()) => Ok(needed),
        Err(error) => {
            give_back(file, length);
            if is_full(&error) {
                Err(Error::DiskFull { path: path.to_owned() })
            } else {
                Err(Error::io(error, doing("growing", path)))
            }
        }
    }
}

fn allocate(file: &File, from: usize, to: usize) -> std::io::Result<()> {
    loop {
        // SAFETY: a call on a descriptor that `file` owns.
        let code = unsafe {
            libc::posix_fallocate(file.as_raw_fd(), from as libc::off_t, (to - from) as libc::off_t)
        };
        match code {
            0 => return Ok(()),
            libc::EINTR => {}
            code => return Err(std::io::Error::from_raw_os_error(code)),
        }
    }
}

/// Fills what is `allocated`, and holds nothing, from `from` to `to` with zeros, so that its pages
/// are in memory. It may fail: that costs time, never correctness.
pub(crate) fn fill(file: &File, from: usize, to: usize, allocated: usize) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    // To write beyond the end of a file that was cut would hide what it lost.
    if file.metadata().map_or(true, |found| found.len() < allocated as u64) {
        return;
    }
    for at in (from..to).step_by(ZEROS.len()) {
        let part = &ZEROS[..ZEROS.len().min(to - at)];
        if file.write_at(part, at as u64).is_err() {
            return;
        }
    }
}

/// Makes all of `file` from `from` on zeros without room on the disk. Its length stays, so that a
/// reader that maps it meanwhile still finds it there.
pub(crate) fn clear(file: &File, path: &Path, from: usize, length: usize) -> Result<()> {
    if from >= length {
        return Ok(());
    }
    // SAFETY: a call on a descriptor that `file` owns.
    let code = unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            from as libc::off_t,
            (length - from) as libc::off_t,
        )
    };
    if code == 0 {
        return Ok(());
    }
    // Not every file system can do that; cutting and growing again gives zeros as well.
    file.set_len(from as u64).map_err(|error| Error::io(error, doing("cutting", path)))
}

/// Frees what a failed allocation left beyond `length`.
fn give_back(file: &File, length: usize) {
    // If this fails too, the space is found again when the segment is closed.
    drop(file.set_len(length as u64));
}

/// Whether `error` says that there is no room: on the disk, in a quota, or in a file.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}
