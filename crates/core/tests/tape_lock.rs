//! One writer per folder, whatever somebody does to the folder meanwhile.

use std::path::Path;

use tapeworks_core::tape::{FolderLock, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{trades, Folder};

fn config() -> TapeConfig {
    TapeConfig {
        durability: Durability::Never,
        segment_bytes: 64 << 10,
        ..TapeConfig::new(TapeKind::Records)
    }
}

fn append(tape: &mut Tape, count: usize) -> Result<u64, Error> {
    tape.append(&trades(count), count as u32, NO_INPUT, 1)
}

fn is_locked_by_us(error: &Error) -> bool {
    matches!(error, Error::Locked { holder: Some(pid), .. } if *pid == std::process::id())
}

fn is_replaced(error: &Error, folder: &Path, found: &str) -> bool {
    matches!(error, Error::Replaced { path, found: f, .. } if path == folder && f.contains(found))
}

#[test]
fn a_lock_holds_without_its_file() {
    // Remove the file that names the holder, make it anew, put a foreign one there: a second
    // holder is refused each time, and taken once the first one lets go.
    let folder = Folder::new("lock-file");
    let first = FolderLock::take(&folder.tape()).unwrap();
    assert!(is_locked_by_us(&FolderLock::take(&folder.tape()).unwrap_err()));
    let file = folder.tape().join("LOCK");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(FolderLock::take(&folder.tape()), Err(Error::Locked { holder: None, .. })));
    std::fs::write(&file, "12345\n").unwrap();
    let refused = FolderLock::take(&folder.tape());
    assert!(matches!(refused, Err(Error::Locked { holder: Some(12345), .. })));
    first.check().unwrap();
    drop(first);
    FolderLock::take(&folder.tape()).unwrap().check().unwrap();
    let pid: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert_eq!(pid, std::process::id());
}

#[test]
fn a_second_writer_is_refused_when_the_lock_file_is_gone() {
    // With the file alone as lock, a second writer would share the segment with the first one.
    let folder = Folder::new("lock-writer");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    append(&mut tape, 5).unwrap();
    std::fs::remove_file(folder.tape().join("LOCK")).unwrap();
    let refused = Tape::open(&folder.tape(), config()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    append(&mut tape, 5).unwrap();
    assert_eq!(tape.sync().unwrap(), 10);
}

#[test]
fn a_writer_of_an_earlier_version_is_respected() {
    // Earlier versions lock the file inside the folder, and nothing else.
    use std::os::fd::AsRawFd;
    let folder = Folder::new("lock-earlier");
    drop(Tape::open(&folder.tape(), config()).unwrap());
    let file = std::fs::File::open(folder.tape().join("LOCK")).unwrap();
    // SAFETY: a call on a descriptor that `file` owns.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    let refused = Tape::open(&folder.tape(), config()).unwrap_err();
    assert!(is_locked_by_us(&refused), "{refused}");
    drop(file);
    Tape::open(&folder.tape(), config()).unwrap();
}

#[test]
fn a_writer_whose_folder_is_taken_away_stops_with_an_error() {
    // Remove, rename and replace the folder of a running writer: at the next sync, and at the next
    // segment, it says what it found instead of writing what nobody can find.
    for (what, found) in [("removed", "nothing"), ("renamed", "nothing"), ("replaced", "inode")] {
        for by_sync in [true, false] {
            let folder = Folder::new("lock-gone");
            let path = folder.tape();
            let mut tape = Tape::open(&path, config()).unwrap();
            append(&mut tape, 100).unwrap();
            assert_eq!(tape.sync().unwrap(), 100);
            if what == "removed" {
                std::fs::remove_dir_all(&path).unwrap();
            } else {
                std::fs::rename(&path, folder.0.join("elsewhere")).unwrap();
            }
            if what == "replaced" {
                drop(Tape::open(&path, config()).unwrap());
            }
            let error = if by_sync {
                append(&mut tape, 100).unwrap();
                tape.sync().unwrap_err()
            } else {
                (0..20).find_map(|_| append(&mut tape, 100).err()).expect("a new segment")
            };
            assert!(is_replaced(&error, &path, found), "{what}: {error}");
            assert!(is_replaced(&tape.sync().unwrap_err(), &path, found), "{what}");
            drop(tape);
            if what == "replaced" {
                assert_eq!(Reader::open(&path).unwrap().end().unwrap(), 0);
            }
            if what != "removed" {
                let kept = Reader::open(&folder.0.join("elsewhere")).unwrap().end().unwrap();
                assert!(kept >= 100);
            }
        }
    }
}
