//! One writer per tape: an advisory lock that dies with its process.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::segment::doing;
use crate::error::{Error, Result};

/// Name of the lock file in the tape's folder. It holds the writer's process id.
const NAME: &str = "LOCK";

/// The right to write a tape, held while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the right to write the tape at `tape`.
    pub(crate) fn take(tape: &Path) -> Result<Self> {
        let path = tape.join(NAME);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::io(error, doing("opening", &path)))?;
        // SAFETY: a call on a descriptor that this file owns.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::WouldBlock {
                return Err(Error::io(error, doing("locking", &path)));
            }
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Locked { path: tape.to_owned(), holder });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        match write(&mut file) {
            Ok(()) => {}
            // The process id is for the reader's eye only; a full disk must not stop recovery.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            Err(error) => return Err(Error::io(error, doing("writing", &path))),
        }
        Ok(Self { _file: file })
    }
}
