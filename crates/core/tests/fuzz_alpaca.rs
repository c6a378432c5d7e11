//! Damaged frames and answers of Alpaca by the million: no panic, nothing written on an error, and
//! the same records in JSON and in msgpack.

use tapeworks_core::feeds::alpaca::{pack, Alpaca};
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::blob::{Blob, BlobKind};
use tapeworks_core::{Feed, FeedId, Instruments, Records};

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, captures, check_whole, mutate, JSON_PIECES};

const CAPTURES: &str = include_str!("../src/feeds/alpaca/captures/frames.tsv");
const PIECES: [&[u8]; 16] = [
    b"\"S\":\"AAPL\"",
    b"\"S\":\"BTC/USD\"",
    b"\"T\":\"t\"",
    b"\"T\":\"o\"",
    b"\"r\":true",
    b"[{\"p\":1.5,\"s\":0}]",
    b"\"c\":[\"@\",\"I\"]",
    b"1e-9",
    b"\"i\":18446744073709551615",
    b"\"t\":\"2026-02-02T02:40:00.123456789Z\"",
    b"\"t\":\"9999-12-31T23:59:59Z\"",
    b"\"u\":\"canceled\"",
    b"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x02",
    b"\xdd\xff\xff\xff\xff",
    b"\x81\xa1T\xa1t",
    b"},{",
];
/// Symbols after which the registries are begun anew: damage invents ever new ones.
const INSTRUMENTS_MAX: usize = 10_000;

/// A decoder with its registry and a batch that already holds something.
struct Side {
    alpaca: Alpaca,
    instruments: Instruments,
    out: Records,
}

impl Side {
    fn new() -> Self {
        let alpaca = Alpaca::new(FeedId::Alpaca);
        Self { alpaca, instruments: Instruments::new(), out: Records::new() }
    }

    fn receive(&mut self, blob: &Blob<'_>) -> Result<Rejected, String> {
        let before = self.out.mark();
        let result = self.alpaca.receive(blob, &mut self.instruments, &mut self.out);
        if result.is_err() {
            assert_eq!(self.out.mark(), before, "an error left something in the batch");
        }
        result.map_err(|error| error.to_string())
    }
}

#[test]
fn damaged_frames_never_panic_and_both_encodings_agree() {
    // One side has each capture as text, damaged; the other in msgpack, damaged by itself, or what
    // the text says where that is a frame still.
    let all = captures(CAPTURES);
    let pieces = [&JSON_PIECES[..], &PIECES].concat();
    let (mut bytes, mut packed, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let (mut text, mut binary) = (Side::new(), Side::new());
    campaign("alpaca", 200_000, |random| {
        let capture = &all[random.below(all.len())];
        let other = &all[random.below(all.len())];
        packed.clear();
        if capture.kind == BlobKind::Text && pack(capture.body, &mut packed).is_ok() {
            mutate(random, &mut packed, other.body, &pieces);
            let _ = binary.receive(&blob(BlobKind::Binary, b"", &packed));
            check_whole(&binary.out);
            binary.out.clear();
        }
        bytes.clear();
        bytes.extend_from_slice(capture.body);
        mutate(random, &mut bytes, other.body, &pieces);
        let mut context = capture.context.to_vec();
        if random.once_in(20) {
            mutate(random, &mut context, other.context, &pieces);
        }
        let found = text.receive(&blob(capture.kind, &context, &bytes));
        check_whole(&text.out);
        text.out.clear();
        again.clear();
        if capture.kind == BlobKind::Text && found.is_ok() {
            let _ = pack(&bytes, &mut again);
        }
        // Another way to write a number may be of another double, and a text may hold what the
        // encoder never writes: whole captures alone are compared.
        if bytes == capture.body && !again.is_empty() {
            let (mut one, mut two) = (Side::new(), Side::new());
            assert_eq!(one.receive(&blob(capture.kind, b"", &bytes)), found);
            assert_eq!(two.receive(&blob(BlobKind::Binary, b"", &again)), found);
            assert!(one.out.as_bytes() == two.out.as_bytes(), "{}", capture.body.escape_ascii());
        }
        if text.instruments.len() + binary.instruments.len() > INSTRUMENTS_MAX {
            (text, binary) = (Side::new(), Side::new());
        }
        found.is_ok()
    });
}
