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
    if let Err(error) = write_all(live, at, frame.as_bytes(), payload) {
        live.map.write(at, &vec![0; FRAME_HEADER + payload.len()]);
        let path = &live.path;
        return Err(if space::is_full(&error) {
            Error::DiskFull { path: path.clone() }
        } else {
            Error::io(error, doing("writing", path))
        });
    }
    check_length(live, allocated)
}

fn check_length(live: &Live, allocated: usize) -> Result<()> {
    let length = file_length(&live.file, &live.path)?;
    if length >= allocated {
        return Ok(());
    }
    let reason = format!("the file was cut while it was open: it has {length} bytes now");
    Err(Error::corrupt(&live.path, length as u64, reason))
}

fn write_all(live: &Live, at: usize, header: &[u8], payload: &[u8]) -> std::io::Result<()> {
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
            Ok(0) => return Err(IoError::from_raw_os_error(libc::ENOSPC)),
            Ok(written) => done += written,
            Err(_) => {
                let error = IoError::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
