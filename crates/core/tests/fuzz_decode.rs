//! Damaged frames by the million: no panic, nothing written on an error, both paths equal.
//!
//! `TAPEWORKS_FUZZ_EXECUTIONS` says how many, `TAPEWORKS_FUZZ_SEED` where to start. A failure
//! prints the seed of the one execution that failed, which alone repeats it.

use std::time::Instant;

use tapeworks_core::feeds::binance::Binance;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::{Blob, BlobHeader, BlobKind};
use tapeworks_core::{Feed, FeedId, Instruments, Records};

const EXECUTIONS: u64 = 200_000;
const SEED: u64 = 0x7a9e_0001;
const TS_RECV: i64 = 1_770_000_005_000_000_000;
const CAPTURES: [(FeedId, &str); 2] = [
    (FeedId::BinanceSpot, include_str!("../src/feeds/binance/captures/spot.tsv")),
    (FeedId::BinanceUsdm, include_str!("../src/feeds/binance/captures/usdm.tsv")),
];
/// What mutations put in: pieces that mean something to a decoder, and bytes that break it.
const PIECES: [&[u8]; 30] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b".",
    b"-",
    b"e",
    b"0",
    b"00000000",
    b"9",
    b"99999999999999999999",
    b"null",
    b"true",
    b"\\u0041",
    b"\\ud800",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\"s\":\"BTCUSDT\"",
    b"\"e\":\"trade\"",
    b"[\"1.5\",\"2\"]",
    b"\"pu\":1",
    b"1e-9",
    b"\"u\":18446744073709551615",
];

struct Random(u64);

impl Random {
    /// Splitmix: any seed is as good as another.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Says which execution it was when a check or the decoder panics.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TAPEWORKS_FUZZ_SEED={} TAPEWORKS_FUZZ_EXECUTIONS=1", self.0);
        }
    }
}

struct Capture {
    kind: BlobKind,
    context: &'static [u8],
    body: &'static [u8],
}

fn captures(lines: &'static str) -> Vec<Capture> {
    let capture = |line: &'static str| {
        let mut parts = line.splitn(3, '\t');
        let kind = if parts.next() == Some("rest") { BlobKind::Rest } else { BlobKind::Text };
        let mut part = || parts.next().expect("three parts a line").as_bytes();
        Capture { kind, context: part(), body: part() }
    };
    lines.lines().map(capture).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 | 3 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                // A piece of another message, over what stands here.
                let from = random.below(other.len());
                let piece = &other[from..(from + random.below(40)).min(other.len())];
                let end = (at + random.below(40)).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
        }
    }
}

/// A decoder with its registry and a batch that already holds something.
struct Side {
    binance: Binance,
    instruments: Instruments,
    out: Records,
}

impl Side {
    fn new(feed: FeedId, straight: bool) -> Self {
        let mut binance = Binance::new(feed);
        binance.set_straight(straight);
        Self { binance, instruments: Instruments::new(), out: Records::new() }
    }

    fn receive(&mut self, blob: &Blob<'_>) -> Result<Rejected, String> {
        let before = self.out.mark();
        let result = self.binance.receive(blob, &mut self.instruments, &mut self.out);
        if result.is_err() {
            assert_eq!(self.out.mark(), before, "an error left something in the batch");
        }
        result.map_err(|error| error.to_string())
    }
}

#[test]
fn damaged_frames_never_panic_and_both_paths_agree() {
    let executions = number("TAPEWORKS_FUZZ_EXECUTIONS").unwrap_or(EXECUTIONS);
    let seed = number("TAPEWORKS_FUZZ_SEED").unwrap_or(SEED);
    println!("decode: {executions} executions from seed {seed}");
    let start = Instant::now();
    let all = CAPTURES.map(|(feed, lines)| (feed, captures(lines)));
    let (mut accepted, mut bytes) = (0u64, Vec::new());
    let mut sides =
        all.each_ref().map(|(feed, _)| [Side::new(*feed, true), Side::new(*feed, false)]);
    // Symbols are known from the start: that opens the straight path to a single execution too.
    for ((_, captures), pair) in all.iter().zip(&mut sides) {
        for side in pair {
            for capture in captures {
                side.receive(&blob(capture, capture.body)).expect("a capture");
            }
        }
    }
    for execution in 0..executions {
        let own = seed.wrapping_add(execution);
        let _repeat = Repeat(own);
        let mut random = Random(own);
        let which = random.below(all.len());
        let captures = &all[which].1;
        let capture = &captures[random.below(captures.len())];
        bytes.clear();
        bytes.extend_from_slice(capture.body);
        let other = &captures[random.below(captures.len())];
        mutate(&mut random, &mut bytes, other.body);
        let [straight, slow] = &mut sides[which];
        for side in [&mut *straight, &mut *slow] {
            if side.out.len() > 4096 {
                side.out.clear();
            }
        }
        let found = straight.receive(&blob(capture, &bytes));
        let wanted = slow.receive(&blob(capture, &bytes));
        assert_eq!(found, wanted, "{}", String::from_utf8_lossy(&bytes));
        assert!(
            straight.out.as_bytes() == slow.out.as_bytes(),
            "records differ: {}",
            String::from_utf8_lossy(&bytes)
        );
        accepted += u64::from(found.is_ok());
        if execution % 1_000_000 == 999_999 {
            let seconds = start.elapsed().as_secs();
            println!("decode: {} executions, {accepted} accepted, {seconds} s", execution + 1);
        }
    }
    println!("decode: done, {accepted} of {executions} accepted");
    assert!(accepted > 0 || executions < 1_000);
}

fn blob<'a>(capture: &Capture, body: &'a [u8]) -> Blob<'a> {
    let kind = capture.kind as u8;
    let header = BlobHeader { kind, ts_recv: TS_RECV, ..BlobHeader::default() };
    Blob { header, context: capture.context, body }
}
