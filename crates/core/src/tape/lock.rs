//! One writer per folder: an advisory lock that ends with its process.
//!
//! The lock is held on the folder itself, which cannot be deleted apart from what it protects. The
//! file `LOCK` inside it names the holder for people; it is locked as well, since writers of
//! earlier versions know that lock alone.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::segment::doing;
use crate::error::{Error, Result};

/// Name of the file in the folder that holds the holder's process id.
const NAME: &str = "LOCK";
const ADVICE: &str = "somebody removed, renamed or replaced the folder while it was written. Stop \
                      whoever does that, put the folder back if it is wanted, and start again";

/// The right to write a folder, held while this lives.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Device and inode of the folder that is locked.
    inode: (u64, u64),
    // Held for their locks alone.
    _folder: File,
    _file: Option<File>,
}

impl FolderLock {
    /// Takes the right to write the folder `path`, which is made if it is not there.
    ///
    /// # Errors
    /// `Error::Locked`: another process holds it, or another part of this one. `Error::Io`.
    /// `Error::Replaced`: the folder was moved away meanwhile.
    pub fn take(path: &Path) -> Result<Self> {
        let io = |what: &'static str| move |error| Error::io(error, doing(what, path));
        std::fs::create_dir_all(path).map_err(io("making"))?;
        let folder = File::open(path).map_err(io("opening"))?;
        let metadata = folder.metadata().map_err(io("measuring"))?;
        if !try_lock(&folder).map_err(io("locking"))? {
            return Err(Error::Locked { path: path.to_owned(), holder: holder(path) });
        }
        let file = name_holder(path)?;
        let inode = (metadata.dev(), metadata.ino());
        let lock = Self { path: path.to_owned(), inode, _folder: folder, _file: file };
        lock.check()?;
        Ok(lock)
    }

    /// Fails if the path no longer leads to the folder that is locked. One system call.
    ///
    /// # Errors
    /// `Error::Replaced`: the folder was removed, renamed or replaced. `Error::Io`.
    pub fn check(&self) -> Result<()> {
        let found = match std::fs::metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.inode => return Ok(()),
            Ok(metadata) => format!("another one, inode {}", metadata.ino()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "nothing".to_owned(),
            Err(error) => return Err(Error::io(error, doing("looking at", &self.path))),
        };
        Err(Error::Replaced {
            path: self.path.clone(),
            expected: format!("the folder that this process has locked, inode {}", self.inode.1),
            found,
            advice: ADVICE,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks `file` unless somebody else has. Says whether it is locked now.
fn try_lock(file: &File) -> std::io::Result<bool> {
    loop {
        // SAFETY: a call on a descriptor that `file` owns.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::WouldBlock => return Ok(false),
            std::io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// The process id that the file in the folder names.
fn holder(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path.join(NAME)).ok()?.trim().parse().ok()
}

/// Writes this process's id into the file, and locks it against writers of earlier versions.
fn name_holder(path: &Path) -> Result<Option<File>> {
    let name = path.join(NAME);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&name);
    let mut file = match opened {
        Ok(file) => file,
        // The folder's own lock is what counts; a full disk must not stop recovery.
        Err(error) if super::space::is_full(&error) => return Ok(None),
        Err(error) => return Err(Error::io(error, doing("opening", &name))),
    };
    if !try_lock(&file).map_err(|error| Error::io(error, doing("locking", &name)))? {
        let mut text = String::new();
        let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        return Err(Error::Locked { path: path.to_owned(), holder });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    match write(&mut file) {
        Ok(()) => Ok(Some(file)),
        Err(error) if super::space::is_full(&error) => Ok(Some(file)),
        Err(error) => Err(Error::io(error, doing("writing", &name))),
    }
}
