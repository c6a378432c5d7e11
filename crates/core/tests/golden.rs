//! Files of every format version stay for good, and must open for good.
//!
//! `golden/v1` was written once, by version 1, and `golden/v2` by version 2, with the same items.
//! When the format changes, a folder is added; none is ever written again.

use std::path::{Path, PathBuf};

use tapeworks_core::record::{blob, records, BlobKind, Trade};
use tapeworks_core::tape::{hash, list_offsets, verify};
use tapeworks_core::{Durability, Reader, Tape, TapeConfig, TapeKind};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

/// The same tape as version 2 wrote it.
fn golden_v2(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2").join(name)
}

fn hexadecimal(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_of_version_1_are_read() {
    // Three segments, the first one compressed: all trades, their order, the input covered.
    let report = verify(&golden("records")).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!((report.segments, report.segments_compressed, report.links), (3, 1, 2));
    assert_eq!((report.items, report.end), (1500, 1500));
    let mut reader = Reader::open(&golden("records")).unwrap();
    assert_eq!(reader.kind(), TapeKind::Records);
    assert_eq!(reader.covered().unwrap(), Some(4500));
    let mut number = 0;
    while let Some(batch) = reader.read(64).unwrap() {
        for record in records::iterate(batch.bytes) {
            let trade = record.get::<Trade>().unwrap();
            assert_eq!(trade.header.sequence, number);
            assert_eq!(trade.price, number as i64 * 1_000_000_000);
            assert_eq!(trade.size, 25_000_000);
            number += 1;
        }
    }
    assert_eq!(number, 1500);
    reader.seek_time(700).unwrap();
    assert_eq!(reader.position(), 700);
    assert_eq!(list_offsets(&golden("records")).unwrap(), [("lake".to_owned(), 1234)]);
}

#[test]
fn blobs_of_version_1_are_read() {
    // Frames of text and a REST answer with its request.
    let mut reader = Reader::open(&golden("blobs")).unwrap();
    assert_eq!(reader.kind(), TapeKind::Blobs);
    assert_eq!(reader.covered().unwrap(), None);
    let mut all = Vec::new();
    while let Some(batch) = reader.read(10).unwrap() {
        for each in blob::iterate(batch.bytes) {
            let context = String::from_utf8(each.context.to_vec()).unwrap();
            let body = String::from_utf8(each.body.to_vec()).unwrap();
            all.push((each.header.kind, each.header.ts_recv, context, body));
        }
    }
    let text = BlobKind::Text as u8;
    assert_eq!(all[0], (text, 1, String::new(), r#"{"e":"trade","t":1}"#.to_owned()));
    assert_eq!(all[1], (text, 2, "btcusdt@trade".to_owned(), r#"{"t":22}"#.to_owned()));
    let request = "/api/v3/depth?symbol=BTCUSDT&limit=5000".to_owned();
    assert_eq!(all[2], (BlobKind::Rest as u8, 3, request, "{}".to_owned()));
    assert_eq!(all.len(), 3);
}

#[test]
fn hashes_of_version_1_stay() {
    // A hash over items that changed would make every proof that was ever given worthless.
    assert_eq!(hexadecimal(hash(&golden("records")).unwrap()), RECORDS_HASH);
    assert_eq!(hexadecimal(hash(&golden("blobs")).unwrap()), BLOBS_HASH);
}

#[test]
fn a_tape_of_version_1_is_written_on() {
    // Copy it, append, read over the border.
    let folder = std::env::temp_dir().join(format!("tapeworks-golden-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(golden("blobs")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let mut blobs = blob::Blobs::new();
    blobs.push(blob::BlobHeader::default(), b"", b"more").unwrap();
    let config = TapeConfig { durability: Durability::Never, ..TapeConfig::new(TapeKind::Blobs) };
    let mut tape = Tape::open(&folder, config).unwrap();
    assert_eq!(tape.append(blobs.as_bytes(), 1, 9, 9).unwrap(), 3);
    drop(tape);
    let report = verify(&folder).unwrap();
    assert_eq!((report.items, report.fault), (4, None));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tapes_of_version_2_are_read_and_have_an_id() {
    // Three segments, the first one compressed; the same items as version 1 wrote, by their hash;
    // ids, fingerprints and the head of the chain stay what they were.
    let report = verify(&golden_v2("records")).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!((report.segments, report.segments_compressed, report.links), (3, 1, 2));
    assert_eq!((report.items, report.end, report.verified_from), (1500, 1500, 0));
    assert_eq!(report.id.unwrap().to_string(), "c3f018240cc453d212148b8e181ff55f");
    assert_eq!(
        report.head.unwrap().to_string(),
        "1500:2605f0f8a02527e637ccaf5235016d6b29f6970eb964d50c6da07016c50d1ef6"
    );
    assert_eq!(hexadecimal(hash(&golden_v2("records")).unwrap()), RECORDS_HASH);
    assert_eq!(hexadecimal(hash(&golden_v2("blobs")).unwrap()), BLOBS_HASH);
    let mut reader = Reader::open(&golden_v2("records")).unwrap();
    assert_eq!(reader.fingerprint(750).unwrap(), Some(0x0000_02ed_edec_df29));
    let place = reader.place(750).unwrap();
    reader.check(&place).unwrap();
    let mut blobs = Reader::open(&golden_v2("blobs")).unwrap();
    assert_eq!(blobs.id().unwrap().unwrap().to_string(), "e7c46f419121b914de53d12d95b77d54");
    assert!(Reader::open(&golden("blobs")).unwrap().id().unwrap().is_none());
}

const RECORDS_HASH: &str = "64b625369ffb469c9201ad2384d6e3ff6f3af16b52e41847209b82f8ffe66b93";
const BLOBS_HASH: &str = "30a356fb20c001cb3a64eb49e30dd487e56b3d90137ddf5640147a7e3b7a8620";
