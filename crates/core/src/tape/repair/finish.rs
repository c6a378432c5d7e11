//! The last part of a repair, which a later one takes up where it was interrupted.
//!
//! A list says what is to be done. Once all files are moved aside it names none of them any more:
//! only then do others get their names, so that none of these is taken for one that is to be moved,
//! whatever somebody does to the folder of what was moved.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::tape::head::DURABLE;
use crate::tape::segment::{doing, list, Segment};

/// Name of the file that lists what an interrupted repair has still to do: the folder of what is
/// moved aside, then the files to be moved, each on a line.
pub(crate) const UNFINISHED: &str = "REPAIR";
/// Ending of segments that are put together and do not have their name yet.
pub(super) const READY: &str = "ready";

/// Puts the list on the disk: `moved` are to be moved to `folder`.
pub(super) fn write_list(tape: &Path, folder: &str, moved: &[String]) -> Result<()> {
    let list = tape.join(UNFINISHED);
    let aside = tape.join(format!("{UNFINISHED}.new"));
    let write = || {
        let mut file = File::create(&aside)?;
        writeln!(file, "{folder}")?;
        moved.iter().try_for_each(|name| writeln!(file, "{name}"))?;
        file.sync_all()?;
        std::fs::rename(&aside, &list)?;
        File::open(tape)?.sync_all()
    };
    write().map_err(|error| Error::io(error, doing("writing", &list)))
}

/// Does what the list of an interrupted repair says is still to do.
pub(super) fn finish(tape: &Path) -> Result<()> {
    let unfinished = tape.join(UNFINISHED);
    let text = match std::fs::read_to_string(&unfinished) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|error| Error::io(error, doing("reading", &unfinished)))?,
    };
    let failed = |error| Error::io(error, doing("repairing", tape));
    let mut lines = text.lines();
    let folder = lines.next().unwrap_or_default();
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        move_aside(tape, &tape.join(folder), lines).map_err(failed)?;
        write_list(tape, folder, &[])?;
    }
    name_ready(tape).map_err(failed)?;
    lower(tape)?;
    std::fs::remove_file(&unfinished).map_err(failed)?;
    File::open(tape).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Moves the files `names` to `folder`, unless they are no longer there: somebody may have removed
/// what was moved before.
fn move_aside<'a>(
    tape: &Path,
    folder: &Path,
    names: impl Iterator<Item = &'a str>,
) -> std::result::Result<(), IoError> {
    std::fs::create_dir_all(folder)?;
    for name in names {
        let target = folder.join(name);
        if target.exists() {
            continue;
        }
        match std::fs::rename(tape.join(name), target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    File::open(folder)?.sync_all()?;
    File::open(tape)?.sync_all()
}

/// Gives segments that are put together their names.
fn name_ready(tape: &Path) -> std::result::Result<(), IoError> {
    for entry in std::fs::read_dir(tape)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == READY) {
            std::fs::rename(&path, path.with_extension(""))?;
        }
    }
    File::open(tape)?.sync_all()
}

/// Lets no head of the tape call durable what is beyond its end, where its newest segment begins:
/// a repair puts one without items there.
fn lower(tape: &Path) -> Result<()> {
    let files = list(tape)?;
    let end = files.last().map_or(0, |newest| newest.first);
    for of in files {
        if Segment::open(&of)?.durable() > end {
            let write = || {
                let file = File::options().write(true).open(&of.path)?;
                file.write_all_at(&end.to_le_bytes(), DURABLE as u64)?;
                file.sync_all()
            };
            write().map_err(|error| Error::io(error, doing("writing", &of.path)))?;
        }
    }
    Ok(())
}
