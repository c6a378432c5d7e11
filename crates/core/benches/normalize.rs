//! Blobs to normalised records, on one core: what the normaliser adds to decoding.
//!
//! Sketch: an event costs a look at one entry of a table of 40 bytes an entry, some nanoseconds
//! beside the 200 to 300 of decoding its frame. A stage adds a checksum over input and output: at
//! 334 bytes in and 450 out, 0.1 microseconds a frame.
//!
//! `cargo bench --bench normalize -- FILE [FEED]` reads FILE (or TAPEWORKS_FRAMES), one frame a
//! line, and prints medians of several rounds, taken in turns.

use tapeworks_core::processors::normalize::{Normalizer, HOLD_MS};
use tapeworks_core::processors::{Batch, Processor, Stage, StageConfig};
use tapeworks_core::record::blob::{self, BlobHeader};
use tapeworks_core::record::{BlobKind, Blobs};
use tapeworks_core::tape::{Durability, Tape, TapeConfig, TapeKind, NO_INPUT};
use tapeworks_core::{Descriptor, Instruments, Records};

const ROUNDS: usize = 7;
/// Blobs a batch: what a recorder publishes at once under load.
const BATCH: usize = 64;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let path = args.first().cloned().or_else(|| std::env::var("TAPEWORKS_FRAMES").ok());
    let Some(path) = path else {
        println!("normalize: name a file of frames, one a line, or set TAPEWORKS_FRAMES");
        return;
    };
    let feed = Descriptor::named(args.get(1).map_or("binance-spot", String::as_str))
        .expect("a feed of the table");
    let bytes = std::fs::read(&path).expect("a readable file of frames");
    let frames: Vec<&[u8]> =
        bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    let batches: Vec<Blobs> = frames.chunks(BATCH).map(|chunk| batch(feed, chunk)).collect();
    let mut times = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        times[0].push(timed(|| decode(feed, &batches)));
        times[1].push(timed(|| normalize(feed, &batches)));
        times[2].push(stage(feed, &batches, round));
    }
    for (name, seconds) in ["decode", "normalize", "stage"].iter().zip(&mut times) {
        seconds.sort_by(f64::total_cmp);
        let rate = frames.len() as f64 / seconds[ROUNDS / 2] / 1e6;
        println!("{} {name:9}: {rate:6.2} M messages/s ({} frames)", feed.name(), frames.len());
    }
}

fn batch(feed: Descriptor, frames: &[&[u8]]) -> Blobs {
    let mut header = BlobHeader {
        kind: BlobKind::Text as u8,
        feed: feed.number(),
        ts_recv: 1_700_000_000_000_000_000,
        ..BlobHeader::default()
    };
    let mut blobs = Blobs::new();
    for frame in frames {
        // Receipt bounds the time of an event: frames are received when they say.
        header.ts_recv = event_ns(frame).unwrap_or(header.ts_recv).max(header.ts_recv);
        blobs.push(header, b"", frame).expect("a frame fits");
    }
    blobs
}

/// The event time of a frame of Binance, in ns.
fn event_ns(frame: &[u8]) -> Option<i64> {
    let at = frame.windows(4).position(|bytes| bytes == b"\"E\":")? + 4;
    let digits: Vec<u8> = frame[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    let time: i64 = std::str::from_utf8(&digits).ok()?.parse().ok()?;
    Some(time * if digits.len() > 13 { 1_000 } else { 1_000_000 })
}

/// CPU time of this thread that `work` takes, in seconds: other processes do not count.
fn timed(work: impl FnOnce()) -> f64 {
    let start = cpu_seconds();
    work();
    cpu_seconds() - start
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn decode(feed: Descriptor, batches: &[Blobs]) {
    let (mut decoder, mut instruments) = (feed.build(), Instruments::new());
    let mut out = Records::new();
    for batch in batches {
        out.clear();
        for blob in blob::iterate(batch.as_bytes()) {
            let _ = decoder.receive(&blob, &mut instruments, &mut out);
        }
    }
}

fn normalize(feed: Descriptor, batches: &[Blobs]) {
    let mut normalizer = Normalizer::new(feed, HOLD_MS);
    let mut out = Records::new();
    let mut first_offset = 0;
    for batch in batches {
        out.clear();
        let (count, bytes) = (batch.len(), batch.as_bytes());
        normalizer.process(Batch { first_offset, count, bytes }, &mut out).expect("no bug of ours");
        first_offset += count as u64;
    }
}

/// From a raw tape on disk to a normalised one.
fn stage(feed: Descriptor, batches: &[Blobs], round: usize) -> f64 {
    let folder = std::env::temp_dir().join(format!("tapeworks-{}-{round}", std::process::id()));
    let config = TapeConfig { durability: Durability::Never, ..TapeConfig::new(TapeKind::Blobs) };
    let mut raw = Tape::open(&folder.join("raw"), config).expect("a folder for the tape");
    for batch in batches {
        raw.append(batch.as_bytes(), batch.len() as u32, NO_INPUT, 1).expect("space on the disk");
    }
    let mut stage = Stage::open(
        &folder.join("raw"),
        &folder.join("normalized"),
        &folder.join("state"),
        Box::new(Normalizer::new(feed, HOLD_MS)),
        StageConfig { durability: Durability::Never, ..StageConfig::default() },
    )
    .expect("a stage");
    let seconds = timed(|| {
        stage.run_until_idle(4096).expect("no bug of ours");
    });
    let _ = std::fs::remove_dir_all(&folder);
    seconds
}
