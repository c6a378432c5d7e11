//! What fuzzers of decoders share: chance from a seed, damage, and how a campaign is run.
//!
//! `TAPEWORKS_FUZZ_EXECUTIONS` says how many executions, `TAPEWORKS_FUZZ_SEED` where to start. A
//! failure prints the seed of the one execution that failed, which alone repeats it.

// Each fuzzer uses some of it.
#![allow(dead_code)]

use std::time::Instant;

use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::{Blob, BlobHeader, BlobKind};
use tapeworks_core::{Feed, Instruments, Records};

const SEED: u64 = 0x7a9e_0001;
pub const TS_RECV: i64 = 1_770_000_005_000_000_000;
/// What mutations of JSON put in: pieces that mean something to a decoder, and bytes that break it.
pub const JSON_PIECES: [&[u8]; 24] = [
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
];

pub struct Random(u64);

impl Random {
    /// Splitmix: any seed is as good as another.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `many`.
    pub fn once_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Calls `execute` with the chance of each execution, `usual` times unless told otherwise; it says
/// whether the decoder took the input.
pub fn campaign(name: &str, usual: u64, mut execute: impl FnMut(&mut Random) -> bool) {
    let executions = number("TAPEWORKS_FUZZ_EXECUTIONS").unwrap_or(usual);
    let seed = number("TAPEWORKS_FUZZ_SEED").unwrap_or(SEED);
    println!("{name}: {executions} executions from seed {seed}");
    let start = Instant::now();
    let mut accepted = 0_u64;
    for execution in 0..executions {
        let own = seed.wrapping_add(execution);
        let _repeat = Repeat(own);
        accepted += u64::from(execute(&mut Random(own)));
        if execution % 1_000_000 == 999_999 {
            let seconds = start.elapsed().as_secs();
            println!("{name}: {} executions, {accepted} accepted, {seconds} s", execution + 1);
        }
    }
    println!("{name}: done, {accepted} of {executions} accepted");
    assert!(accepted > 0 || executions < 1_000);
}

/// Damages `bytes` up to three times: cuts, holes, flipped bits, `pieces`, parts of `other`.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8], pieces: &[&[u8]]) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 | 3 => {
                let piece = pieces[random.below(pieces.len())];
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

/// One line of a file of captures: kind, context and body, with tabs between.
pub struct Capture {
    pub kind: BlobKind,
    pub context: &'static [u8],
    pub body: &'static [u8],
}

pub fn captures(lines: &'static str) -> Vec<Capture> {
    let capture = |line: &'static str| {
        let mut parts = line.splitn(3, '\t');
        let kind = if parts.next() == Some("rest") { BlobKind::Rest } else { BlobKind::Text };
        let mut part = || parts.next().expect("three parts a line").as_bytes();
        Capture { kind, context: part(), body: part() }
    };
    lines.lines().map(capture).collect()
}

pub fn blob<'a>(kind: BlobKind, context: &'a [u8], body: &'a [u8]) -> Blob<'a> {
    let header = BlobHeader { kind: kind as u8, ts_recv: TS_RECV, ..BlobHeader::default() };
    Blob { header, context, body }
}

/// Checks that `out` holds whole records, as many as it says.
pub fn check_whole(out: &Records) {
    let again = Records::from_bytes(out.as_bytes()).expect("whole records");
    assert_eq!(again.len(), out.len());
}

/// Symbols after which the registries are begun anew: damage invents ever new ones.
const INSTRUMENTS_MAX: usize = 10_000;

/// A decoder with its registry.
struct Side<F> {
    feed: F,
    instruments: Instruments,
    out: Records,
}

impl<F: Feed> Side<F> {
    fn receive(&mut self, blob: &Blob<'_>) -> Result<Rejected, String> {
        let before = self.out.mark();
        let result = self.feed.receive(blob, &mut self.instruments, &mut self.out);
        if result.is_err() {
            assert_eq!(self.out.mark(), before, "an error left something in the batch");
        }
        result.map_err(|error| error.to_string())
    }
}

/// Two decoders that give the same records: one reads frames of expected form straight, the other
/// takes all for any JSON.
pub struct Paths<F> {
    sides: [Side<F>; 2],
    fresh: fn(bool) -> F,
}

impl<F: Feed> Paths<F> {
    /// Decoders made by `fresh`, which is told whether to read straight.
    pub fn new(fresh: fn(bool) -> F) -> Self {
        let side = |straight| Side {
            feed: fresh(straight),
            instruments: Instruments::new(),
            out: Records::new(),
        };
        Self { sides: [true, false].map(side), fresh }
    }

    /// Checks that both make the same of `damaged`, twice: the first time some symbols are new, the
    /// second time all are known. Gives the records, and what the last time was found.
    pub fn receive(&mut self, damaged: &Blob<'_>) -> (Result<Rejected, String>, Vec<u8>) {
        let text = damaged.body.escape_ascii();
        let mut found = Ok(Rejected::NONE);
        for _ in 0..2 {
            let [straight, any] = &mut self.sides;
            found = any.receive(damaged);
            assert_eq!(straight.receive(damaged), found, "{text}");
        }
        let [straight, any] = &mut self.sides;
        assert!(straight.out.as_bytes() == any.out.as_bytes(), "records differ: {text}");
        check_whole(&straight.out);
        let records = straight.out.as_bytes().to_vec();
        straight.out.clear();
        any.out.clear();
        if any.instruments.len() > INSTRUMENTS_MAX {
            *self = Self::new(self.fresh);
        }
        (found, records)
    }
}
