//! Frames of Binance, Massive or Alpaca to records, on one core.
//!
//! Sketch: a frame of 334 bytes becomes 7 records of 64 bytes. At 1 GB/s of input that is 3 M
//! frames/s and 1.3 GB/s of output, all in the cache: bound by instructions, not by memory.
//!
//! `cargo bench --bench decode -- FILE [FEED] [TEXT]` reads FILE (or TAPEWORKS_FRAMES), keeps the
//! frames that contain TEXT, and prints the best and the median round. A frame is a line; in a file
//! that is named `.msgpack`, what stands behind its length in four bytes, the lowest first.

use tapeworks_core::feeds::alpaca::Alpaca;
use tapeworks_core::feeds::binance::Binance;
use tapeworks_core::feeds::massive::Massive;
use tapeworks_core::record::blob::{Blob, BlobHeader, BlobKind};
use tapeworks_core::{Descriptor, Feed, FeedId, Instruments, Records};

const ROUNDS: usize = 15;
/// Records kept before the batch is begun anew: what fits in the cache.
const BATCH_RECORDS: usize = 2048;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let path = args.first().cloned().or_else(|| std::env::var("TAPEWORKS_FRAMES").ok());
    let Some(path) = path else {
        println!("decode: name a file of frames, one a line, or set TAPEWORKS_FRAMES");
        return;
    };
    let feed = args.get(1).map_or("binance-spot", String::as_str);
    let feed = Descriptor::named(feed).expect("a feed of the table");
    let text = args.get(2).map_or("", String::as_str);
    let bytes = std::fs::read(&path).expect("a readable file of frames");
    let is_binary = path.ends_with(".msgpack");
    let kind = if is_binary { BlobKind::Binary } else { BlobKind::Text };
    let frames: Vec<&[u8]> = if is_binary { with_lengths(&bytes) } else { lines(&bytes) };
    let kept: Vec<&[u8]> =
        frames.into_iter().filter(|frame| contains(frame, text.as_bytes())).collect();
    // What is kept is copied together: frames far apart would measure the memory, not the decoder.
    let together = kept.concat();
    let mut rest = &together[..];
    let mut next = |length| {
        let (frame, behind) = rest.split_at(length);
        rest = behind;
        frame
    };
    let frames: Vec<&[u8]> = kept.iter().map(|frame| next(frame.len())).collect();
    for straight in [true, false] {
        measure(feed, &frames, kind, straight);
    }
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect()
}

fn with_lengths(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn contains(line: &[u8], text: &[u8]) -> bool {
    text.is_empty() || line.windows(text.len()).any(|window| window == text)
}

/// Processor time of this thread: what other processes take does not count.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "this system has a clock of a thread's processor time");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn decoder(feed: FeedId, straight: bool) -> Box<dyn Feed> {
    match feed {
        FeedId::Massive => {
            let mut massive = Massive::new(feed);
            massive.set_straight(straight);
            Box::new(massive)
        }
        FeedId::Alpaca => {
            let mut alpaca = Alpaca::new(feed);
            alpaca.set_straight(straight);
            Box::new(alpaca)
        }
        _ => {
            let mut binance = Binance::new(feed);
            binance.set_straight(straight);
            Box::new(binance)
        }
    }
}

fn measure(feed: Descriptor, frames: &[&[u8]], kind: BlobKind, straight: bool) {
    let mut decoder = decoder(feed.id, straight);
    let mut instruments = Instruments::new();
    let mut out = Records::new();
    let header = BlobHeader { kind: kind as u8, ts_recv: 1, ..BlobHeader::default() };
    let (mut seconds, mut records, mut failures) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        (records, failures) = (0, 0);
        let start = cpu_seconds();
        for body in frames {
            let blob = Blob { header, context: b"", body };
            failures += usize::from(decoder.receive(&blob, &mut instruments, &mut out).is_err());
            if out.len() >= BATCH_RECORDS {
                records += out.len();
                out.clear();
            }
        }
        seconds.push(cpu_seconds() - start);
        records += out.len();
        out.clear();
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[ROUNDS / 2];
    let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
    println!(
        "{} {:8}: {:5.2} M messages/s (best {:5.2}), {:7.1} MB/s, {:6.2} M records/s \
         ({} frames, {failures} failed)",
        feed.name(),
        if straight { "straight" } else { "any JSON" },
        frames.len() as f64 / median / 1e6,
        frames.len() as f64 / seconds[0] / 1e6,
        bytes as f64 / median / 1e6,
        records as f64 / median / 1e6,
        frames.len(),
    );
}
