//! Named offsets: where each reader of a tape got to, one small file each.
//!
//! A file is written aside and renamed, so that it holds the old offset or the new one, whatever
//! happens. It holds the offset in decimal digits, to be read by people too, ` crc32c=`, the
//! CRC-32C of the digits in eight hex digits, and a newline. Older files hold digits and a newline.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::segment::doing;
use crate::error::{Error, Result};

const FOLDER: &str = "offsets";
const NAME_MAX: usize = 100;

fn offset_path(tape: &Path, name: &str) -> Result<PathBuf> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty()
        || name.len() > NAME_MAX
        || name.starts_with('.')
        || !name.bytes().all(is_plain)
    {
        return Err(Error::invalid(format!(
            "expected a name of up to {NAME_MAX} letters, digits, '-', '_' or '.', not starting \
             with '.', got {name:?}"
        )));
    }
    Ok(tape.join(FOLDER).join(name))
}

/// Keeps `offset` under `name` with the tape at `tape`. When this returns it is on the disk.
///
/// # Errors
/// `Error::Invalid`: the name cannot be a file's. `Error::DiskFull` and `Error::Io`: the offset
/// that was kept before is still there.
pub fn save_offset(tape: &Path, name: &str, offset: u64) -> Result<()> {
    let path = offset_path(tape, name)?;
    let folder = tape.join(FOLDER);
    let aside = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        std::fs::create_dir_all(&folder)?;
        let mut file = File::create(&aside)?;
        file.write_all(text_of(offset).as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&aside, &path)?;
        File::open(&folder)?.sync_all()
    };
    write().map_err(|error| {
        drop(std::fs::remove_file(&aside));
        if super::space::is_full(&error) {
            Error::DiskFull { path: path.clone() }
        } else {
            Error::io(error, doing("writing", &path))
        }
    })
}

/// What the file of `offset` holds.
fn text_of(offset: u64) -> String {
    let digits = offset.to_string();
    format!("{digits} crc32c={:08x}\n", crc32c::crc32c(digits.as_bytes()))
}

/// The offset that every reader of the tape has behind it: nobody needs what is before. Readers
/// that stored theirs longer than `wait_ms` ago do not count; without readers it is `u64::MAX`.
///
/// # Errors
/// As for [`load_offset`].
pub(crate) fn held(tape: &Path, wait_ms: Option<u64>) -> Result<u64> {
    let mut held = u64::MAX;
    for (name, offset) in list_offsets(tape)? {
        let stored = offset_path(tape, &name)
            .and_then(|path| {
                let metadata = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
                metadata.map_err(|error| Error::io(error, doing("reading", &path)))
            })
            .map(crate::clock::age_ms)?;
        if wait_ms.is_none_or(|most| stored <= most) {
            held = held.min(offset);
        }
    }
    Ok(held)
}

/// The offset that is kept under `name`; `None` if none ever was.
///
/// # Errors
/// `Error::Corrupt`: the file holds something else. `Error::Io`.
pub fn load_offset(tape: &Path, name: &str) -> Result<Option<u64>> {
    let path = offset_path(tape, name)?;
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| Error::io(error, doing("reading", &path)))?,
    };
    let line = text.strip_suffix('\n').unwrap_or_default();
    let digits = line.split_once(' ').map_or(line, |(digits, _)| digits);
    match digits.parse() {
        Ok(offset) if text == text_of(offset) || line == offset.to_string() => Ok(Some(offset)),
        _ => Err(Error::corrupt(
            &path,
            0,
            "expected an offset in decimal digits and its checksum, got something else: remove \
             the file to let go of the reader, or store its offset anew",
        )),
    }
}

/// All names and their offsets, by name.
///
/// # Errors
/// As for [`load_offset`].
pub fn list_offsets(tape: &Path) -> Result<Vec<(String, u64)>> {
    let folder = tape.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| Error::io(error, doing("listing", &folder)))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(error, doing("listing", &folder)))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        // An offset is a file: folders are of somebody else.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Some(offset) = load_offset(tape, name)? {
            all.push((name.to_owned(), offset));
        }
    }
    all.sort();
    Ok(all)
}
