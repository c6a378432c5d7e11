//! The reader of tapes against damaged files: it never panics, what it gives is what was written,
//! and it gives all of that or an error.
//!
//! `TAPEWORKS_FUZZ_EXECUTIONS` says how many damaged tapes are read, `TAPEWORKS_FUZZ_SEED` from
//! which seed they are made. A failure prints the number that repeats it alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tapeworks_core::codec::Frame;
use tapeworks_core::record::{Header, Marker, Plain};
use tapeworks_core::tape::{verify, Retention};
use tapeworks_core::{Durability, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{segments, until};

const HEAD: usize = 16_384;
const FRAMES: u64 = 24;
const ITEMS: u64 = 80;
/// Every seventh frame holds none.
const ITEMS_ALL: u64 = (FRAMES - FRAMES / 7) * ITEMS;

/// Numbers that look random and come from a seed: xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn item(number: u64) -> Marker {
    let mut header = Header::of::<Marker>();
    header.sequence = number;
    header.ts_recv = number as i64;
    Marker {
        header,
        code: 6,
        cause: 0,
        state: 0,
        channel: 11,
        count: 1,
        first: number.wrapping_mul(77),
        last: !number,
        ts_start: 5,
    }
}

fn config() -> TapeConfig {
    TapeConfig {
        durability: Durability::Never,
        segment_bytes: 64 << 10,
        ..TapeConfig::new(TapeKind::Records)
    }
}

/// A tape of three segments, the first of them compressed: path and bytes of each file.
fn make(tape: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let retention = Retention { compress_after: Some(1), ..Retention::default() };
    let mut writer = Tape::open(tape, TapeConfig { retention, ..config() }).unwrap();
    let mut number = 0;
    for frame in 0..FRAMES {
        let count = if frame % 7 == 6 { 0 } else { ITEMS };
        let bytes: Vec<u8> =
            (number..number + count).flat_map(|n| item(n).as_bytes().to_vec()).collect();
        writer.append(&bytes, count as u32, number, number as i64).unwrap();
        number += count;
    }
    let cold = tape.join(format!("{:020}.seg.lz4", 0));
    until("the first segment is compressed", || {
        assert_eq!(writer.upkeep_failure(), None);
        cold.exists() && !tape.join(format!("{:020}.seg", 0)).exists()
    });
    drop(writer);
    let files = segments(tape);
    assert_eq!(files.len(), 3);
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A byte of the file, more often one that steers.
fn place(random: &mut Random, bytes: &[u8]) -> usize {
    let at = match random.below(4) {
        0 => random.below(320),
        1 => HEAD + random.below(200),
        2 => 4096 + random.below(200),
        _ => random.below(bytes.len()),
    };
    at.min(bytes.len() - 1)
}

/// Damages `bytes` in one to three places. Returns in how many.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) -> usize {
    let places = 1 + random.below(3);
    for _ in 0..places {
        if bytes.is_empty() {
            break;
        }
        let at = place(random, bytes);
        match random.below(8) {
            0..=2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes[at] = random.next() as u8,
            4 => {
                let word = [0, u64::MAX, 8, 1 << 31, HEAD as u64, random.next()][random.below(6)];
                let at = at / 8 * 8;
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
            }
            5 => bytes.truncate(at),
            6 => {
                let from = place(random, bytes);
                let length = random.below(300).min(bytes.len() - from.max(at));
                bytes.copy_within(from..from + length, at);
            }
            _ => {
                let length = random.below(300).min(bytes.len() - at);
                bytes[at..at + length].fill(0);
            }
        }
    }
    places
}

/// Gives the first frame and the head right checksums, so that what they say is believed.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEAD + 40 {
        return;
    }
    let checksum = crc32c::crc32c(&bytes[..52]);
    bytes[52..56].copy_from_slice(&checksum.to_le_bytes());
    let count = u32::from_le_bytes(bytes[HEAD..HEAD + 4].try_into().unwrap()) as usize;
    if let Some(table) = bytes.get(HEAD + 8..HEAD + 8 + count.min(1000) * 24) {
        let checksum = crc32c::crc32c(table);
        if bytes[HEAD + 8..].len() > 4 && count < 1000 {
            bytes[HEAD + 4..HEAD + 8].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    if let Some(frame) = Frame::read_from(&bytes[HEAD..]) {
        if let Some(payload) = bytes.get(HEAD + 40..HEAD + frame.size()) {
            let checksum = frame.checksum_with(payload);
            bytes[HEAD + 4..HEAD + 8].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// What a reader may be held to.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Claim {
    /// It does not panic, and comes to an end.
    Sane,
    /// Every item is the one that was written.
    True,
    /// And there are all of them, unless an error says otherwise.
    Whole,
}

/// Reads as much as can be read.
fn read(tape: &Path, random: &mut Random, claim: Claim) {
    let Ok(mut reader) = Reader::open(tape) else { return };
    let sought = match random.below(4) {
        0 => reader.seek(random.next() % (ITEMS_ALL + 10)),
        1 => {
            let ts = (random.next() % ITEMS_ALL) as i64;
            let sought = reader.seek_time(ts);
            if sought.is_ok() && claim == Claim::Whole {
                // A frame holds 80 items, and has the number of the first as its time.
                let frame = (ts as u64).div_ceil(ITEMS) * ITEMS;
                assert_eq!(reader.position(), frame, "seek_time({ts})");
            }
            sought
        }
        _ => Ok(()),
    };
    let max_items = [1, 7, 1000][random.below(3)];
    let mut next = reader.position();
    let mut batches = 0;
    let mut ended = sought.map(|()| false);
    while let Ok(false) = ended {
        let batch = match reader.read(max_items) {
            Ok(Some(batch)) => batch,
            other => {
                ended = other.map(|_| true);
                break;
            }
        };
        assert_eq!(batch.first_offset, next);
        assert!(batch.count > 0 && batch.count <= max_items);
        next += batch.count as u64;
        batches += 1;
        assert!(batches < 10_000, "the tape has no end");
        if claim >= Claim::True {
            let items: Vec<&[u8]> = batch.bytes.chunks_exact(64).collect();
            assert_eq!(items.len(), batch.count);
            for (offset, bytes) in (batch.first_offset..).zip(items) {
                assert_eq!(bytes, item(offset).as_bytes(), "offset {offset}");
            }
        }
        if random.below(16) == 0 {
            // Looking at the end must not disturb what is read.
            let _ = (reader.end(), reader.durable());
        }
    }
    let (end, durable, covered) = (reader.end(), reader.durable(), reader.covered());
    drop(reader.first());
    if claim == Claim::Whole {
        assert!(ended.is_err() || next == ITEMS_ALL, "ended at {next} without an error");
        assert!(end.as_ref().map_or(true, |end| *end == ITEMS_ALL), "end() is {end:?}");
        assert!(covered.as_ref().map_or(true, |to| to.is_some()), "covered() is {covered:?}");
        assert!(durable.as_ref().map_or(true, |to| *to <= ITEMS_ALL), "durable() is {durable:?}");
    }
}

fn execute(tape: &Path, files: &[(PathBuf, Vec<u8>)], seed: u64) {
    let random = &mut Random::new(seed);
    let (path, whole) = &files[random.below(files.len())];
    let mut bytes = whole.clone();
    let places = damage(random, &mut bytes);
    let is_mended = random.below(4) == 0;
    if is_mended {
        mend(&mut bytes);
    }
    let claim = match places {
        _ if is_mended => Claim::Sane,
        1 => Claim::Whole,
        _ => Claim::True,
    };
    write(path, &bytes);
    read(tape, random, claim);
    if random.below(16) == 0 {
        let _ = verify(tape);
    }
    if random.below(64) == 0 {
        // Opening for writing changes files; all of them are made anew.
        drop(Tape::open(tape, config()));
        read(tape, random, if is_mended { Claim::Sane } else { Claim::True });
        for (path, whole) in files {
            std::fs::write(path, whole).unwrap();
        }
    }
    write(path, whole);
}

/// Puts `bytes` into the file at `path`, of the same inode, without cutting it to nothing first.
fn write(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

#[test]
fn damaged_tapes_never_panic_and_never_lie() {
    // Damage one file of a small tape at random, read it in several ways, repair it, go on.
    let base = std::env::temp_dir();
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory } else { base.as_path() };
    let folder = base.join(format!("tapeworks-fuzz-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    let tape = folder.join("tape");
    let files = make(&tape);
    let seed = number_of("TAPEWORKS_FUZZ_SEED", 1);
    let executions = number_of("TAPEWORKS_FUZZ_EXECUTIONS", 3000);
    for seed in seed..seed + executions {
        let executed = std::panic::catch_unwind(|| execute(&tape, &files, seed));
        if let Err(panic) = executed {
            eprintln!("TAPEWORKS_FUZZ_SEED={seed} TAPEWORKS_FUZZ_EXECUTIONS=1 repeats this");
            std::panic::resume_unwind(panic);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
