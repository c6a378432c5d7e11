//! Writing large frames through the file instead of through its map.
//!
//! The kernel zeroes each fresh page of a map before it is written and takes a fault to map it; a
//! page that a write call fills whole costs neither. Readers map the same pages of the page cache,
//! so that what the call has written is what they see. The frame becomes visible as any other: by
//! the published word, stored after this returns.

use std::io::Error as IoError;
use std::os::fd::AsRawFd;

use super::segment::{doing, file_length};
use super::space;
use super::sync::Live;
use crate::codec::{Frame, FRAME_HEADER};
use crate::error::{Error, Result};
use crate::record::Plain;

/// Frames of at least so many bytes with their header are written through the file: below, the
/// call costs more than the faults that it saves.
pub(crate) const DIRECT_MIN: usize = 16 << 10;

/// Writes a frame to `at`, in a file that has room for `allocated` bytes. Where it fails, zeros
/// follow the last frame again.
///
/// # Errors
/// `Error::DiskFull`, `Error::Io`: the disk refuses. `Error::Corrupt`: somebody cut the file.
pub(crate) fn write_frame(
    live: &Live,
    at: usize,
    frame: &Frame,
    payload: &[u8],
    allocated: usize,
) -> Result<()> {
    // To write beyond the end of a file that was cut would hide what it lost.
    check_length(live, allocated)?;
    if let Err((done, error)) = write_all(live, at, frame.as_bytes(), payload) {
        // Only these bytes were changed, and only they are known to have room: the map must touch
        // no other of a disk that refuses.
        live.map.write(at, &vec![0; done]);
        let path = &live.path;
        return Err(if space::is_full(&error) {
            Error::DiskFull { path: path.clone() }
        } else {
            Error::io(error, doing("writing", path))
        });
    }
    check_length(live, allocated)
}

/// Fails if somebody cut the file, which has room for `allocated` bytes.
pub(super) fn check_length(live: &Live, allocated: usize) -> Result<()> {
    let length = file_length(&live.file, &live.path)?;
    if length >= allocated {
        return Ok(());
    }
    let reason = format!("the file was cut while it was open: it has {length} bytes now");
    Err(Error::corrupt(&live.path, length as u64, reason))
}

/// Writes both. Where the system refuses, says how many bytes it took before.
fn write_all(
    live: &Live,
    at: usize,
    header: &[u8],
    payload: &[u8],
) -> std::result::Result<(), (usize, IoError)> {
    let whole = header.len() + payload.len();
    let mut done = 0;
    while done < whole {
        let header = &header[done.min(header.len())..];
        let payload = &payload[(done + header.len()).saturating_sub(FRAME_HEADER)..];
        let parts = [header, payload].map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        // SAFETY: a call on a descriptor that `live` owns; it reads both parts, which outlive it.
        let written = unsafe {
            libc::pwritev(live.file.as_raw_fd(), parts.as_ptr(), 2, (at + done) as libc::off_t)
        };
        match usize::try_from(written) {
            Ok(0) => return Err((done, IoError::from_raw_os_error(libc::ENOSPC))),
            Ok(written) => done += written,
            Err(_) => {
                let error = IoError::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err((done, error));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::FromRawFd;
    use std::path::PathBuf;

    use super::*;
    use crate::codec::NO_INPUT;
    use crate::tape::map::{Map, PAGE};

    /// A file of `pages` pages in memory that refuses to grow, mapped far beyond its end.
    fn full_disk(pages: usize) -> Live {
        // SAFETY: makes a descriptor that nobody else owns; the name is a C string.
        let file = unsafe {
            let descriptor = libc::memfd_create(c"full".as_ptr(), libc::MFD_ALLOW_SEALING);
            assert!(descriptor >= 0, "{}", IoError::last_os_error());
            File::from_raw_fd(descriptor)
        };
        file.set_len((pages * PAGE) as u64).unwrap();
        // SAFETY: a call on a descriptor that `file` owns.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_GROW) };
        assert_eq!(sealed, 0);
        let path = PathBuf::from("/proc/self/fd").join(file.as_raw_fd().to_string());
        let map = Map::writable(&file, 64 * PAGE, &path).unwrap();
        Live { first: 0, file, map, path }
    }

    #[test]
    fn a_refused_frame_leaves_zeros_where_it_was_and_touches_nothing_else() {
        // The disk takes the first page and a half of a frame, or nothing of it, and no more.
        let payload = vec![0xAB; DIRECT_MIN];
        let frame = Frame::seal(&payload, 1, 0, NO_INPUT, 7);
        for at in [2 * PAGE + PAGE / 2, 4 * PAGE] {
            let live = full_disk(4);
            let refused = write_frame(&live, at, &frame, &payload, 4 * PAGE).unwrap_err();
            assert_eq!(refused.kind(), "io", "{refused}");
            assert!(live.map.bytes(0, 4 * PAGE).iter().all(|&byte| byte == 0), "{at}");
            live.map.intact(&live.path).unwrap();
        }
    }
}
