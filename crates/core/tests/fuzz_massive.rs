//! Damaged frames and answers of Massive by the million: no panic, nothing written on an error,
//! and the same records by both paths, whether the symbols were known before or not.

use tapeworks_core::feeds::massive::Massive;
use tapeworks_core::FeedId;

#[path = "setup/fuzz.rs"]
mod fuzz;
use fuzz::{blob, campaign, captures, mutate, Paths, JSON_PIECES};

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
fn massive(straight: bool) -> Massive {
    let mut massive = Massive::new(FeedId::Massive);
    massive.set_straight(straight);
    massive
}

#[test]
fn damaged_frames_never_panic_and_both_paths_agree() {
    let all = captures(CAPTURES);
    let pieces = [&JSON_PIECES[..], &PIECES].concat();
    let (mut bytes, mut paths) = (Vec::new(), Paths::new(massive));
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
        paths.receive(&blob(capture.kind, &context, &bytes)).0.is_ok()
    });
}
