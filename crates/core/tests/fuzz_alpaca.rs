//! Damaged frames and answers of Alpaca by the million: no panic, nothing written on an error, and
//! the same records by both paths, and in JSON and in msgpack.

use tapeworks_core::feeds::alpaca::{pack, Alpaca};
use tapeworks_core::record::blob::BlobKind;
use tapeworks_core::FeedId;

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, captures, mutate, Paths, JSON_PIECES};

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
fn alpaca(straight: bool) -> Alpaca {
    let mut alpaca = Alpaca::new(FeedId::Alpaca);
    alpaca.set_straight(straight);
    alpaca
}

#[test]
fn damaged_frames_never_panic_and_all_paths_agree() {
    // Each capture as text, damaged; and in msgpack, damaged by itself, or what the text says where
    // that is a frame still.
    let all = captures(CAPTURES);
    let pieces = [&JSON_PIECES[..], &PIECES].concat();
    let (mut bytes, mut packed, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let (mut text, mut binary) = (Paths::new(alpaca), Paths::new(alpaca));
    campaign("alpaca", 200_000, |random| {
        let capture = &all[random.below(all.len())];
        let other = &all[random.below(all.len())];
        packed.clear();
        if capture.kind == BlobKind::Text && pack(capture.body, &mut packed).is_ok() {
            mutate(random, &mut packed, other.body, &pieces);
            let _ = binary.receive(&blob(BlobKind::Binary, b"", &packed));
        }
        bytes.clear();
        bytes.extend_from_slice(capture.body);
        mutate(random, &mut bytes, other.body, &pieces);
        let mut context = capture.context.to_vec();
        if random.once_in(20) {
            mutate(random, &mut context, other.context, &pieces);
        }
        let (found, _) = text.receive(&blob(capture.kind, &context, &bytes));
        again.clear();
        if capture.kind == BlobKind::Text && found.is_ok() {
            let _ = pack(&bytes, &mut again);
        }
        // Another way to write a number may be of another double, and a text may hold what the
        // encoder never writes: whole captures alone are compared.
        if bytes == capture.body && !again.is_empty() {
            let (mut one, mut two) = (Paths::new(alpaca), Paths::new(alpaca));
            let one = one.receive(&blob(capture.kind, b"", &bytes));
            let two = two.receive(&blob(BlobKind::Binary, b"", &again));
            assert!(one == two && one.0 == found, "{}", capture.body.escape_ascii());
        }
        found.is_ok()
    });
}
