//! The tape by its public interface: what is written is read, whatever happens to the writer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tapeworks_core::codec::Frame;
use tapeworks_core::record::{Header, Plain, Trade};
use tapeworks_core::tape::{hash, verify, Retention, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{segments, until, Folder};

const NS_PER_DAY: i64 = 86_400_000_000_000;

fn config() -> TapeConfig {
    TapeConfig { durability: Durability::Never, ..TapeConfig::new(TapeKind::Records) }
}

fn trade(number: u64) -> Trade {
    let mut header = Header::of::<Trade>();
    header.sequence = number;
    header.ts_recv = number as i64;
    Trade {
        header,
        price: number as i64 * 3,
        size: 7,
        trade_id: number,
        count: 1,
        side: 1,
        channel: 1,
        conditions: [0; 2],
    }
}

fn trades(from: u64, to: u64) -> Vec<u8> {
    (from..to).flat_map(|number| trade(number).as_bytes().to_vec()).collect()
}

/// Appends trades `from` to `to` as one frame that covers input `to`, received at `to - 1`.
fn append(tape: &mut Tape, from: u64, to: u64) {
    let first = tape.append(&trades(from, to), (to - from) as u32, to, to as i64 - 1).unwrap();
    assert_eq!(first, from);
}

/// All sequences from the reader's position on, each checked against its offset.
fn read_all(reader: &mut Reader, max_items: usize) -> Result<Vec<u64>, Error> {
    let mut all = Vec::new();
    while let Some(batch) = reader.read(max_items)? {
        assert!(batch.count > 0 && batch.count <= max_items);
        let mut offset = batch.first_offset;
        for record in tapeworks_core::record::records::iterate(batch.bytes) {
            assert_eq!(record.get::<Trade>().unwrap(), trade(offset));
            all.push(offset);
            offset += 1;
        }
        assert_eq!(offset, batch.first_offset + batch.count as u64);
    }
    Ok(all)
}

fn last_segment(tape: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(tape)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn what_is_appended_is_read_at_any_batch_size() {
    // Frames of one, many and no items; every limit must give the same items and cut at items.
    let folder = Folder::new("read");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    append(&mut tape, 0, 1);
    append(&mut tape, 1, 20);
    tape.append(&[], 0, 99, 20).unwrap();
    append(&mut tape, 20, 23);
    for max_items in [1, 2, 7, 1000] {
        let mut reader = Reader::open(&folder.tape()).unwrap();
        assert_eq!(read_all(&mut reader, max_items).unwrap(), (0..23).collect::<Vec<_>>());
        assert_eq!(reader.position(), 23);
        assert_eq!(reader.end().unwrap(), 23);
        assert_eq!(reader.covered().unwrap(), Some(23));
        assert_eq!(reader.first().unwrap(), 0);
    }
}

#[test]
fn frames_of_all_sizes_follow_each_other() {
    // Small frames are written through the map and large ones through the file: in any order, over
    // many segments, a reader that follows and one that comes later find the same items.
    let folder = Folder::new("sizes");
    let config = TapeConfig { segment_bytes: 1 << 20, ..config() };
    let mut tape = Tape::open(&folder.tape(), config).unwrap();
    let mut following = Reader::open(&folder.tape()).unwrap();
    let sizes = [1, 300, 1, 1, 255, 256, 2, 900, 700, 40, 1000, 1, 2000, 3, 300];
    let mut end = 0;
    for round in 0..20 {
        for size in sizes.into_iter().cycle().skip(round).take(sizes.len()) {
            append(&mut tape, end, end + size);
            let read = read_all(&mut following, usize::MAX).unwrap();
            assert_eq!(read, (end..end + size).collect::<Vec<_>>());
            end += size;
        }
    }
    drop(tape);
    assert_eq!(Tape::open(&folder.tape(), config).unwrap().recovery().cut_bytes, 0);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 77).unwrap(), (0..end).collect::<Vec<_>>());
}

#[test]
fn a_tape_goes_on_where_it_ended() {
    // Open, append, close, many times: offsets, covered input and times go on.
    let folder = Folder::new("reopen");
    for round in 0..20 {
        let mut tape = Tape::open(&folder.tape(), config()).unwrap();
        assert_eq!(tape.end(), round * 10);
        assert_eq!(tape.recovery().cut_bytes, 0);
        if round > 0 {
            assert_eq!(tape.last_input_offset(), Some(round * 10));
            assert_eq!(tape.last_ts_recv(), Some(round as i64 * 10 - 1));
        }
        append(&mut tape, round * 10, round * 10 + 10);
    }
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 3).unwrap().len(), 200);
}

#[test]
fn seeking_finds_every_offset_and_time() {
    // Small segments, many frames: seek to each offset and each time, read the next item.
    let folder = Folder::new("seek");
    let small = TapeConfig { segment_bytes: 64 << 10, ..config() };
    let mut tape = Tape::open(&folder.tape(), small).unwrap();
    let mut at = 0;
    while at < 4000 {
        let count = 1 + at % 17;
        append(&mut tape, at, at + count);
        at += count;
    }
    let mut reader = Reader::open(&folder.tape()).unwrap();
    for offset in (0..at).rev().step_by(3).chain(0..at) {
        reader.seek(offset).unwrap();
        assert_eq!(reader.position(), offset);
        assert_eq!(reader.read(1).unwrap().unwrap().first_offset, offset);
        reader.seek_time(offset as i64).unwrap();
        let batch = reader.read(1000).unwrap().unwrap();
        let after = batch.first_offset + batch.count as u64;
        assert!(batch.first_offset <= offset && offset < after);
    }
    reader.seek(at).unwrap();
    assert!(reader.read(1).unwrap().is_none());
    reader.seek_time(at as i64).unwrap();
    assert_eq!(reader.position(), at);
    let beyond = reader.seek(at + 1).unwrap_err();
    assert!(matches!(beyond, Error::OutOfRange { wanted, first: 0, end } if wanted == at + 1
        && end == at));
}

#[test]
fn a_new_day_is_a_new_segment() {
    // Receive times of three days, the last with a step back: one segment per day.
    let folder = Folder::new("day");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    for (number, day) in [20_000, 20_000, 20_001, 20_002, 20_001].into_iter().enumerate() {
        let bytes = trades(number as u64, number as u64 + 1);
        tape.append(&bytes, 1, NO_INPUT, day * NS_PER_DAY + 5).unwrap();
    }
    let segments = std::fs::read_dir(folder.tape())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some())
        .count();
    assert_eq!(segments, 3);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 10).unwrap(), (0..5).collect::<Vec<_>>());
    assert_eq!(reader.covered().unwrap(), None);
}

#[test]
fn a_frame_larger_than_a_segment_fits() {
    // A 5 MB body on segments of 64 KiB, first on the tape and in the middle.
    let folder = Folder::new("large");
    let small = TapeConfig { segment_bytes: 64 << 10, ..config() };
    let mut tape = Tape::open(&folder.tape(), small).unwrap();
    append(&mut tape, 0, 80_000);
    append(&mut tape, 80_000, 80_001);
    append(&mut tape, 80_001, 160_000);
    append(&mut tape, 160_000, 160_002);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 999).unwrap().len(), 160_002);
}

#[test]
fn a_second_writer_is_refused() {
    // Open twice in one process: the second must name the holder and change nothing.
    let folder = Folder::new("lock");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    let refused = Tape::open(&folder.tape(), config()).unwrap_err();
    let this = std::process::id();
    assert!(matches!(refused, Error::Locked { holder: Some(pid), .. } if pid == this));
    append(&mut tape, 0, 5);
    drop(tape);
    assert_eq!(Tape::open(&folder.tape(), config()).unwrap().end(), 5);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    // A loss of power can leave half a frame. Cut the file, of another boot, at every byte of the
    // last frame: each time a reader returns all earlier records and no error, and a writer goes on
    // from there. Were that frame durable, the file was cut by somebody: a reader refuses.
    let folder = Folder::new("torn");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    append(&mut tape, 0, 3);
    append(&mut tape, 3, 4);
    let before = 16_384 + 2 * 40 + 4 * 64;
    append(&mut tape, 4, 6);
    drop(tape);
    let path = last_segment(&folder.tape());
    let mut whole = std::fs::read(&path).unwrap();
    whole[264] ^= 1;
    std::fs::write(&path, &whole[..before + 1]).unwrap();
    let error = read_all(&mut Reader::open(&folder.tape()).unwrap(), 10).unwrap_err();
    assert!(matches!(error, Error::Corrupt { byte, .. } if byte == before as u64), "{error}");
    whole[256..264].copy_from_slice(&4u64.to_le_bytes());
    for length in before..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut reader = Reader::open(&folder.tape()).unwrap();
        assert_eq!(read_all(&mut reader, 10).unwrap(), vec![0, 1, 2, 3], "length {length}");
        let mut tape = Tape::open(&folder.tape(), config()).unwrap();
        assert_eq!(tape.end(), 4);
        assert_eq!(tape.recovery().cut_at, before as u64);
        append(&mut tape, 4, 9);
        assert!(reader.wait(Duration::from_millis(100)));
        assert_eq!(read_all(&mut reader, 10).unwrap(), vec![4, 5, 6, 7, 8], "length {length}");
    }
}

#[test]
fn a_flipped_bit_stops_reader_and_writer_with_its_place() {
    // Flip one bit in each byte of the first two of three frames: nobody may take a wrong record,
    // and both must name the frame.
    let folder = Folder::new("flip");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    append(&mut tape, 0, 1);
    append(&mut tape, 1, 2);
    append(&mut tape, 2, 3);
    drop(tape);
    let path = last_segment(&folder.tape());
    let whole = std::fs::read(&path).unwrap();
    for byte in 16_384..16_384 + 2 * 104 {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        std::fs::write(&path, &bytes).unwrap();
        let frame = 16_384 + (byte as u64 - 16_384) / 104 * 104;
        let mut reader = Reader::open(&folder.tape()).unwrap();
        let error = read_all(&mut reader, 10).unwrap_err();
        assert!(matches!(error, Error::Corrupt { byte, .. } if byte == frame), "byte {byte}");
        let error = Tape::open(&folder.tape(), config()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { byte, .. } if byte == frame), "byte {byte}");
    }
}

#[test]
fn a_sleeping_reader_is_woken() {
    // A reader thread sleeps at the end, over a roll of segments too, and sees each append.
    let folder = Folder::new("wake");
    let small = TapeConfig { segment_bytes: 64 << 10, ..config() };
    let mut tape = Tape::open(&folder.tape(), small).unwrap();
    let path = folder.tape();
    let thread = std::thread::spawn(move || {
        let mut reader = Reader::open(&path).unwrap();
        reader.set_spin(Duration::ZERO);
        let mut seen = 0;
        while seen < 20_000 {
            assert!(reader.wait(Duration::from_secs(20)), "woken at {seen}");
            seen += read_all(&mut reader, 100).unwrap().len();
        }
    });
    for round in 0..200 {
        append(&mut tape, round * 100, round * 100 + 100);
        std::thread::sleep(Duration::from_micros(200));
    }
    thread.join().unwrap();
    let mut reader = Reader::open(&folder.tape()).unwrap();
    reader.seek(20_000).unwrap();
    assert!(!reader.wait(Duration::from_millis(5)));
}

#[test]
fn the_durable_mark_follows() {
    // Every frame: durable when append returns. Every few ms: durable soon, without a call.
    let folder = Folder::new("durable");
    let every = TapeConfig { durability: Durability::EveryFrame, ..config() };
    let mut tape = Tape::open(&folder.tape(), every).unwrap();
    append(&mut tape, 0, 3);
    assert_eq!(tape.durable(), 3);
    drop(tape);
    let some = TapeConfig { durability: Durability::IntervalMs(5), ..config() };
    let mut tape = Tape::open(&folder.tape(), some).unwrap();
    append(&mut tape, 3, 7);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    until("what was appended is durable", || reader.durable().unwrap() == 7);
    assert_eq!(tape.durable(), 7);
}

fn names(tape: &Path, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(tape)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

/// Writes `frames` frames of 100 records into segments of 64 KiB.
fn fill(path: &Path, retention: Retention, frames: u64) -> Tape {
    let small = TapeConfig { segment_bytes: 64 << 10, retention, ..config() };
    let mut tape = Tape::open(path, small).unwrap();
    let from = tape.end() / 100;
    for frame in from..from + frames {
        append(&mut tape, frame * 100, frame * 100 + 100);
    }
    tape
}

#[test]
fn the_chain_proves_closed_segments() {
    // Many segments; verify compares each hash. Then change one record of a closed segment and
    // mend its checksum, as a forger would: only the chain can tell.
    let folder = Folder::new("chain");
    drop(fill(&folder.tape(), Retention::default(), 70));
    let report = verify(&folder.tape()).unwrap();
    assert_eq!((report.items, report.frames, report.fault), (7000, 70, None));
    assert_eq!(report.bytes, 7000 * 64);
    assert_eq!((report.links, report.links_pending), (report.segments - 1, 0));
    assert!(report.segments > 8);

    let path = folder.tape().join(&names(&folder.tape(), ".seg")[3]);
    let mut bytes = std::fs::read(&path).unwrap();
    let mut frame = Frame::read_from(&bytes[16_384..]).unwrap();
    bytes[16_384 + 40 + 32] ^= 1;
    frame.checksum = frame.checksum_with(&bytes[16_384 + 40..16_384 + frame.size()]);
    bytes[16_384..16_384 + 40].copy_from_slice(frame.as_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let fault = verify(&folder.tape()).unwrap().fault.unwrap();
    assert_eq!(fault.path, folder.tape().join(&names(&folder.tape(), ".seg")[4]));
    assert_eq!(fault.byte, 64);
}

#[test]
fn compressed_segments_are_read_as_before() {
    // Compress all but two closed segments; read, seek, hash and chain must not change.
    let folder = Folder::new("cold");
    drop(fill(&folder.tape(), Retention::default(), 70));
    let before = hash(&folder.tape()).unwrap();
    let plain = names(&folder.tape(), ".seg").len();
    let cold = Retention { compress_after: Some(2), ..Retention::default() };
    let tape = fill(&folder.tape(), cold, 0);
    until("compressed", || names(&folder.tape(), ".seg").len() == 3);
    assert_eq!(tape.upkeep_failure(), None);
    assert_eq!(names(&folder.tape(), ".seg.lz4").len(), plain - 3);
    assert_eq!(names(&folder.tape(), ".aside"), Vec::<String>::new());
    assert_eq!(hash(&folder.tape()).unwrap(), before);
    let report = verify(&folder.tape()).unwrap();
    assert_eq!((report.items, report.fault), (7000, None));
    assert_eq!((report.links, report.links_pending), (report.segments - 1, 0));
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 33).unwrap().len(), 7000);
    for offset in (0..7000).step_by(97) {
        reader.seek(offset).unwrap();
        assert_eq!(reader.read(5).unwrap().unwrap().first_offset, offset);
        reader.seek_time(offset as i64).unwrap();
        assert_eq!(reader.position(), offset / 100 * 100);
    }
}

#[test]
fn retention_removes_the_oldest_and_readers_are_told() {
    // Keep about 200 KB: the oldest go, a reader that was behind gets what is kept, by name.
    let folder = Folder::new("retention");
    let tape = fill(&folder.tape(), Retention::default(), 10);
    let mut behind = Reader::open(&folder.tape()).unwrap();
    assert_eq!(behind.read(10).unwrap().unwrap().count, 10);
    drop(tape);
    let bounded = Retention { bytes_max: Some(200_000), ..Retention::default() };
    let tape = fill(&folder.tape(), bounded, 90);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    until("removed", || reader.first().unwrap() > 8000);
    let first = reader.first().unwrap();
    let error = reader.seek(0).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { wanted: 0, first: f, end: 10_000 } if f == first));
    // The segment that the other reader holds is still there for it; the next one is not.
    let error = read_all(&mut behind, 1000).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { first: f, end: 10_000, .. } if f == first));
    behind.seek(first).unwrap();
    assert_eq!(read_all(&mut behind, 1000).unwrap().last(), Some(&9999));
    assert_eq!(tape.upkeep_failure(), None);
    assert_eq!(verify(&folder.tape()).unwrap().fault, None);
}

#[test]
fn retention_by_age_looks_at_the_times_on_the_tape() {
    // Items are 1 ns apart: with nothing older than 1 ms kept, all of the 0.1 ms stay; then items a
    // day apart make the rest old.
    let folder = Folder::new("age");
    let young = Retention { age_ms_max: Some(1), ..Retention::default() };
    let mut tape = fill(&folder.tape(), young, 70);
    let later = trades(7000, 7001);
    assert_eq!(Reader::open(&folder.tape()).unwrap().first().unwrap(), 0);
    for day in 1..=6 {
        tape.append(&later, 1, NO_INPUT, day * NS_PER_DAY).unwrap();
    }
    let reader = Reader::open(&folder.tape()).unwrap();
    until("removed", || reader.first().unwrap() >= 7000);
}

#[test]
fn retention_by_age_believes_no_single_step_of_a_clock() {
    // A week is kept. One item is a month ahead, and in another tape all from there on are: what
    // was written within the same minute stays.
    for is_lasting in [false, true] {
        let folder = Folder::new(if is_lasting { "step" } else { "glitch" });
        let week = Retention { age_ms_max: Some(7 * 86_400_000), ..Retention::default() };
        let mut tape = fill(&folder.tape(), week, 40);
        for item in 0..40_i64 {
            let ahead = if is_lasting || item == 0 { 30 * NS_PER_DAY } else { 0 };
            tape.append(&trades(0, 100), 100, NO_INPUT, 5_000 + item + ahead).unwrap();
        }
        // A retention that were due would be done well before the next segment is closed.
        let (asked, reader) = (names(&folder.tape(), ".seg").len(), Reader::open(&folder.tape()));
        assert!(asked > 10);
        tape.append(&trades(0, 100), 100, NO_INPUT, 6_000 + 30 * NS_PER_DAY).unwrap();
        drop(tape);
        assert_eq!(reader.unwrap().first().unwrap(), 0);
    }
}

#[test]
fn a_crash_between_two_segments_is_mended() {
    // The writer dies after naming the new segment, before closing the old one: clear the closed
    // bit and remove what the new one got. The next writer closes it, and nothing is lost.
    let folder = Folder::new("between");
    drop(fill(&folder.tape(), Retention::default(), 20));
    let files = names(&folder.tape(), ".seg");
    let old = folder.tape().join(&files[files.len() - 2]);
    let mut bytes = std::fs::read(&old).unwrap();
    bytes[128] &= !1;
    std::fs::write(&old, &bytes).unwrap();
    let mut tape = fill(&folder.tape(), Retention::default(), 0);
    append(&mut tape, 2000, 2001);
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut reader, 100).unwrap().len(), 2001);
    assert_eq!(verify(&folder.tape()).unwrap().fault, None);
}

#[test]
fn versions_from_the_future_and_foreign_files_are_named() {
    // Change the version, then the magic, then the length of the head of the only segment.
    let folder = Folder::new("version");
    drop(fill(&folder.tape(), Retention::default(), 1));
    let path = last_segment(&folder.tape());
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[8] = 3;
    std::fs::write(&path, &bytes).unwrap();
    let future = |error| matches!(error, Error::FutureVersion { found: 3, supported: 2, .. });
    assert!(future(Reader::open(&folder.tape()).unwrap_err()));
    assert!(future(Tape::open(&folder.tape(), config()).unwrap_err()));
    assert!(future(verify(&folder.tape()).unwrap_err()));
    bytes = whole.clone();
    bytes[0] = 0;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Reader::open(&folder.tape()), Err(Error::Corrupt { byte: 0, .. })));
    std::fs::write(&path, &whole[..1000]).unwrap();
    assert!(matches!(Reader::open(&folder.tape()), Err(Error::Corrupt { byte: 1000, .. })));
    assert!(matches!(Tape::open(&folder.tape(), config()), Err(Error::Corrupt { .. })));
    std::fs::write(&path, &whole).unwrap();
    let blobs = TapeConfig { kind: TapeKind::Blobs, ..config() };
    assert!(matches!(Tape::open(&folder.tape(), blobs), Err(Error::Invalid { .. })));
    assert_eq!(Tape::open(&folder.tape(), config()).unwrap().end(), 100);
}

#[test]
fn no_permission_is_an_error_that_names_the_path() {
    // A folder whose place is taken by a file cannot be made, by nobody.
    let folder = Folder::new("permission");
    std::fs::write(folder.tape(), b"").unwrap();
    let error = Tape::open(&folder.tape(), config()).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }));
    assert!(error.to_string().contains(folder.tape().to_str().unwrap()), "{error}");
    let error = Reader::open(&folder.0.join("nothing")).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn items_that_are_not_whole_are_refused() {
    // Lengths that no items have; the tape stays as it was.
    let folder = Folder::new("whole");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    for (length, count) in [(7, 1), (8, 0), (0, 1), (8, 2)] {
        let refused = tape.append(&vec![1; length], count, NO_INPUT, 0);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{length} bytes, {count} items");
    }
    append(&mut tape, 0, 1);
}

/// What the disk holds of `tape` at this instant, as a tape of its own: what a crash leaves.
fn image(tape: &Path, to: &Path) -> Vec<PathBuf> {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    let files = names(tape, ".seg");
    for name in &files {
        std::fs::copy(tape.join(name), to.join(name)).unwrap();
    }
    files.iter().map(|name| to.join(name)).collect()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where the frames of 100 records that `fill` writes start in their segment.
fn frame_at(frame: usize) -> usize {
    16_384 + frame * 6440
}

#[test]
fn a_killed_writer_loses_nothing() {
    // The image of a tape that is being written: every published item is there for a reader and
    // for the next writer, with the zeros of preallocated space behind them.
    let folder = Folder::new("killed");
    let copy = folder.0.join("copy");
    let mut tape = fill(&folder.tape(), Retention::default(), 20);
    for frame in 20..40 {
        append(&mut tape, frame * 100, frame * 100 + 100);
        image(&folder.tape(), &copy);
        let end = (frame + 1) * 100;
        let mut reader = Reader::open(&copy).unwrap();
        assert_eq!(reader.end().unwrap(), end);
        assert_eq!(read_all(&mut reader, 1000).unwrap().len() as u64, end);
        let next = Tape::open(&copy, config()).unwrap();
        assert_eq!((next.end(), next.recovery().cut_bytes), (end, 0));
        assert_eq!(next.last_input_offset(), Some(end));
    }
}

#[test]
fn a_loss_of_power_keeps_the_frames_up_to_the_first_missing_page() {
    // The image under another boot, with a page of the fourth frame never written: three frames
    // stay, readers and the next writer agree, and what was cut is told.
    let folder = Folder::new("power");
    let copy = folder.0.join("copy");
    let _tape = fill(&folder.tape(), Retention::default(), 6);
    let files = image(&folder.tape(), &copy);
    change(&files[0], |bytes| {
        bytes[264] ^= 1;
        let page = frame_at(4) / 4096 * 4096 - 4096;
        bytes[page..page + 4096].fill(0);
    });
    let mut reader = Reader::open(&copy).unwrap();
    assert_eq!(read_all(&mut reader, 1000).unwrap().len(), 300);
    assert_eq!(verify(&copy).unwrap().fault.unwrap().byte, frame_at(3) as u64);
    let mut tape = Tape::open(&copy, config()).unwrap();
    assert_eq!(tape.end(), 300);
    assert_eq!(tape.recovery().cut_at, frame_at(3) as u64);
    assert!(tape.recovery().cut_bytes > 2 * 6400);
    append(&mut tape, 300, 301);
    assert_eq!(read_all(&mut reader, 1000).unwrap(), vec![300]);
    assert_eq!(verify(&copy).unwrap().fault, None);
}

#[test]
fn a_loss_of_power_may_take_whole_segments() {
    // Under another boot the second segment of four lost its last frame: what follows is cut off.
    let folder = Folder::new("segments");
    let copy = folder.0.join("copy");
    let _tape = fill(&folder.tape(), Retention::default(), 25);
    let files = image(&folder.tape(), &copy);
    assert_eq!(files.len(), 4);
    for file in &files {
        change(file, |bytes| bytes[264] ^= 1);
    }
    change(&files[1], |bytes| bytes[frame_at(6)..frame_at(6) + 4096].fill(0));
    let mut tape = Tape::open(&copy, config()).unwrap();
    assert_eq!(tape.end(), 1300);
    assert!(tape.recovery().cut_bytes > 10 * 6400);
    append(&mut tape, 1300, 1400);
    let mut reader = Reader::open(&copy).unwrap();
    assert_eq!(read_all(&mut reader, 1000).unwrap().len(), 1400);
    assert_eq!(verify(&copy).unwrap().fault, None);
}

#[test]
fn damage_to_what_was_durable_is_no_loss_of_power() {
    // The same page missing, under another boot, but the tape had said that it was durable.
    let folder = Folder::new("damage");
    let copy = folder.0.join("copy");
    let tape = fill(&folder.tape(), Retention::default(), 6);
    assert_eq!(tape.sync().unwrap(), 600);
    let files = image(&folder.tape(), &copy);
    change(&files[0], |bytes| {
        bytes[264] ^= 1;
        bytes[frame_at(3) + 100] ^= 1;
    });
    let refused = Tape::open(&copy, config()).unwrap_err();
    assert!(matches!(refused, Error::Corrupt { byte, .. } if byte == frame_at(3) as u64));
}

#[test]
fn days_without_an_item_end_no_segment() {
    // A stage that finds nothing says how far it came, also on the next day: a segment of its own
    // would begin at the same offset, and take the name of the one that readers have open.
    let folder = Folder::new("quiet-days");
    for before in [0, 3] {
        drop(std::fs::remove_dir_all(folder.tape()));
        let mut tape = Tape::open(&folder.tape(), config()).unwrap();
        if before > 0 {
            append(&mut tape, 0, before);
        }
        let mut early = Reader::open(&folder.tape()).unwrap();
        assert_eq!(read_all(&mut early, 10).unwrap().len() as u64, before);
        for day in 1..5 {
            tape.append(&[], 0, before + day, day as i64 * NS_PER_DAY).unwrap();
            assert!(read_all(&mut early, 10).unwrap().is_empty(), "day {day}");
            let mut late = Reader::open(&folder.tape()).unwrap();
            assert_eq!(early.covered().unwrap(), Some(before + day));
            assert_eq!(late.covered().unwrap(), Some(before + day));
            late.seek(before).unwrap();
            if day == 2 {
                drop(tape);
                tape = Tape::open(&folder.tape(), config()).unwrap();
            }
        }
        append(&mut tape, before, before + 2);
        assert_eq!(read_all(&mut early, 10).unwrap(), [before, before + 1]);
        assert_eq!(tape.last_input_offset(), Some(before + 2));
        drop(tape);
        assert_eq!(verify(&folder.tape()).unwrap().fault, None);
    }
}

#[test]
fn a_tape_that_only_covers_input_does_not_grow() {
    // A stage that finds nothing says each second how far it came. Readers that are there and those
    // that come see it; killed or closed, the tape says at least what its frames do, and what comes
    // next is read behind all that was read before.
    let folder = Folder::new("covers");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    tape.cover(3, 5).unwrap();
    append(&mut tape, 0, 4);
    let mut early = Reader::open(&folder.tape()).unwrap();
    assert_eq!(read_all(&mut early, 10).unwrap().len(), 4);
    let frames = verify(&folder.tape()).unwrap().frames;
    for second in 0..10_000 {
        tape.cover(4 + second, second as i64).unwrap();
    }
    tape.cover(5, 6).unwrap();
    assert_eq!(verify(&folder.tape()).unwrap().frames, frames);
    let mut late = Reader::open(&folder.tape()).unwrap();
    for reader in [&mut early, &mut late] {
        assert_eq!(reader.covered().unwrap(), Some(10_003));
    }
    assert_eq!(tape.last_input_offset(), Some(10_003));
    tape.cover_by_frame(10_003, 7).unwrap();
    tape.cover(10_020, 8).unwrap();
    drop(tape);
    assert_eq!(early.covered().unwrap(), Some(10_020));

    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    assert_eq!(tape.last_input_offset(), Some(10_003));
    assert_eq!(early.covered().unwrap(), Some(10_003));
    tape.cover(10_011, 9).unwrap();
    let bytes = trades(4, 6);
    tape.append(&bytes, 2, 10_012, 4 * NS_PER_DAY).unwrap();
    assert_eq!(read_all(&mut early, 10).unwrap(), [4, 5]);
    assert_eq!(early.covered().unwrap(), Some(10_012));
    assert_eq!(verify(&folder.tape()).unwrap().fault, None);
}

#[test]
fn what_another_boot_covered_is_not_believed() {
    // After a loss of power the word may be on the disk, and the items that it covers are not.
    let folder = Folder::new("covers-boot");
    let mut tape = Tape::open(&folder.tape(), config()).unwrap();
    append(&mut tape, 0, 4);
    tape.cover(9, 9).unwrap();
    drop(tape);
    assert_eq!(Reader::open(&folder.tape()).unwrap().covered().unwrap(), Some(9));
    let path = segments(&folder.tape()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[264..280].fill(7);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(Reader::open(&folder.tape()).unwrap().covered().unwrap(), Some(4));
}

#[test]
fn a_segment_without_items_grows_by_steps() {
    // Frames that only cover input end no segment, so that one may pass its size: to map it anew,
    // and fill its pages, for each of them would cost more the longer it is.
    let folder = Folder::new("cover-frames");
    let config = TapeConfig { segment_bytes: 1 << 20, ..config() };
    let mut tape = Tape::open(&folder.tape(), config).unwrap();
    let faults = || {
        // SAFETY: zeros are a `rusage`, which the call fills.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_minflt
        }
    };
    let frames = (1 << 20) / 40 + 100;
    for input in 1..frames {
        tape.append(&[], 0, input, input as i64).unwrap();
    }
    let before = faults();
    for input in frames..frames + 1000 {
        tape.append(&[], 0, input, input as i64).unwrap();
    }
    let taken = faults() - before;
    assert!(taken < 200, "{taken} page faults for 1,000 frames of 40 bytes");
    let last = frames + 999;
    drop(tape);
    let tape = Tape::open(&folder.tape(), config).unwrap();
    assert_eq!(tape.last_input_offset(), Some(last));
    assert_eq!(verify(&folder.tape()).unwrap().fault, None);
}
