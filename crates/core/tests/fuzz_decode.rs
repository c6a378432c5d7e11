//! Damaged frames of Binance by the million: no panic, nothing written on an error, both paths
//! equal.

use tapeworks_core::feeds::binance::Binance;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::Blob;
use tapeworks_core::{Feed, FeedId, Instruments, Records};

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, captures, mutate, JSON_PIECES};

const CAPTURES: [(FeedId, &str); 2] = [
    (FeedId::BinanceSpot, include_str!("../src/feeds/binance/captures/spot.tsv")),
    (FeedId::BinanceUsdm, include_str!("../src/feeds/binance/captures/usdm.tsv")),
];
const PIECES: [&[u8]; 6] = [
    b"\"s\":\"BTCUSDT\"",
    b"\"e\":\"trade\"",
    b"[\"1.5\",\"2\"]",
    b"\"pu\":1",
    b"1e-9",
    b"\"u\":18446744073709551615",
];

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
    let all = CAPTURES.map(|(feed, lines)| (feed, captures(lines)));
    let pieces = [&JSON_PIECES[..], &PIECES].concat();
    let mut bytes = Vec::new();
    let mut sides =
        all.each_ref().map(|(feed, _)| [Side::new(*feed, true), Side::new(*feed, false)]);
    // Symbols are known from the start: that opens the straight path to a single execution too.
    for ((_, captures), pair) in all.iter().zip(&mut sides) {
        for side in pair {
            for capture in captures {
                let whole = blob(capture.kind, capture.context, capture.body);
                side.receive(&whole).expect("a capture");
            }
        }
    }
    campaign("decode", 200_000, |random| {
        let which = random.below(all.len());
        let captures = &all[which].1;
        let capture = &captures[random.below(captures.len())];
        bytes.clear();
        bytes.extend_from_slice(capture.body);
        let other = &captures[random.below(captures.len())];
        mutate(random, &mut bytes, other.body, &pieces);
        let [straight, slow] = &mut sides[which];
        for side in [&mut *straight, &mut *slow] {
            if side.out.len() > 4096 {
                side.out.clear();
            }
        }
        let found = straight.receive(&blob(capture.kind, capture.context, &bytes));
        let wanted = slow.receive(&blob(capture.kind, capture.context, &bytes));
        assert_eq!(found, wanted, "{}", String::from_utf8_lossy(&bytes));
        assert!(
            straight.out.as_bytes() == slow.out.as_bytes(),
            "records differ: {}",
            String::from_utf8_lossy(&bytes)
        );
        found.is_ok()
    });
}
