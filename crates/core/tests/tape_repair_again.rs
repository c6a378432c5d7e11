//! Repairs that meet a disk that does not read, or that were interrupted.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tapeworks_core::tape::{remake, repair, verify, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{segments, trades, Folder};

const EIO: i32 = 5;

fn config() -> TapeConfig {
    let durability = Durability::Never;
    TapeConfig { durability, segment_bytes: 64 << 10, ..TapeConfig::new(TapeKind::Records) }
}

/// A tape of 25 frames of 100 trades, all durable: three whole segments of seven, and a newest one.
fn make(path: &Path) -> Vec<PathBuf> {
    let mut tape = Tape::open(path, config()).unwrap();
    for _ in 0..25 {
        tape.append(&trades(100), 100, NO_INPUT, 5).unwrap();
    }
    tape.sync().unwrap();
    drop(tape);
    let files = segments(path);
    assert_eq!(files.len(), 4);
    files
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Damages the fourth frame of the segment `path`.
fn damage(path: &Path) {
    change(path, |bytes| bytes[16_384 + 3 * 6_440 + 77] ^= 1);
}

/// Puts a file in the place of `path` that opens, and of which the system reads nothing.
fn make_unreadable(path: &Path) {
    std::fs::remove_file(path).unwrap();
    symlink("/proc/self/mem", path).unwrap();
    assert_eq!(std::fs::read(path).unwrap_err().raw_os_error(), Some(EIO));
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_disk_that_does_not_read_is_told_with_what_to_do() {
    // What may be on it is not given up: the repair changes nothing and says how to go on.
    let folder = Folder::new("repair-unread");
    let files = make(&folder.tape());
    make_unreadable(&files[1]);
    let before = names(&folder.tape());
    let error = repair(&folder.tape()).unwrap_err();
    let Error::Io { source, .. } = &error else { panic!("expected an error of the disk: {error}") };
    assert_eq!(source.raw_os_error(), Some(EIO));
    let told = error.to_string();
    assert!(told.contains(files[1].to_str().unwrap()), "{told}");
    assert!(told.contains("nothing was changed") && told.contains("put the copy in"), "{told}");
    assert_eq!(names(&folder.tape()), before);
}

#[test]
fn a_tape_that_is_emptied_is_read_up_to_one_head() {
    // All of it is made again: a head is all that is wanted of it, that of the newest segment that
    // has one. Nobody reads the others, which the disk does not give.
    for newest in [3, 2] {
        let folder = Folder::new("remake-head");
        let files = make(&folder.tape());
        let id = Reader::open(&folder.tape()).unwrap().id().unwrap();
        files[..newest].iter().for_each(|file| make_unreadable(file));
        files[newest + 1..].iter().for_each(|file| change(file, |bytes| bytes[20] ^= 1));
        let report = remake(&folder.tape()).unwrap();
        let moved: Vec<_> =
            files.iter().map(|it| it.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(report.moved, moved);
        assert_eq!(verify(&folder.tape()).unwrap().fault, None);
        let tape = Tape::open(&folder.tape(), config()).unwrap();
        assert_eq!((tape.id(), tape.end()), (id, 0));
    }
    // Without any head: a disk that does not read may have one, and is told first.
    let folder = Folder::new("remake-no-head");
    let files = make(&folder.tape());
    files.iter().for_each(|file| change(file, |bytes| bytes[20] ^= 1));
    assert!(matches!(remake(&folder.tape()), Err(Error::Corrupt { .. })));
    make_unreadable(&files[2]);
    assert!(matches!(remake(&folder.tape()), Err(Error::Io { .. })));
    assert_eq!(segments(&folder.tape()), files);
}

#[test]
fn a_repair_is_finished_although_what_it_moved_was_removed() {
    // It was interrupted before anything got its name, or while segments did; meanwhile somebody
    // made room: the folder of what was moved is gone, or empty. No segment is taken for one that
    // is to be moved, and the tape ends as it does without all this.
    for (is_begun, whole_folder) in [(false, false), (false, true), (true, false), (true, true)] {
        let what = format!("{is_begun} {whole_folder}");
        let folder = Folder::new("repair-removed");
        let tape = folder.tape();
        damage(&make(&tape)[1]);
        let done = repair(&tape).unwrap();
        let aside = done.moved_to.unwrap();
        // As it stood when all that follows was still to be done.
        let moved: Vec<_> = done.moved.iter().map(|name| format!("{name}\n")).collect();
        let list = format!("{}\n{}", aside.file_name().unwrap().to_str().unwrap(), moved.concat());
        std::fs::write(tape.join("REPAIR"), list).unwrap();
        let old = |path: &&PathBuf| {
            let is_newest = path.ends_with(format!("{:020}.seg", done.end));
            is_newest || aside.join(path.file_name().unwrap()).exists()
        };
        let made: Vec<_> = segments(&tape).iter().filter(old).cloned().collect();
        assert!(made.len() >= 2, "{made:?}");
        made.iter().for_each(|it| std::fs::rename(it, it.with_extension("seg.ready")).unwrap());
        if is_begun {
            // One more cannot get its name: the others do, or some of them.
            std::fs::write(tape.join("more.ready"), "").unwrap();
            std::fs::create_dir_all(tape.join("more")).unwrap();
            assert!(repair(&tape).is_err());
            std::fs::remove_file(tape.join("more.ready")).unwrap();
            std::fs::remove_dir(tape.join("more")).unwrap();
            made.iter().filter(|it| it.with_extension("seg.ready").exists()).for_each(|it| {
                std::fs::rename(it.with_extension("seg.ready"), it).unwrap();
            });
        }
        names(&aside).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        if whole_folder {
            std::fs::remove_dir(&aside).unwrap();
        }
        let end = repair(&tape).unwrap_or_else(|error| panic!("{what}: {error}")).end;
        assert_eq!(end, 2500, "{what}");
        let report = verify(&tape).unwrap();
        assert_eq!((report.fault, report.lost), (None, vec![(1000, 1100)]), "{what}");
        drop(Tape::open(&tape, config()).unwrap());
    }
}
