//! Tapes that are made from other tapes: what is durable, what is taken back, what retention may
//! take from those who read them.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tapeworks_core::record::{Header, Plain, Trade};
use tapeworks_core::tape::{save_offset, verify, Retention, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{until, Folder};

const NS_PER_DAY: i64 = 86_400_000_000_000;

fn config(retention: Retention) -> TapeConfig {
    TapeConfig {
        durability: Durability::Never,
        segment_bytes: 64 << 10,
        retention,
        ..TapeConfig::new(TapeKind::Records)
    }
}

/// Appends `count` trades as one frame that covers the input before `input`, received on `day`.
fn append(tape: &mut Tape, count: u64, input: u64, day: i64) {
    let trade = Trade {
        header: Header { ts_recv: day * NS_PER_DAY, ..Header::of::<Trade>() },
        price: 3,
        size: 7,
        trade_id: input,
        count: 1,
        side: 1,
        channel: 1,
        conditions: [0; 2],
    };
    let bytes = trade.as_bytes().repeat(count as usize);
    tape.append(&bytes, count as u32, input, day * NS_PER_DAY).unwrap();
}

/// A copy of the tape as a loss of power leaves it: whatever was published, under another boot.
fn image(tape: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(tape).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            if bytes.len() > 300 {
                bytes[264] ^= 1;
            }
            std::fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

fn first(tape: &Path) -> u64 {
    Reader::open(tape).unwrap().first().unwrap()
}

#[test]
fn age_waits_for_every_reader_that_still_comes() {
    // A day a segment, an hour kept. One reader is at the start, another far on: nothing goes.
    // Each step that the slow one makes frees what is before it; once it has not come for longer
    // than the wait, it holds nothing.
    let folder = Folder::new("readers");
    let path = folder.join("tape");
    let hour = Retention {
        age_ms_max: Some(3_600_000),
        wait_ms_max: Some(60_000),
        ..Retention::default()
    };
    let mut tape = Tape::open(&path, config(hour)).unwrap();
    save_offset(&path, "slow", 0).unwrap();
    save_offset(&path, "fast", 1_000_000).unwrap();
    let mut day = 0;
    let mut roll = |tape: &mut Tape| {
        append(tape, 10, NO_INPUT, day);
        day += 1;
    };
    (0..10).for_each(|_| roll(&mut tape));
    // Each look removes first, and links then.
    until("upkeep has looked at all closed segments", || {
        let report = verify(&path).unwrap();
        report.links + 1 == report.segments
    });
    assert_eq!(first(&path), 0);
    save_offset(&path, "slow", 35).unwrap();
    roll(&mut tape);
    until("what both have read is removed", || first(&path) == 30);
    let stored = File::options().write(true).open(path.join("offsets/slow")).unwrap();
    stored.set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    (0..5).for_each(|_| roll(&mut tape));
    until("nobody is waited for", || first(&path) >= 90);
    assert_eq!(tape.upkeep_failure(), None);
    assert_eq!(verify(&path).unwrap().fault, None);
}

#[test]
fn the_limit_of_bytes_waits_for_nobody() {
    // A reader at the start, and more than the limit: the disk comes first.
    let folder = Folder::new("limit");
    let path = folder.join("tape");
    let bounded = Retention { bytes_max: Some(200_000), ..Retention::default() };
    let mut tape = Tape::open(&path, config(bounded)).unwrap();
    save_offset(&path, "slow", 0).unwrap();
    (0..100).for_each(|_| append(&mut tape, 100, NO_INPUT, 0));
    until("the oldest are removed", || first(&path) > 5_000);
}

#[test]
fn nothing_is_durable_before_its_input_is() {
    // The input is synced by hand only. However often the derived tape is synced, it calls durable
    // what was made of durable input and nothing else, also after it was opened anew.
    let folder = Folder::new("gate");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
    let mut made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
    for step in 1..=5_u64 {
        append(&mut raw, 100, NO_INPUT, 0);
        append(&mut made, 10, step * 100, 0);
        assert_eq!(made.sync().unwrap(), (step - 1) * 10);
        assert_eq!(Reader::open(&output).unwrap().durable().unwrap(), (step - 1) * 10);
        raw.sync().unwrap();
        assert_eq!(made.sync().unwrap(), step * 10);
    }
    append(&mut raw, 100, NO_INPUT, 0);
    append(&mut made, 10, 600, 0);
    drop(made);
    let made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
    assert_eq!((made.end(), made.durable()), (60, 50));
    raw.sync().unwrap();
    assert_eq!(made.sync().unwrap(), 60);
}

#[test]
fn a_newest_segment_that_held_something_durable_is_missed() {
    // The mark of a derived tape moves with its input, after the last sync of its own files. Once
    // it has reached the newest segment, the one before knows of that: the newest is taken away,
    // under another boot, and nobody takes what is left for the whole. With and without a stop
    // between the sync and the mark.
    for is_reopened in [false, true] {
        let folder = Folder::new("gate-newest");
        let (input, output) = (folder.join("in"), folder.join("out"));
        let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
        let mut made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
        for step in 1..=60_u64 {
            append(&mut raw, 1, NO_INPUT, 0);
            append(&mut made, 20, step, 0);
        }
        assert_eq!(made.sync().unwrap(), 0);
        if is_reopened {
            drop(made);
            made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
        }
        raw.sync().unwrap();
        assert_eq!(made.sync().unwrap(), 1200);
        let copy = folder.join("copy");
        image(&output, &copy);
        let mut files: Vec<_> = std::fs::read_dir(&copy).unwrap().flatten().collect();
        files.retain(|file| file.file_name().to_string_lossy().ends_with(".seg"));
        files.sort_by_key(std::fs::DirEntry::path);
        assert_eq!(files.len(), 2);
        std::fs::remove_file(files[1].path()).unwrap();
        assert!(verify(&copy).unwrap().fault.is_some());
        let error = Tape::open(&copy, config(Retention::default())).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        let mut reader = Reader::open(&copy).unwrap();
        let read = std::iter::from_fn(|| match reader.read(usize::MAX) {
            Ok(batch) => batch.map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        });
        assert!(read.take(100).any(|batch| batch.is_err()));
    }
}

#[test]
fn opening_needs_no_right_to_write_what_it_does_not_write() {
    // The segment before the newest one says already that something behind it is durable. It is
    // opened for reading alone, by somebody who may do no more.
    let folder = Folder::new("gate-read-only");
    let path = folder.tape();
    let mut tape = Tape::open(&path, config(Retention::default())).unwrap();
    (0..40).for_each(|_| append(&mut tape, 20, NO_INPUT, 0));
    tape.sync().unwrap();
    drop(tape);
    // Root may write anything; nobody may not. A thread has that of its own, and what it starts.
    const NOBODY: u32 = 65_534;
    let mut files: Vec<_> =
        std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        let all = files.iter().chain([&path]);
        all.for_each(|file| std::os::unix::fs::chown(file, Some(NOBODY), None).unwrap());
    }
    assert!(files[0].ends_with("00000000000000000000.seg") && files.len() == 3, "{files:?}");
    std::fs::set_permissions(&files[0], Permissions::from_mode(0o444)).unwrap();
    let work = move || {
        if is_root {
            // SAFETY: a call that changes by whose rights this thread opens files, nothing else.
            unsafe { libc::setfsuid(NOBODY) };
        }
        assert!(File::options().write(true).open(&files[0]).is_err());
        let mut tape = Tape::open(&path, config(Retention::default())).unwrap();
        append(&mut tape, 20, NO_INPUT, 0);
        assert_eq!(tape.sync().unwrap(), 820);
    };
    std::thread::spawn(work).join().unwrap();
}

#[test]
fn every_frame_is_called_durable_once_its_input_is() {
    // Synced at each frame, then nothing more comes: the mark follows the input by itself.
    let folder = Folder::new("gate-frames");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
    for durability in [Durability::EveryFrame, Durability::IntervalMs(1)] {
        append(&mut raw, 100, NO_INPUT, 0);
        let settings = TapeConfig { durability, ..config(Retention::default()) };
        let mut made = Tape::open_from(&output, settings, &input).unwrap();
        append(&mut made, 10, raw.end(), 0);
        std::thread::sleep(Duration::from_millis(50));
        assert!(made.durable() < made.end());
        raw.sync().unwrap();
        until("the mark follows", || made.durable() == made.end());
    }
}

#[test]
fn what_covers_lost_input_is_taken_back() {
    // Both tapes lose power; the derived one kept everything, over several segments, some of them
    // compressed, its input less: for every end of the input, what is left covers no more than
    // that, and writing goes on from there.
    let folder = Folder::new("undo");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let (less, copy, new) = (folder.join("less"), folder.join("copy"), folder.join("new"));
    let before = folder.join("before");
    for compress_after in [None, Some(0)] {
        let retention = Retention { compress_after, ..Retention::default() };
        let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
        image(&input, &new);
        let mut made = Tape::open_from(&output, config(retention), &input).unwrap();
        for step in 1..=40 {
            append(&mut raw, 100, NO_INPUT, 0);
            append(&mut made, 90, step * 100, 0);
            // What is compressed is durable; the copies are told otherwise.
            raw.sync().unwrap();
            made.sync().unwrap();
        }
        if compress_after.is_some() {
            let cold = || verify(&output).unwrap().segments_compressed;
            until("three segments are compressed", || cold() >= 3);
        }
        image(&output, &copy);
        drop((raw, made));
        for kept in [40, 39, 25, 11, 10, 1] {
            image(&output, &copy);
            durable_only(&copy, 0);
            image(&new, &before);
            let mut raw = Tape::open(&before, config(Retention::default())).unwrap();
            append(&mut raw, kept * 100 + 50, NO_INPUT, 0);
            drop(raw);
            // Its own end is lost with the same power.
            image(&before, &less);
            let mut made = Tape::open_from(&copy, config(retention), &less).unwrap();
            assert_eq!((made.end(), made.last_input_offset()), (kept * 90, Some(kept * 100)));
            assert_eq!(made.recovery().undone, (40 - kept) * 90);
            append(&mut made, 5, kept * 100 + 50, 0);
            assert_eq!(verify(&copy).unwrap().fault, None);
            assert_eq!(verify(&copy).unwrap().items, kept * 90 + 5);
        }
        drop(std::fs::remove_dir_all(&input));
        drop(std::fs::remove_dir_all(&output));
    }
}

#[test]
fn what_covers_lost_input_is_taken_back_although_the_input_grew_again() {
    // Power is lost: the input keeps 20 items of 40, the output all that was made of the 40. The
    // recorder is back first, and has 60 more items on the tape before the output is opened. By its
    // offset the input is whole; what was made of the lost 20 is none of what stands there now.
    let folder = Folder::new("regrown");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let (less, kept) = (folder.join("less"), folder.join("kept"));
    let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
    append(&mut raw, 20, NO_INPUT, 0);
    image(&input, &less);
    let mut made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
    append(&mut made, 18, 20, 0);
    append(&mut raw, 20, NO_INPUT, 0);
    append(&mut made, 18, 40, 0);
    image(&output, &kept);
    durable_only(&kept, 0);
    let mut raw = Tape::open(&less, config(Retention::default())).unwrap();
    append(&mut raw, 60, NO_INPUT, 1);
    // Killed and back once more under the same boot: what was lost with the power is still known.
    drop(raw);
    let mut raw = Tape::open(&less, config(Retention::default())).unwrap();
    append(&mut raw, 5000, NO_INPUT, 2);
    let made = Tape::open_from(&kept, config(Retention::default()), &less).unwrap();
    assert_eq!((made.end(), made.last_input_offset()), (18, Some(20)));
    assert_eq!(made.recovery().undone, 18);
    // Under this boot it goes on from where it is, however the input grew meanwhile.
    drop(made);
    let made = Tape::open_from(&kept, config(Retention::default()), &less).unwrap();
    assert_eq!((made.end(), made.recovery().undone), (18, 0));
}

/// Sets the durable mark of all segments.
fn durable_only(tape: &Path, durable: u64) {
    for entry in std::fs::read_dir(tape).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 300 {
            bytes[256..264].copy_from_slice(&durable.to_le_bytes());
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn what_was_durable_is_never_taken_back() {
    // Somebody put back an early copy of the input: no loss of power does that to what was durable.
    // Refused, and nothing is changed.
    let folder = Folder::new("undo-durable");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let mut raw = Tape::open(&input, config(Retention::default())).unwrap();
    image(&input, &folder.join("new"));
    let mut made = Tape::open_from(&output, config(Retention::default()), &input).unwrap();
    for step in 1..=20 {
        append(&mut raw, 100, NO_INPUT, 0);
        append(&mut made, 90, step * 100, 0);
    }
    raw.sync().unwrap();
    made.sync().unwrap();
    drop((raw, made));
    image(&folder.join("new"), &input);
    let refused = Tape::open_from(&output, config(Retention::default()), &input).unwrap_err();
    assert!(matches!(&refused, Error::Invalid { .. }), "{refused}");
    assert!(refused.to_string().contains("Bring the input back"), "{refused}");
    assert_eq!(verify(&output).unwrap().items, 20 * 90);
}

#[test]
fn a_tape_may_end_in_a_compressed_segment() {
    // Power was lost before the newest segment was on the disk, and the one before it is already
    // compressed: it is unpacked, and written on.
    let folder = Folder::new("cold-end");
    let (path, copy) = (folder.join("tape"), folder.join("copy"));
    let cold = Retention { compress_after: Some(0), ..Retention::default() };
    let mut tape = Tape::open(&path, config(cold)).unwrap();
    for _ in 0..30 {
        append(&mut tape, 100, NO_INPUT, 0);
    }
    until("all closed segments are compressed", || {
        let report = verify(&path).unwrap();
        report.segments_compressed + 1 == report.segments
    });
    image(&path, &copy);
    let mut segments: Vec<_> =
        std::fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    let newest = segments.iter().rfind(|path| path.extension().is_some_and(|ext| ext == "seg"));
    let newest = newest.unwrap();
    let end: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::remove_file(newest).unwrap();
    let mut tape = Tape::open(&copy, config(cold)).unwrap();
    assert_eq!(tape.end(), end);
    append(&mut tape, 100, NO_INPUT, 0);
    let report = verify(&copy).unwrap();
    assert_eq!((report.items, report.fault), (end + 100, None));
}
