//! Snapshots of a stage's processor on disk: one file each, the newest three kept.
//!
//! A file is written aside, made durable and renamed, so that a name never stands for half a file.
//! ```text
//! offset  size  field, little-endian
//!      0     8  "TWSTATE\0"
//!      8     4  version of this layout, 2
//!     12     4  fingerprint of the processor's settings
//!     16     8  input offset: the next input item to be read
//!     24     8  output offset: the output's end when the state was taken
//!     32     8  length of the state
//!     40    24  the input: id of its tape, zeros if it has none, and fingerprint of the input
//!               offset, 2^64 - 1 if it has none
//!     64    24  the same of the output
//!     88     n  the state, as `Processor::snapshot` wrote it
//!   88+n     4  CRC-32C of all before
//! ```
//! Version 1 has no places: its state starts at byte 40.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tape::{Place, TapeId};

const MAGIC: &[u8; 8] = b"TWSTATE\0";
const VERSION: u32 = 2;
const HEAD_1: usize = 40;
const HEAD: usize = 88;
/// In the place of a fingerprint that is not known.
const NO_FINGERPRINT: u64 = u64::MAX;
/// How many files are kept: the newest, and two in case it cannot be used.
const KEPT: usize = 3;

/// Bytes of the id and the fingerprint of a place.
const PLACE: usize = 24;

fn write_place(place: &Place, out: &mut Vec<u8>) {
    out.extend_from_slice(&place.id.map_or([0; 16], TapeId::bytes));
    out.extend_from_slice(&place.fingerprint.unwrap_or(NO_FINGERPRINT).to_le_bytes());
}

fn read_place(offset: u64, bytes: &[u8]) -> Place {
    let (mut id, mut fingerprint) = ([0; 16], [0; 8]);
    id.copy_from_slice(&bytes[..16]);
    fingerprint.copy_from_slice(&bytes[16..PLACE]);
    let fingerprint = u64::from_le_bytes(fingerprint);
    let known = Some(fingerprint).filter(|&fingerprint| fingerprint != NO_FINGERPRINT);
    Place { id: TapeId::known(id), offset, fingerprint: known }
}

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    /// Fingerprint of the settings with which the state was made.
    pub fingerprint: u32,
    /// The next input item to be read.
    pub input: Place,
    /// The output's end when the state was taken.
    pub output: Place,
    /// What `Processor::snapshot` wrote.
    pub state: Vec<u8>,
}

/// The folder that holds the files of one stage.
#[derive(Debug)]
pub struct StateFiles {
    folder: PathBuf,
}

impl StateFiles {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// `Error::Io`: it cannot be made.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .map_err(|error| Error::io(error, format!("making {}", folder.display())))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The files, newest first.
    ///
    /// # Errors
    /// `Error::Io`: the folder cannot be listed.
    pub fn list(&self) -> Result<Vec<PathBuf>> {
        let doing = || format!("listing {}", self.folder.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| Error::io(error, doing()))? {
            let path = entry.map_err(|error| Error::io(error, doing()))?.path();
            if path.extension().is_some_and(|extension| extension == "state") {
                files.push(path);
            }
        }
        // Names are padded with zeros, so that their order is that of the offsets.
        files.sort_unstable();
        files.reverse();
        Ok(files)
    }

    /// The input offset of the oldest state, as its name says; none if there is no state.
    ///
    /// # Errors
    /// As [`StateFiles::list`].
    pub fn oldest(&self) -> Result<Option<u64>> {
        let files = self.list()?;
        let offset = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
        Ok(files.iter().rev().find_map(offset))
    }

    /// Reads one file.
    ///
    /// # Errors
    /// `Error::Io`: it cannot be read. `Error::Corrupt`: it is not whole.
    /// `Error::FutureVersion`: a newer build wrote it.
    pub fn load(path: &Path) -> Result<SavedState> {
        let bytes = fs::read(path)
            .map_err(|error| Error::io(error, format!("reading {}", path.display())))?;
        let corrupt = |reason: &str| Error::corrupt(path, 0, reason);
        if bytes.len() < HEAD_1 + 4 || bytes[..8] != MAGIC[..] {
            return Err(corrupt("it is no whole state file"));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (version, fingerprint) = (word(8) as u32, (word(8) >> 32) as u32);
        if version > VERSION {
            let path = path.to_owned();
            return Err(Error::FutureVersion { path, found: version, supported: VERSION });
        }
        let head = if version < 2 { HEAD_1 } else { HEAD };
        let (content, sum) = bytes.split_at(bytes.len() - 4);
        if content.len().checked_sub(head).is_none_or(|length| word(32) != length as u64)
            || crc32c::crc32c(content).to_le_bytes() != sum[..]
        {
            return Err(corrupt("its checksum or length is wrong"));
        }
        let place = |offset: u64, at: usize| match content.get(at..at + PLACE) {
            Some(bytes) if version >= 2 => read_place(offset, bytes),
            _ => Place { id: None, offset, fingerprint: None },
        };
        let (input, output) = (place(word(16), HEAD_1), place(word(24), HEAD_1 + PLACE));
        Ok(SavedState { fingerprint, input, output, state: content[head..].to_vec() })
    }

    /// Writes a file, and removes what is older than the newest three.
    ///
    /// # Errors
    /// `Error::Io`, `Error::DiskFull`: no file was added; those before are as they were.
    pub fn save(&self, saved: &SavedState) -> Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + saved.state.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&saved.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&saved.input.offset.to_le_bytes());
        bytes.extend_from_slice(&saved.output.offset.to_le_bytes());
        bytes.extend_from_slice(&(saved.state.len() as u64).to_le_bytes());
        write_place(&saved.input, &mut bytes);
        write_place(&saved.output, &mut bytes);
        bytes.extend_from_slice(&saved.state);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let path = self.folder.join(format!("{:020}.state", saved.input.offset));
        let aside = path.with_extension("part");
        write_durably(&aside, &path, &bytes, &self.folder).map_err(|error| {
            if error.kind() == std::io::ErrorKind::StorageFull {
                return Error::DiskFull { path: path.clone() };
            }
            Error::io(error, format!("writing {}", path.display()))
        })?;
        for old in self.list()?.into_iter().skip(KEPT) {
            fs::remove_file(&old)
                .map_err(|error| Error::io(error, format!("removing {}", old.display())))?;
        }
        Ok(())
    }

    /// Removes one file, whose state is ahead of what the output covers.
    ///
    /// # Errors
    /// `Error::Io`: the file cannot be removed.
    pub fn discard(path: &Path) -> Result<()> {
        fs::remove_file(path)
            .map_err(|error| Error::io(error, format!("removing {}", path.display())))
    }
}

fn write_durably(aside: &Path, path: &Path, bytes: &[u8], folder: &Path) -> std::io::Result<()> {
    let mut file = File::create(aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(aside, path)?;
    File::open(folder)?.sync_all()
}
