//! Tapes that somebody damaged, at rest or while they are read: an error with the place, never a
//! shorter answer, never a crash.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use tapeworks_core::codec::Frame;
use tapeworks_core::record::{Header, Marker, Plain};
use tapeworks_core::tape::{load_offset, save_offset, verify, Retention};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{segments, until, Folder};

const HEAD: usize = 16_384;
/// Items a frame, and bytes of a frame.
const ITEMS: u64 = 100;
const FRAME: usize = 40 + 6_400;

fn config() -> TapeConfig {
    TapeConfig {
        durability: Durability::Never,
        segment_bytes: 64 << 10,
        ..TapeConfig::new(TapeKind::Records)
    }
}

fn item(number: u64) -> Marker {
    let mut header = Header::of::<Marker>();
    header.ts_recv = number as i64;
    Marker {
        header,
        code: 6,
        cause: 0,
        state: 0,
        channel: 0,
        count: 1,
        first: number,
        last: number,
        ts_start: 5,
    }
}

fn append(tape: &mut Tape, frame: u64) {
    let items = frame * ITEMS..(frame + 1) * ITEMS;
    let bytes: Vec<u8> = items.clone().flat_map(|n| item(n).as_bytes().to_vec()).collect();
    tape.append(&bytes, ITEMS as u32, items.end, items.end as i64 - 1).unwrap();
}

/// A tape of `frames` frames, seven a segment, closed in good order.
fn make(path: &Path, frames: u64, retention: Retention) {
    let mut tape = Tape::open(path, TapeConfig { retention, ..config() }).unwrap();
    (0..frames).for_each(|frame| append(&mut tape, frame));
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Reads to the end; the number of items, or the error that came first.
fn count(reader: &mut Reader) -> Result<u64, Error> {
    let mut next = reader.position();
    while let Some(batch) = reader.read(1000)? {
        assert_eq!(batch.first_offset, next);
        next += batch.count as u64;
    }
    Ok(next)
}

fn open_and_count(tape: &Path) -> Result<u64, Error> {
    count(&mut Reader::open(tape)?)
}

/// The byte at which the tape is damaged, by the error that reading it ends with.
#[track_caller]
fn damaged_at(result: Result<u64, Error>) -> u64 {
    match result {
        Err(Error::Corrupt { byte, .. }) => byte,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn a_published_word_that_names_an_earlier_frame_hides_nothing() {
    // The word has no checksum: let it name every earlier frame, and none, in a closed segment and
    // in the newest. The frames behind it are whole, so that they count.
    let folder = Folder::new("earlier");
    make(&folder.tape(), 10, Retention::default());
    for (path, frames) in segments(&folder.tape()).iter().zip([7, 3]) {
        let whole = std::fs::read(path).unwrap();
        for frame in 0..frames {
            for closed in [0, 1] {
                let word = if frame == 0 { 0 } else { HEAD + (frame - 1) * FRAME } as u64 | closed;
                change(path, |bytes| bytes[128..136].copy_from_slice(&word.to_le_bytes()));
                let read = open_and_count(&folder.tape());
                let mut reader = Reader::open(&folder.tape()).unwrap();
                if frames == 3 && closed == 1 {
                    // What is closed is followed: that there is nothing is damage, not an end.
                    damaged_at(read);
                    damaged_at(reader.end());
                } else {
                    assert_eq!(read.unwrap(), 1000, "{frame} {closed}");
                    assert_eq!(reader.end().unwrap(), 1000, "{frame} {closed}");
                }
            }
        }
        std::fs::write(path, whole).unwrap();
    }
}

#[test]
fn segments_that_are_missing_are_missed() {
    // Of four segments the newest, or one in the middle, is removed: reading, the end and offsets
    // behind the hole are errors, at the byte at which something should follow.
    let folder = Folder::new("missing");
    for removed in [1, 3] {
        drop(std::fs::remove_dir_all(folder.tape()));
        make(&folder.tape(), 25, Retention::default());
        std::fs::remove_file(&segments(&folder.tape())[removed]).unwrap();
        let end = (HEAD + 7 * FRAME) as u64;
        assert_eq!(damaged_at(open_and_count(&folder.tape())), end);
        let mut reader = Reader::open(&folder.tape()).unwrap();
        assert!(verify(&folder.tape()).unwrap().fault.is_some(), "{removed}");
        if removed == 3 {
            damaged_at(reader.end());
            damaged_at(reader.durable());
        } else {
            assert_eq!(damaged_at(reader.seek(1000).map(|()| 0)), end);
            reader.seek(1500).unwrap();
            assert_eq!(count(&mut reader).unwrap(), 2500);
        }
    }
}

#[test]
fn writer_that_misses_the_newest_of_compressed_segments_changes_nothing() {
    // Writing would go on in the one before it, made plain: it is not, where something is missing.
    let folder = Folder::new("missing-cold");
    let retention = Retention { compress_after: Some(0), ..Retention::default() };
    make(&folder.tape(), 25, retention);
    let tape = Tape::open(&folder.tape(), TapeConfig { retention, ..config() }).unwrap();
    let is_cold = |path: &PathBuf| path.to_string_lossy().ends_with(".lz4");
    let cold = || segments(&folder.tape()).iter().filter(|&path| is_cold(path)).count();
    until("all closed segments are compressed", || cold() == 3);
    drop(tape);
    std::fs::remove_file(&segments(&folder.tape())[3]).unwrap();
    let read =
        || segments(&folder.tape()).into_iter().map(|path| (std::fs::read(&path).unwrap(), path));
    let before: Vec<_> = read().collect();
    let refusal = Tape::open(&folder.tape(), config()).unwrap_err().to_string();
    assert!(refusal.contains("2500 was durable. Nothing was changed"), "{refusal}");
    assert!(read().eq(before), "the refusal changed a segment");
}

#[test]
fn what_is_durable_is_given_or_missed() {
    // Cut the newest segment at each frame, and zero it from there on, under this boot and under
    // another: an error with the byte each time, for reading and for the end.
    let folder = Folder::new("below");
    make(&folder.tape(), 10, Retention::default());
    let path = segments(&folder.tape()).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for frame in 0..3 {
        for (is_cut, is_other_boot) in [(true, false), (true, true), (false, false), (false, true)]
        {
            let from = HEAD + frame * FRAME;
            change(&path, |bytes| {
                if is_cut {
                    bytes.truncate(from)
                } else {
                    bytes[from..].fill(0)
                }
                bytes[264] ^= u8::from(is_other_boot);
            });
            assert_eq!(damaged_at(open_and_count(&folder.tape())), from as u64);
            assert_eq!(damaged_at(Reader::open(&folder.tape()).unwrap().end()), from as u64);
            Reader::open(&folder.tape()).unwrap().covered().unwrap_err();
            std::fs::write(&path, &whole).unwrap();
        }
    }
    assert_eq!(open_and_count(&folder.tape()).unwrap(), 1000);
}

#[test]
fn a_newest_segment_that_power_took_is_the_end() {
    // The newest segment never reached the disk, and nothing of it was durable: under another boot
    // the one before it is the end, for readers as for a writer.
    let folder = Folder::new("power");
    make(&folder.tape(), 25, Retention::default());
    let files = segments(&folder.tape());
    files.iter().for_each(|file| {
        change(file, |bytes| {
            bytes[256..264].fill(0);
            bytes[264] ^= 1;
        });
    });
    std::fs::remove_file(&files[3]).unwrap();
    let mut reader = Reader::open(&folder.tape()).unwrap();
    assert_eq!(reader.end().unwrap(), 2100);
    assert_eq!(count(&mut reader).unwrap(), 2100);
    assert_eq!(Tape::open(&folder.tape(), config()).unwrap().end(), 2100);
}

#[test]
fn the_end_of_a_compressed_tape_does_not_disturb_what_is_read() {
    // Everything is compressed, in several blocks, and the newest segment is gone with the power.
    // Read a part of a batch, ask for the end, read on.
    let folder = Folder::new("cold");
    let retention = Retention { compress_after: Some(0), ..Retention::default() };
    let big = TapeConfig { segment_bytes: 8 << 20, retention, ..config() };
    let mut tape = Tape::open(&folder.tape(), big).unwrap();
    (0..1400).for_each(|frame| append(&mut tape, frame));
    let is_cold = |path: &PathBuf| path.to_string_lossy().ends_with(".lz4");
    until("the first of two is compressed", || {
        let files = segments(&folder.tape());
        files.len() == 2 && is_cold(&files[0])
    });
    drop(tape);
    let files = segments(&folder.tape());
    std::fs::remove_file(&files[1]).unwrap();
    change(&files[0], |bytes| {
        bytes[256..264].fill(0);
        bytes[264] ^= 1;
    });
    let mut reader = Reader::open(&folder.tape()).unwrap();
    let end = reader.end().unwrap();
    assert_eq!(reader.read(10).unwrap().unwrap().count, 10);
    assert_eq!(reader.end().unwrap(), end);
    assert_eq!(count(&mut reader).unwrap(), end);
}

#[test]
fn a_block_that_claims_too_much_costs_no_memory() {
    // A compressed segment whose only block is four GiB of zeros, with right checksums: refused
    // after its first bytes, whatever it claims.
    let folder = Folder::new("bomb");
    let retention = Retention { compress_after: Some(0), ..Retention::default() };
    make(&folder.tape(), 10, retention);
    let file = segments(&folder.tape()).remove(0);
    let head = std::fs::read(&file).unwrap()[..HEAD].to_vec();
    std::fs::remove_file(&file).unwrap();
    // An LZ4 frame of blocks of 4 MiB of zeros, all alike.
    let info = FrameInfo::new().block_size(BlockSize::Max4MB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&vec![0; 4 << 20]).unwrap();
    let one = encoder.finish().unwrap();
    let (front, block) = (&one[..7], &one[7..one.len() - 4]);
    for claimed in [3 << 20, (1u64 << 30) - (1 << 20), (1 << 32) - 8] {
        let mut stored = front.to_vec();
        (0..claimed.div_ceil(4 << 20)).for_each(|_| stored.extend(block));
        stored.extend([0; 4]);
        let mut table = (HEAD as u64).to_le_bytes().to_vec();
        table.extend((HEAD as u64 + 32).to_le_bytes());
        table.extend((claimed as u32).to_le_bytes());
        table.extend((stored.len() as u32).to_le_bytes());
        let mut bytes = head.clone();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(crc32c::crc32c(&table).to_le_bytes());
        bytes.extend(table);
        bytes.extend(stored);
        std::fs::write(folder.tape().join(format!("{:020}.seg.lz4", 0)), bytes).unwrap();
        let before = peak_kib();
        let read = Reader::open(&folder.tape()).and_then(|mut reader| count(&mut reader));
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
        assert!(peak_kib() - before < 64 << 10, "{} KiB", peak_kib() - before);
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error() {
    // Readers in all states meet a file that somebody cut under their map: the kernel would end the
    // process. Each gets an error that says so; the process goes on, and so do other tapes.
    let folder = Folder::new("cut");
    make(&folder.tape(), 10, Retention::default());
    let other = Folder::new("cut-other");
    make(&other.tape(), 3, Retention::default());
    let path = segments(&folder.tape()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 100, 4096, HEAD, HEAD + 3 * FRAME, HEAD + 6 * FRAME + 5000] {
        let mut reader = Reader::open(&folder.tape()).unwrap();
        let mut sought = Reader::open(&folder.tape()).unwrap();
        sought.seek(650).unwrap();
        let mut healthy = Reader::open(&other.tape()).unwrap();
        reader.read(10).unwrap().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
        for reader in [&mut reader, &mut sought] {
            let error = count(reader).unwrap_err();
            assert!(error.to_string().contains("cut"), "{length}: {error}");
            assert!(reader.wait(Duration::from_secs(5)), "an error is something to read");
            count(reader).unwrap_err();
        }
        assert_eq!(count(&mut healthy).unwrap(), 300);
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open_and_count(&folder.tape()).unwrap(), 1000);
}

#[test]
fn a_tape_that_is_cut_while_it_is_written_is_an_error() {
    // The file under a writer becomes shorter: appending fails, at once or with the first page that
    // is missing, and nothing is called published that is not in the file: small frames go through
    // the map, large ones through the file, and must not make it longer again.
    let folder = Folder::new("cut-writer");
    let lengths = [0, 4096, HEAD, HEAD + 2 * FRAME];
    for (length, count) in lengths.into_iter().flat_map(|length| [(length, 1), (length, 300)]) {
        drop(std::fs::remove_dir_all(folder.tape()));
        let mut tape = Tape::open(&folder.tape(), config()).unwrap();
        (0..4).for_each(|frame| append(&mut tape, frame));
        let path = segments(&folder.tape()).remove(0);
        File::options().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
        let bytes = item(400).as_bytes().repeat(count as usize);
        let failed = (0..100).find_map(|_| tape.append(&bytes, count, 1, 400).err());
        assert!(failed.is_some(), "cut to {length}");
        assert!(tape.append(&bytes, count, 1, 400).is_err(), "and it stays so");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length as u64);
    }
}

#[test]
fn a_tape_that_is_cut_before_its_file_grows_is_an_error() {
    // To make room must not make the file long again: what was published would be zeros, unseen.
    for count in [1, 300] {
        let folder = Folder::new("cut-grows");
        let config = TapeConfig { segment_bytes: 16 << 20, ..config() };
        let mut tape = Tape::open(&folder.tape(), config).unwrap();
        let bytes = item(0).as_bytes().repeat(count as usize);
        let frame = 40 + bytes.len();
        let mut written = HEAD;
        let path = loop {
            tape.append(&bytes, count, 1, 400).unwrap();
            written += frame;
            let path = segments(&folder.tape()).remove(0);
            if std::fs::metadata(&path).unwrap().len() < (written + frame) as u64 {
                break path;
            }
        };
        File::options().write(true).open(&path).unwrap().set_len(written as u64 / 2).unwrap();
        tape.append(&bytes, count, 1, 400).unwrap_err();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), written as u64 / 2);
    }
}

static FOREIGN_FAULTS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn foreign_handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    FOREIGN_FAULTS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the page belongs to the map that this test made and cut.
    unsafe {
        let page = (*info).si_addr() as usize & !4095;
        libc::mmap(
            page as *mut libc::c_void,
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
    }
}

#[test]
fn the_faults_of_others_go_to_their_handler() {
    // A handler of somebody else was there before, or comes later: it gets the faults of its own
    // maps, and those of tapes are errors all the same.
    let folder = Folder::new("chain");
    let foreign = folder.0.join("foreign");
    for round in 1..=3 {
        // SAFETY: a handler that is async-signal safe, and a map that lives to the end.
        let first_byte = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = foreign_handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
            std::fs::write(&foreign, [7; 8192]).unwrap();
            let file = File::open(&foreign).unwrap();
            let map = libc::mmap(
                std::ptr::null_mut(),
                8192,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            map.cast::<u8>()
        };
        drop(std::fs::remove_dir_all(folder.tape()));
        make(&folder.tape(), 3, Retention::default());
        let mut reader = Reader::open(&folder.tape()).unwrap();
        let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        cut(&foreign);
        // SAFETY: a byte of the map; the handler puts a page there.
        assert_eq!(unsafe { first_byte.add(4096).read_volatile() }, 0);
        assert_eq!(FOREIGN_FAULTS.load(Ordering::SeqCst), round);
        cut(&segments(&folder.tape())[0]);
        count(&mut reader).unwrap_err();
        assert_eq!(FOREIGN_FAULTS.load(Ordering::SeqCst), round);
    }
}

#[test]
fn hostile_frames_with_right_checksums_are_errors() {
    // What a frame says of itself is wrong and its checksum right: counts, lengths and offsets of
    // all sizes. Reading ends with an error or gives whole items, and never more than it says.
    let folder = Folder::new("hostile");
    make(&folder.tape(), 3, Retention::default());
    let path = segments(&folder.tape()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let real = Frame::read_from(&whole[HEAD + FRAME..]).unwrap();
    let hostile = [
        Frame { count: 0, ..real },
        Frame { count: 1, ..real },
        Frame { count: 99, ..real },
        Frame { count: 800, ..real },
        Frame { count: u32::MAX, ..real },
        Frame { first_offset: 0, ..real },
        Frame { first_offset: u64::MAX, ..real },
        Frame { length: 0, count: 0, ..real },
        Frame { length: 8, count: 1, ..real },
        Frame { length: 1 << 30, ..real },
        Frame { length: u32::MAX, ..real },
        Frame { reserved: 1, ..real },
    ];
    for frame in hostile {
        let mut bytes = whole.clone();
        let at = HEAD + FRAME;
        let payload = at + 40..(at + 40 + frame.length as usize).min(bytes.len());
        let frame = Frame { checksum: frame.checksum_with(&bytes[payload]), ..frame };
        bytes[at..at + 40].copy_from_slice(frame.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        for max_items in [1, 7, 1000] {
            let mut reader = Reader::open(&folder.tape()).unwrap();
            let error = loop {
                match reader.read(max_items) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{frame:?} was taken as the end or as whole"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, Error::Corrupt { .. }), "{frame:?}: {error}");
        }
    }
}

#[test]
fn a_damaged_named_offset_is_an_error_and_never_another_offset() {
    // Flip every bit of the file, and cut it everywhere: the same offset, or an error.
    let folder = Folder::new("offset");
    make(&folder.tape(), 1, Retention::default());
    for offset in [0, 7, 1234, u64::MAX] {
        save_offset(&folder.tape(), "lake", offset).unwrap();
        let path = folder.tape().join("offsets/lake");
        let whole = std::fs::read(&path).unwrap();
        let flips = (0..whole.len() * 8).map(|bit| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        let cuts = (0..whole.len()).map(|length| whole[..length].to_vec());
        for bytes in flips.chain(cuts) {
            std::fs::write(&path, &bytes).unwrap();
            let loaded = load_offset(&folder.tape(), "lake");
            assert!(
                loaded.is_err(),
                "{offset}: {loaded:?} from {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
        // What an older version wrote.
        std::fs::write(&path, format!("{offset}\n")).unwrap();
        assert_eq!(load_offset(&folder.tape(), "lake").unwrap(), Some(offset));
    }
}

#[test]
fn a_reader_whose_offset_cannot_be_read_is_waited_for() {
    // Retention by age, and a named offset of garbage beside one at the end: nothing goes, and
    // the writer says why.
    let folder = Folder::new("held");
    let retention = Retention { age_ms_max: Some(1), ..Retention::default() };
    make(&folder.tape(), 60, Retention::default());
    let before = segments(&folder.tape()).len();
    save_offset(&folder.tape(), "fast", 6000).unwrap();
    std::fs::write(folder.tape().join("offsets/slow"), "many\n").unwrap();
    let tape = Tape::open(&folder.tape(), TapeConfig { retention, ..config() }).unwrap();
    until("the writer says why", || tape.upkeep_failure().is_some());
    let failure = tape.upkeep_failure().unwrap();
    assert!(failure.contains("offsets/slow"), "{failure}");
    assert_eq!(segments(&folder.tape()).len(), before);
}
