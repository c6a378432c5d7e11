//! A tape is told from every other one, and a place on it from every other place.

use std::path::Path;

use tapeworks_core::record::{Header, Plain, Trade};
use tapeworks_core::tape::{verify, Place, Retention, TapeId, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{copy, Folder};

fn config(kind: TapeKind) -> TapeConfig {
    TapeConfig { durability: Durability::Never, segment_bytes: 64 << 10, ..TapeConfig::new(kind) }
}

fn open(path: &Path) -> Tape {
    Tape::open(path, config(TapeKind::Records)).unwrap()
}

/// Appends `frames` frames of `count` trades whose ids start at `id`.
fn append(tape: &mut Tape, frames: u64, count: u64, id: u64) {
    for frame in 0..frames {
        let trades = (0..count).flat_map(|number| {
            let trade = Trade {
                header: Header::of::<Trade>(),
                price: 3,
                size: 7,
                trade_id: id + frame * count + number,
                count: 1,
                side: 1,
                channel: 1,
                conditions: [0; 2],
            };
            trade.as_bytes().to_vec()
        });
        let bytes: Vec<u8> = trades.collect();
        tape.append(&bytes, count as u32, NO_INPUT, 1).unwrap();
    }
}

fn replaced(checked: Result<(), Error>) -> String {
    match checked {
        Err(error @ Error::Replaced { .. }) => error.to_string(),
        other => panic!("expected a replaced tape, got {other:?}"),
    }
}

#[test]
fn a_tape_keeps_its_id_for_life_and_no_two_are_the_same() {
    // Over segments, openings and compression the id stays; a second tape has another one.
    let folder = Folder::new("id");
    let mut tape = open(&folder.join("one"));
    let id = tape.id().unwrap();
    append(&mut tape, 40, 100, 0);
    drop(tape);
    let cold = Retention { compress_after: Some(1), ..Retention::default() };
    let settings = TapeConfig { retention: cold, ..config(TapeKind::Records) };
    let mut tape = Tape::open(&folder.join("one"), settings).unwrap();
    append(&mut tape, 10, 100, 4000);
    assert_eq!((tape.id(), tape.origin()), (Some(id), None));
    drop(tape);
    let report = verify(&folder.join("one")).unwrap();
    assert_eq!((report.id, report.origin, report.fault), (Some(id), None, None));
    assert_eq!(Reader::open(&folder.join("one")).unwrap().id().unwrap(), Some(id));
    assert_ne!(open(&folder.join("two")).id().unwrap(), id);
    assert_eq!(id.to_string().len(), 32);
    assert_eq!(id.to_string().parse::<TapeId>().unwrap(), id);
    assert!("0".repeat(32).parse::<TapeId>().is_err() && "12".parse::<TapeId>().is_err());
}

#[test]
fn a_derived_tape_names_its_input_and_refuses_another() {
    // Replace the input by an empty tape and by one of equal length: refused by name, unchanged.
    let folder = Folder::new("origin");
    let (input, output) = (folder.join("in"), folder.join("out"));
    let mut raw = open(&input);
    append(&mut raw, 3, 10, 0);
    raw.sync().unwrap();
    let settings = config(TapeKind::Records);
    let mut made = Tape::open_from(&output, settings, &input).unwrap();
    assert_eq!(made.origin(), raw.id());
    made.append(&[], 0, 30, 1).unwrap();
    drop((made, raw));
    drop(Tape::open_from(&output, settings, &input).unwrap());
    let kept = folder.join("kept");
    std::fs::rename(&input, &kept).unwrap();
    for frames in [0, 3] {
        drop(std::fs::remove_dir_all(&input));
        append(&mut open(&input), frames, 10, 0);
        let refused = Tape::open_from(&output, settings, &input).unwrap_err();
        assert!(matches!(&refused, Error::Replaced { path, .. } if *path == output), "{refused}");
        assert!(refused.to_string().contains("the input was replaced"), "{refused}");
    }
    std::fs::remove_dir_all(&input).unwrap();
    std::fs::rename(&kept, &input).unwrap();
    drop(Tape::open_from(&output, settings, &input).unwrap());
}

#[test]
fn a_place_is_known_again_and_only_on_its_tape() {
    // Every offset of a tape of several segments: its place is right on it, before and after more
    // is written. On a tape of its own with the same items, on one that is shorter, and on one that
    // was restored from a copy and went on otherwise, it is refused.
    let folder = Folder::new("place");
    let (path, copied, other) = (folder.join("tape"), folder.join("copy"), folder.join("other"));
    let mut tape = open(&path);
    append(&mut tape, 20, 70, 0);
    let mut reader = Reader::open(&path).unwrap();
    let early: Vec<Place> = (0..=1400).map(|offset| reader.place(offset).unwrap()).collect();
    assert!(early[1..].iter().all(|place| place.id == tape.id() && place.fingerprint.is_some()));
    assert_eq!(early[0].fingerprint, None);
    tape.sync().unwrap();
    copy(&path, &copied);
    append(&mut tape, 20, 70, 1400);
    let late = reader.place(1500).unwrap();
    early.iter().for_each(|place| reader.check(place).unwrap());
    append(&mut open(&other), 40, 70, 0);
    let text = replaced(Reader::open(&other).unwrap().check(&early[700]));
    assert!(text.contains("expected the tape") && text.contains("restored"), "{text}");
    let mut restored = Reader::open(&copied).unwrap();
    early.iter().for_each(|place| restored.check(place).unwrap());
    let text = replaced(restored.check(&late));
    assert!(text.contains("offset 1500") && text.contains("ends at 1400"), "{text}");
    append(&mut open(&copied), 20, 70, 9999);
    let text = replaced(restored.check(&late));
    assert!(text.contains("fingerprint"), "{text}");
    let unknown = Place { id: None, fingerprint: None, ..late };
    restored.check(&unknown).unwrap();
    assert!(matches!(reader.fingerprint(2801), Err(Error::OutOfRange { end: 2800, .. })));
}

#[test]
fn segments_of_two_tapes_in_one_folder_are_refused() {
    // Put the closed first segment of another tape of the same shape in the place of ours: reader
    // and verification name it.
    let folder = Folder::new("mixed");
    let (one, two) = (folder.join("one"), folder.join("two"));
    append(&mut open(&one), 40, 100, 0);
    append(&mut open(&two), 40, 100, 0);
    let name = format!("{:020}.seg", 0);
    std::fs::copy(two.join(&name), one.join(&name)).unwrap();
    let mut reader = Reader::open(&one).unwrap();
    let stopped = loop {
        match reader.read(1000) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("read over the border"),
            Err(error) => break error,
        }
    };
    assert!(stopped.to_string().contains("another tape"), "{stopped}");
    let fault = verify(&one).unwrap().fault.unwrap();
    assert!(fault.reason.contains("another tape"), "{}", fault.reason);
}
