//! What was durable is never cut, forgotten or given up in silence, by a writer that opens a tape
//! on which something is damaged or missing.

use std::path::{Path, PathBuf};

use tapeworks_core::codec::Frame;
use tapeworks_core::record::{records, Header, Plain, Trade};
use tapeworks_core::tape::{repair, verify, verify_against, Retention, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{segments, until, Folder};

/// Where the words of a segment's head lie.
const CHAIN: usize = 64;
const DURABLE: usize = 256;
const BOOT: usize = 264;

fn config(durability: Durability) -> TapeConfig {
    TapeConfig { durability, segment_bytes: 64 << 10, ..TapeConfig::new(TapeKind::Records) }
}

fn trades(from: u64, count: u64) -> Vec<u8> {
    let trade = |number| Trade {
        header: Header { sequence: number, ts_recv: number as i64, ..Header::of::<Trade>() },
        price: number as i64,
        size: 7,
        trade_id: number,
        count: 1,
        side: 1,
        channel: 1,
        conditions: [0; 2],
    };
    (from..from + count).flat_map(|number| trade(number).as_bytes().to_vec()).collect()
}

/// Appends `frames` frames of 100 trades.
fn append(tape: &mut Tape, frames: u64) {
    for _ in 0..frames {
        let first = tape.end();
        tape.append(&trades(first, 100), 100, NO_INPUT, first as i64 + 99).unwrap();
    }
}

/// A tape of `frames` frames, seven of them a segment, of which `durable` are.
fn make(path: &Path, frames: u64, durable: u64) -> Tape {
    let mut tape = Tape::open(path, config(Durability::Never)).unwrap();
    append(&mut tape, durable);
    tape.sync().unwrap();
    append(&mut tape, frames - durable);
    tape
}

/// A copy of the tape at this instant; with `power`, as it is after the machine was started anew.
fn image(tape: &Path, to: &Path, power: bool) -> Vec<PathBuf> {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(tape).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let files = segments(to);
    files.iter().filter(|_| power).for_each(|file| change(file, |bytes| bytes[BOOT] ^= 1));
    files
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where the frames of `append` start in their segment.
fn frame_at(frame: usize) -> usize {
    16_384 + frame * 6440
}

/// All files of a folder with their bytes.
fn content(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        files.filter(|p| p.is_file()).map(|p| (p.clone(), std::fs::read(&p).unwrap())).collect();
    all.retain(|(path, _)| !path.ends_with("LOCK"));
    all.sort();
    all
}

/// Opening is refused as damage, twice, and changes nothing.
fn refused(tape: &Path, what: &str) {
    let before = content(tape);
    for _ in 0..2 {
        match Tape::open(tape, config(Durability::Never)) {
            Err(error @ Error::Corrupt { .. }) => {
                assert!(error.to_string().contains("tape repair"), "{what}: {error}");
            }
            other => panic!("{what}: expected damage, got {:?}", other.map(|tape| tape.end())),
        }
    }
    assert!(content(tape) == before, "{what}: opening changed a file");
    assert!(verify(tape).unwrap().fault.is_some(), "{what}: verify finds nothing");
}

type Items = (Vec<u64>, Vec<(u64, u64)>);

/// Sequences of all items, and the ranges that are told to be lost.
fn read_all(tape: &Path) -> Result<Items, Error> {
    let mut reader = Reader::open(tape)?;
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.read(usize::MAX) {
            Ok(None) => return Ok((all, lost)),
            Ok(Some(batch)) => {
                let records = records::iterate(batch.bytes);
                all.extend(records.map(|record| record.header().sequence));
            }
            Err(Error::OutOfRange { wanted, first, .. }) if wanted < first => {
                lost.push((wanted, first));
                reader.seek(first)?;
            }
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_durable_tail_that_is_zeroed_is_noticed_and_stays_noticed() {
    // Six durable frames, the last two zeroed, under this boot and another one.
    let folder = Folder::new("zeroed");
    let tape = make(&folder.join("tape"), 6, 6);
    for power in [false, true] {
        let files = image(&folder.join("tape"), &folder.join("copy"), power);
        change(&files[0], |bytes| bytes[frame_at(4)..].fill(0));
        refused(&folder.join("copy"), &format!("power {power}"));
    }
    drop(tape);
}

#[test]
fn a_damaged_last_frame_that_was_published_is_not_cut() {
    // Of this boot everything published is in memory, durable or not: one flipped bit in the last
    // frame, the frame zeroed, and the file cut in it are damage. After a loss of power the same
    // is a torn tail, and all before it stays.
    let folder = Folder::new("last-frame");
    let tape = make(&folder.join("tape"), 6, 3);
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[frame_at(5) + 100] ^= 1,
        |bytes| bytes[frame_at(5)..].fill(0),
        |bytes| bytes.truncate(frame_at(5) + 200),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let files = image(&folder.join("tape"), &folder.join("copy"), false);
        change(&files[0], damage);
        refused(&folder.join("copy"), &format!("damage {number}"));
        let files = image(&folder.join("tape"), &folder.join("copy"), true);
        change(&files[0], damage);
        let opened = Tape::open(&folder.join("copy"), config(Durability::Never)).unwrap();
        assert_eq!((opened.end(), opened.durable()), (500, 500), "damage {number}");
    }
    drop(tape);
}

#[test]
fn a_closed_segment_that_is_damaged_or_gone_costs_no_newer_one() {
    // Four segments, all durable. The second and the third are cut by a byte, flipped in the last
    // frame, blanked, emptied and removed, and the newest as well: opening refuses, under this boot
    // and another, and every other segment stays as it is.
    let folder = Folder::new("closed");
    let tape = make(&folder.join("tape"), 25, 25);
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| {
            let last = if bytes[frame_at(4)..].iter().any(|&byte| byte != 0) { 6 } else { 3 };
            bytes[frame_at(last) + 1] ^= 4;
        },
        |bytes| bytes.fill(0),
        Vec::clear,
        |bytes| bytes[..16_384].fill(0),
    ];
    for power in [false, true] {
        for segment in [2, 3] {
            for (number, damage) in damages.into_iter().enumerate() {
                if segment == 3 && number == 0 {
                    // The byte after the frames of the newest one is a zero that may be missing.
                    continue;
                }
                let files = image(&folder.join("tape"), &folder.join("copy"), power);
                change(&files[segment], damage);
                refused(&folder.join("copy"), &format!("{segment}, {number}, power {power}"));
            }
            let files = image(&folder.join("tape"), &folder.join("copy"), power);
            std::fs::remove_file(&files[segment]).unwrap();
            refused(&folder.join("copy"), &format!("{segment} removed, power {power}"));
        }
    }
    drop(tape);
}

#[test]
fn what_power_took_is_cut_and_nothing_that_was_durable() {
    // 25 frames of which 16 are durable; then power is lost, and of each segment after that in
    // turn nothing is left. The tape opens, and holds what was durable at least.
    let folder = Folder::new("power-cut");
    let tape = make(&folder.join("tape"), 25, 16);
    let closed = 14 * 100;
    for segment in [2, 3] {
        for blank in [true, false] {
            let files = image(&folder.join("tape"), &folder.join("copy"), true);
            for file in &files {
                // The thread that keeps closed segments may have synced the third one by now.
                change(file, |bytes| {
                    let durable = 1600_u64.min(if segment == 2 { closed } else { 1600 });
                    bytes[DURABLE..DURABLE + 8].copy_from_slice(&durable.to_le_bytes());
                });
            }
            change(&files[segment], |bytes| if blank { bytes.fill(0) } else { bytes.clear() });
            let mut opened = Tape::open(&folder.join("copy"), config(Durability::Never)).unwrap();
            assert_eq!(opened.end(), segment as u64 * 700);
            append(&mut opened, 3);
            assert_eq!(verify(&folder.join("copy")).unwrap().fault, None);
        }
    }
    drop(tape);
}

#[test]
fn closed_segments_are_let_go_of_however_the_tape_is_synced() {
    // A hundred small segments that are never synced by anybody: retention keeps a few, and the
    // writer holds no more files open than those, and none that is removed.
    let folder = Folder::new("never-open");
    let retention = Retention { bytes_max: Some(200_000), ..Retention::default() };
    let settings = TapeConfig { retention, ..config(Durability::Never) };
    let mut tape = Tape::open(&folder.join("tape"), settings).unwrap();
    append(&mut tape, 700);
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let paths = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        let ours: Vec<String> = paths
            .map(|path| path.to_string_lossy().into_owned())
            .filter(|path| path.contains("never-open") && path.contains(".seg"))
            .collect();
        (ours.len(), ours.iter().filter(|path| path.contains("(deleted)")).count())
    };
    assert!(open().0 <= 20, "{:?}", open());
    until("closed segments are durable", || tape.durable() >= 69_000);
    until("two files at most are open", || [(1, 0), (2, 0)].contains(&open()));
}

/// Puts another price into the first trade of a segment, with a checksum that is right again.
fn forge(segment: &Path) {
    change(segment, |bytes| {
        let mut frame = Frame::read_from(&bytes[16_384..]).unwrap();
        bytes[16_384 + 40 + 32] ^= 1;
        frame.checksum = frame.checksum_with(&bytes[16_384 + 40..16_384 + frame.size()]);
        bytes[16_384..16_384 + 40].copy_from_slice(frame.as_bytes());
    });
}

/// A chain field that says that the hash is not known yet, as a writer leaves it.
fn pending() -> [u8; 40] {
    let mut field = [0; 40];
    let checksum = crc32c::crc32c(&field[..36]);
    field[36..].copy_from_slice(&checksum.to_le_bytes());
    field
}

#[test]
fn a_link_that_is_taken_out_of_the_chain_is_a_fault_and_not_made_anew() {
    // One link in the middle, and all links behind a forged segment, are zeroed, or made to look
    // as if they were not known yet: verify finds each, and a writer that opens the tape does not
    // hide it.
    let folder = Folder::new("links");
    for _ in 0..10 {
        append(&mut Tape::open(&folder.join("tape"), config(Durability::Never)).unwrap(), 7);
    }
    for field in [[0; 40], pending()] {
        for (from, to, is_forged) in [(2, 3, false), (4, 10, true), (4, 9, true)] {
            let files = image(&folder.join("tape"), &folder.join("copy"), false);
            if is_forged {
                forge(&files[from - 1]);
            }
            for file in &files[from..to.min(files.len())] {
                change(file, |bytes| bytes[CHAIN..CHAIN + 40].copy_from_slice(&field));
            }
            let fault = verify(&folder.join("copy")).unwrap().fault.unwrap();
            assert_eq!((fault.path, fault.byte), (files[from].clone(), CHAIN as u64));
            drop(Tape::open(&folder.join("copy"), config(Durability::Never)).unwrap());
            let fault = verify(&folder.join("copy")).unwrap().fault.unwrap();
            assert_eq!((fault.path, fault.byte), (files[from].clone(), CHAIN as u64));
        }
    }
}

#[test]
fn a_link_that_the_disk_broke_off_is_made_whole() {
    // A short write, then one that fails, leaves the newest link in part. That is no damage, at
    // whichever byte it broke off, and the writer's next look ends it; any other change is one.
    let folder = Folder::new("torn-link");
    let path = folder.join("tape");
    drop(make(&path, 20, 20));
    for byte in [1, 20, 32, 33, 37, 39] {
        let files = image(&path, &folder.join("copy"), false);
        let mut torn = 0; // A link may end in the very bytes of one that is pending: it is whole.
        change(files.last().unwrap(), |bytes| {
            torn = u64::from(bytes[CHAIN + byte..CHAIN + 40] != pending()[byte..]);
            bytes[CHAIN + byte..CHAIN + 40].copy_from_slice(&pending()[byte..]);
        });
        let report = verify(&folder.join("copy")).unwrap();
        assert_eq!((report.fault, report.links_pending), (None, torn), "byte {byte}");
        append(&mut Tape::open(&folder.join("copy"), config(Durability::Never)).unwrap(), 7);
        let report = verify(&folder.join("copy")).unwrap();
        assert_eq!((report.fault, report.links_pending), (None, 0), "byte {byte}");

        let files = image(&path, &folder.join("copy"), false);
        change(files.last().unwrap(), |bytes| {
            bytes[CHAIN + byte..CHAIN + 40].copy_from_slice(&pending()[byte..]);
            // Neither the byte that was written nor the one it was written over, whatever the hash.
            let (at, before) = (CHAIN + byte - 1, pending()[byte - 1]);
            bytes[at] ^= if bytes[at] ^ 1 == before { 2 } else { 1 };
        });
        drop(Tape::open(&folder.join("copy"), config(Durability::Never)).unwrap());
        let fault = verify(&folder.join("copy")).unwrap().fault.unwrap();
        assert_eq!(fault.byte, CHAIN as u64, "byte {byte}");
    }
}

#[test]
fn a_head_that_is_kept_elsewhere_proves_all_before_it() {
    // Who can write the tape can write all of its hashes anew: that shows against a head that was
    // kept, and only against that. The head stays right while the tape grows and is compressed.
    let folder = Folder::new("head");
    let path = folder.join("tape");
    drop(make(&path, 30, 30));
    let head = verify(&path).unwrap().head.unwrap();
    assert_eq!((head.offset, head.to_string().parse().unwrap()), (3000, head));
    let cold = Retention { compress_after: Some(1), ..Retention::default() };
    let settings = TapeConfig { retention: cold, ..config(Durability::Never) };
    let mut tape = Tape::open(&path, settings).unwrap();
    append(&mut tape, 30);
    drop(tape);
    let report = verify_against(&path, Some(head)).unwrap();
    assert_eq!((report.fault, report.end, report.verified_from), (None, 6000, 0));
    // The forger makes a tape of the same items but one, and gives it the same id.
    let files = image(&path, &folder.join("copy"), false);
    forge(&files[files.len() - 2]);
    let fault = verify(&folder.join("copy")).unwrap().fault;
    assert!(fault.is_some(), "the chain alone shows a careless change");
    let other = folder.join("other");
    let mut forged = Tape::open(&other, config(Durability::Never)).unwrap();
    for _ in 0..30 {
        let first = forged.end();
        forged.append(&trades(first + 1, 100), 100, NO_INPUT, first as i64 + 99).unwrap();
    }
    drop(forged);
    assert_eq!(verify(&other).unwrap().fault, None);
    let fault = verify_against(&other, Some(head)).unwrap().fault.unwrap();
    assert!(fault.reason.contains("were changed"), "{}", fault.reason);
    drop(std::fs::remove_dir_all(&other));
    drop(make(&other, 20, 20));
    let fault = verify_against(&other, Some(head)).unwrap().fault.unwrap();
    assert!(fault.reason.contains("cut or rewritten"), "{}", fault.reason);
}

#[test]
fn a_repair_keeps_all_that_is_whole_and_deletes_nothing() {
    // Four segments, all durable, damaged in each way in turn. After the repair the tape opens, is
    // whole, holds every item but those that are said to be lost, tells its readers of these, and
    // goes on where it ended before: no offset is given twice. The damaged bytes are still there,
    // and a second repair has nothing to do.
    let folder = Folder::new("repair");
    let tape = make(&folder.join("tape"), 25, 25);
    type Damage = (&'static str, usize, fn(&mut Vec<u8>), &'static [(u64, u64)]);
    let damages: [Damage; 7] = [
        ("a frame in the middle", 1, |bytes| bytes[frame_at(3) + 77] ^= 1, &[(1000, 1100)]),
        ("two frames", 1, |bytes| bytes[frame_at(2) + 9..frame_at(4)].fill(7), &[(900, 1100)]),
        ("the last frame of one", 2, |bytes| bytes[frame_at(6) + 1] ^= 4, &[(2000, 2100)]),
        ("a head", 2, |bytes| bytes[..16_384].fill(0), &[(1400, 2100)]),
        ("an empty file", 1, Vec::clear, &[(700, 1400)]),
        ("the durable tail", 3, |bytes| bytes[frame_at(2)..].fill(0), &[(2300, 2500)]),
        ("the newest head", 3, |bytes| bytes[20] ^= 1, &[(2100, 2500)]),
    ];
    for (what, segment, damage, lost) in damages {
        for power in [false, true] {
            let copy = folder.join("copy");
            let files = image(&folder.join("tape"), &copy, power);
            change(&files[segment], damage);
            let damaged = std::fs::read(&files[segment]).unwrap();
            let report = repair(&copy).unwrap_or_else(|error| panic!("{what}: {error}"));
            let ranges: Vec<_> =
                report.lost.iter().map(|lost| (lost.first, lost.last + 1)).collect();
            assert_eq!((&ranges[..], report.end), (lost, 2500), "{what}");
            let name = files[segment].file_name().unwrap();
            let aside = report.moved_to.unwrap().join(name);
            assert!(std::fs::read(aside).unwrap() == damaged, "{what}: the bytes are kept");
            let verified = verify(&copy).unwrap();
            assert_eq!(
                (verified.fault, verified.lost, verified.end),
                (None, ranges, 2500),
                "{what}"
            );
            let mut opened = Tape::open(&copy, config(Durability::Never)).unwrap();
            append(&mut opened, 10);
            let is_lost = |n: &u64| lost.iter().any(|(from, to)| (from..to).contains(&n));
            let kept: Vec<u64> = (0..3500).filter(|number| !is_lost(number)).collect();
            assert_eq!(read_all(&copy).unwrap(), (kept, lost.to_vec()), "{what}");
            drop(opened);
            assert_eq!(verify(&copy).unwrap().fault, None, "{what}");
            assert_eq!(repair(&copy).unwrap().moved_to, None, "{what}: nothing more to do");
        }
    }
    drop(tape);
}

#[test]
fn a_derived_tape_makes_its_tail_again_at_the_same_offsets() {
    // The output of a stage loses its durable tail: the repair goes back to what is whole and says
    // from where it is made again, since its input is still there.
    let folder = Folder::new("repair-made");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let raw = make(&input, 10, 10);
    raw.sync().unwrap();
    let mut made = Tape::open_from(&output, config(Durability::Never), &input).unwrap();
    for frame in 0..10 {
        made.append(&trades(frame * 100, 100), 100, (frame + 1) * 100, 5).unwrap();
    }
    made.sync().unwrap();
    drop(made);
    change(&segments(&output)[1], |bytes| bytes[frame_at(1)..].fill(0));
    assert!(Tape::open_from(&output, config(Durability::Never), &input).is_err());
    let report = repair(&output).unwrap();
    assert_eq!((report.end, report.remade_from, report.lost.len()), (800, Some(800), 0));
    let mut made = Tape::open_from(&output, config(Durability::Never), &input).unwrap();
    assert_eq!((made.end(), made.last_input_offset()), (800, Some(800)));
    made.append(&trades(800, 100), 100, 900, 5).unwrap();
    drop(made);
    assert_eq!(verify(&output).unwrap().fault, None);
    assert_eq!(read_all(&output).unwrap(), ((0..900).collect(), vec![]));
}

#[test]
fn a_repair_that_was_interrupted_is_a_fault_until_it_is_finished() {
    // Killed behind each of its steps: however much is in its place, the tape is not called whole,
    // no writer opens it, and the next repair ends as one that was not interrupted.
    let folder = Folder::new("repair-interrupted");
    let tape = make(&folder.join("tape"), 25, 25);
    for step in 0..4 {
        let copy = folder.join("copy");
        let files = image(&folder.join("tape"), &copy, false);
        change(&files[1], |bytes| bytes[frame_at(3) + 77] ^= 1);
        let whole = repair(&copy).unwrap();
        let (aside, ready) = (whole.moved_to.unwrap(), "seg.ready");
        let names = whole.moved.iter().map(|name| format!("{name}\n")).collect::<String>();
        let list = format!("{}\n{names}", aside.file_name().unwrap().to_str().unwrap());
        std::fs::write(copy.join("REPAIR"), list).unwrap();
        let newest = segments(&copy).pop().unwrap();
        let put_together: Vec<_> = segments(&copy)
            .into_iter()
            .filter(|path| *path == newest || aside.join(path.file_name().unwrap()).exists())
            .collect();
        if step < 3 {
            std::fs::rename(&newest, newest.with_extension(ready)).unwrap();
        }
        if step < 2 {
            for path in put_together.iter().filter(|path| **path != newest) {
                std::fs::rename(path, path.with_extension(ready)).unwrap();
            }
        }
        if step < 1 {
            let moved = &whole.moved[0];
            std::fs::rename(aside.join(moved), copy.join(moved)).unwrap();
        }
        let fault = verify(&copy).unwrap().fault.expect("it is not finished");
        assert!(fault.reason.contains("run `tape repair` again"), "{step}: {}", fault.reason);
        let refused = Tape::open(&copy, config(Durability::Never)).map(drop).unwrap_err();
        assert!(refused.to_string().contains("was interrupted"), "{step}: {refused}");
        assert_eq!(repair(&copy).unwrap().end, 2500, "{step}");
        let report = verify(&copy).unwrap();
        assert_eq!((report.fault, report.lost), (None, vec![(1000, 1100)]), "{step}");
        drop(Tape::open(&copy, config(Durability::Never)).unwrap());
    }
    drop(tape);
}
