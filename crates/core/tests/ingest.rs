//! What the recorder makes of frames as they come equals what a replay of its raw tape makes.

use std::path::Path;

use tapeworks_core::ingest::{Ingest, IngestConfig};
use tapeworks_core::processors::normalize::{Normalizer, HOLD_MS};
use tapeworks_core::processors::{Stage, StageConfig};
use tapeworks_core::record::BlobKind;
use tapeworks_core::tape::Retention;
use tapeworks_core::{Durability, FeedId, Reader};

fn folder(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("tapeworks-ingest-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    path
}

fn config(data: &Path) -> IngestConfig {
    IngestConfig {
        data: data.to_owned(),
        source: "x".to_owned(),
        feed: FeedId::BinanceSpot.into(),
        pending_bytes_max: 8 << 20,
        durability: Durability::Never,
        segment_bytes: 256 << 10,
        retention: Retention::default(),
        ts_first: None,
    }
}

fn frame(number: u64) -> String {
    let ts = 1_770_000_000_000 + number;
    match number % 7 {
        // Every seventh is cut: a dead letter.
        0 => format!("{{\"stream\":\"btcusdt@trade\",\"data\":{{\"e\":\"trade\",\"E\":{ts}"),
        1 | 2 => format!(
            "{{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{ts},\
             \"s\":\"BTCUSDT\",\"U\":{number},\"u\":{number},\"b\":[[\"9.5\",\"{number}\"]],\
             \"a\":[[\"10.5\",\"1\"],[\"11\",\"0\"]]}}}}"
        ),
        _ => format!(
            "{{\"stream\":\"ethusdt@trade\",\"data\":{{\"e\":\"trade\",\"E\":{ts},\
             \"s\":\"ETHUSDT\",\"t\":{number},\"p\":\"10.1\",\"q\":\"2\",\"T\":{ts},\"m\":true}}}}"
        ),
    }
}

fn all_records(tape: &Path) -> Vec<u8> {
    let mut reader = Reader::open(tape).expect("the tape is there");
    let mut bytes = Vec::new();
    while let Some(batch) = reader.read(usize::MAX).expect("the tape is whole") {
        bytes.extend_from_slice(batch.bytes);
    }
    bytes
}

#[test]
fn frames_normalised_from_memory_equal_a_replay_of_the_raw_tape() {
    // Flushes of 1 to 90 frames, one of 5,000, which is more than is normalised from memory, and a
    // stop in the middle; then a stage of its own over the raw tape that is left.
    let data = folder("replay");
    let mut number = 1;
    for _ in 0..2 {
        let mut ingest = Ingest::open(config(&data)).expect("a folder of our own");
        for flush in 0..60u64 {
            let frames = if flush == 40 { 5_000 } else { 1 + flush * 37 % 90 };
            for _ in 0..frames {
                let ts_recv = 1_770_000_000_000_000_000 + number as i64 * 1_000_000;
                let body = frame(number);
                ingest
                    .receive(0, BlobKind::Text, ts_recv, b"", body.as_bytes())
                    .expect("there is room");
                number += 1;
            }
            ingest.flush().expect("there is room");
            assert_eq!(ingest.normalizer().unwrap().covered(), ingest.raw().end());
        }
        assert!(ingest.counts().dead_letters > 0 && ingest.counts().records > 5_000);
        ingest.sync().expect("there is room");
    }
    let tapes = data.join("tape").join("x");
    let again = data.join("again");
    let mut stage = Stage::open(
        &tapes.join("market-data.raw"),
        &again,
        &data.join("state-again"),
        Box::new(Normalizer::new(FeedId::BinanceSpot, HOLD_MS)),
        StageConfig { durability: Durability::Never, ..StageConfig::default() },
    )
    .expect("the raw tape is there");
    stage.run_until_idle(1_000).expect("the raw tape is whole");
    let (live, replayed) =
        (all_records(&tapes.join("market-data.normalized")), all_records(&again));
    assert_eq!(live.len(), replayed.len());
    assert!(live == replayed, "the same bytes");
    drop(std::fs::remove_dir_all(&data));
}
