//! Damaged frames and answers of Massive by the million: no panic, nothing written on an error,
//! and the same records by both paths, whether the symbols were known before or not.

use tapeworks_core::feeds::massive::Massive;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::Blob;
use tapeworks_core::{Feed, FeedId, Instruments, Records};

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, captures, check_whole, mutate, JSON_PIECES};

const CAPTURES: &str = include_str!("../src/feeds/massive/captures/frames.tsv");
const PIECES: [&[u8]; 14] = [
    b"\"sym\":\"AAPL\"",
    b"\"ev\":\"T\"",
    b"\"ev\":\"Q\"",
    b"[1.5,2]",
    b"\"c\":[12,37]",
    b"1e-9",
    b"\"q\":18446744073709551615",
    b"\"t\":1651684192462",
    b"\"results\":[{}]",
    b"\"ds\":\"0.5\"",
    b"\"dv\":\"12\",",
    b"\"ds\":\"01.5\",",
    b"},{",
    b"\"error\":",
];
/// Symbols after which the registries are begun anew: damage invents ever new ones.
const INSTRUMENTS_MAX: usize = 10_000;

/// A decoder with its registry and a batch that already holds something.
struct Side {
    massive: Massive,
    instruments: Instruments,
    out: Records,
}

impl Side {
    fn new(straight: bool) -> Self {
        let mut massive = Massive::new(FeedId::Massive);
        massive.set_straight(straight);
        Self { massive, instruments: Instruments::new(), out: Records::new() }
    }

    fn receive(&mut self, blob: &Blob<'_>) -> Result<Rejected, String> {
        let before = self.out.mark();
        let result = self.massive.receive(blob, &mut self.instruments, &mut self.out);
        if result.is_err() {
            assert_eq!(self.out.mark(), before, "an error left something in the batch");
        }
        result.map_err(|error| error.to_string())
    }
}

#[test]
fn damaged_frames_never_panic_and_both_paths_agree() {
    let all = captures(CAPTURES);
    let pieces = [&JSON_PIECES[..], &PIECES].concat();
    let (mut bytes, mut straight, mut any) = (Vec::new(), Side::new(true), Side::new(false));
    campaign("massive", 200_000, |random| {
        let capture = &all[random.below(all.len())];
        bytes.clear();
        bytes.extend_from_slice(capture.body);
        let other = &all[random.below(all.len())];
        mutate(random, &mut bytes, other.body, &pieces);
        let mut context = capture.context.to_vec();
        if random.once_in(20) {
            mutate(random, &mut context, other.context, &pieces);
        }
        let damaged = blob(capture.kind, &context, &bytes);
        let text = String::from_utf8_lossy(&bytes);
        // The first time some symbols are new, the second time all are known.
        let mut found = any.receive(&damaged);
        assert_eq!(straight.receive(&damaged), found, "{text}");
        found = any.receive(&damaged);
        assert_eq!(straight.receive(&damaged), found, "{text}");
        assert!(straight.out.as_bytes() == any.out.as_bytes(), "records differ: {text}");
        check_whole(&straight.out);
        straight.out.clear();
        any.out.clear();
        if any.instruments.len() > INSTRUMENTS_MAX {
            (straight, any) = (Side::new(true), Side::new(false));
        }
        found.is_ok()
    });
}
