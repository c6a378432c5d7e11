//! States of stages name their places: an input or an output that was replaced, or restored from an
//! older copy, is refused and never continued; one whose frames were divided otherwise is the same.

use std::path::{Path, PathBuf};

use tapeworks_core::processors::{find, Settings, Stage, StageConfig};
use tapeworks_core::record::{Header, Plain, Trade};
use tapeworks_core::tape::NO_INPUT;
use tapeworks_core::{Error, Reader, Tape, TapeConfig, TapeKind};

#[path = "setup/tapes.rs"]
mod tapes;
use tapes::{copy, Folder};

impl Folder {
    fn input(&self) -> PathBuf {
        self.0.join("input")
    }

    fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    fn stage(&self) -> Result<Stage, Error> {
        let bars = find("bars").unwrap().build(&Settings::new()).unwrap();
        let (input, output) = (self.input(), self.output());
        Stage::open(&input, &output, &self.0.join("states"), bars, StageConfig::default())
    }

    /// Runs the stage over all input, and saves its state.
    fn run(&self) {
        let mut stage = self.stage().unwrap();
        stage.run_until_idle(100).unwrap();
        stage.save().unwrap();
    }

    fn refusal(&self) -> String {
        match self.stage() {
            Err(error @ Error::Replaced { .. }) => error.to_string(),
            Err(other) => panic!("expected a refusal, got {other}"),
            Ok(_) => panic!("expected a refusal, and the stage goes on"),
        }
    }
}

/// Appends trades `first` up to `end`, ten a second, in frames of `size`. `price` tells them from
/// others of the same ids.
fn append(tape: &Path, (first, end): (u64, u64), size: usize, price: i64) {
    let mut tape = Tape::open(tape, TapeConfig::new(TapeKind::Records)).unwrap();
    let trades: Vec<Trade> = (first..end)
        .map(|id| Trade {
            header: Header {
                feed: 1,
                instrument: 1,
                ts_event: id as i64 * 100_000_000,
                ts_recv: id as i64 * 100_000_000,
                sequence: id,
                ..Header::of::<Trade>()
            },
            price,
            size: 7,
            trade_id: id,
            count: 1,
            side: 1,
            channel: 1,
            conditions: [0; 2],
        })
        .collect();
    for frame in trades.chunks(size) {
        let bytes: Vec<u8> = frame.iter().flat_map(|trade| trade.as_bytes().to_vec()).collect();
        let ts = frame.last().unwrap().header.ts_recv;
        tape.append(&bytes, frame.len() as u32, NO_INPUT, ts).unwrap();
    }
    tape.sync().unwrap();
}

#[test]
fn input_that_was_restored_from_an_older_copy_and_grew_is_refused() {
    // The copy has the tape's id, and others wrote on it past the offset at which the state was
    // taken: by offsets alone nothing is amiss.
    let folder = Folder::new("restored");
    append(&folder.input(), (1, 200), 10, 3);
    let older = folder.0.join("older");
    copy(&folder.input(), &older);
    append(&folder.input(), (200, 400), 10, 3);
    folder.run();
    copy(&older, &folder.input());
    append(&folder.input(), (200, 900), 10, 4);
    let refusal = folder.refusal();
    assert!(refusal.contains("fingerprint") && refusal.contains("input"), "{refusal}");
}

#[test]
fn input_of_another_id_is_refused() {
    // Deleted and recorded anew, with the very same items.
    let folder = Folder::new("replaced");
    append(&folder.input(), (1, 400), 10, 3);
    folder.run();
    std::fs::remove_dir_all(folder.input()).unwrap();
    append(&folder.input(), (1, 400), 10, 3);
    let refusal = folder.refusal();
    assert!(
        refusal.contains("expected the input") && refusal.contains("was replaced"),
        "{refusal}"
    );
}

#[test]
fn output_that_was_replaced_is_refused() {
    // An output of the same input that another run wrote, in the place of the one that the state is
    // of.
    let folder = Folder::new("output");
    append(&folder.input(), (1, 400), 10, 3);
    folder.run();
    let other = folder.0.join("other");
    std::fs::rename(folder.output(), &other).unwrap();
    std::fs::rename(folder.0.join("states"), folder.0.join("kept")).unwrap();
    folder.run();
    std::fs::remove_dir_all(folder.0.join("states")).unwrap();
    std::fs::rename(folder.0.join("kept"), folder.0.join("states")).unwrap();
    let refusal = folder.refusal();
    assert!(refusal.contains("expected the tape") && refusal.contains("output"), "{refusal}");
}

#[test]
fn the_same_items_in_other_frames_are_the_same_place() {
    // What a repair makes again has the same items at the same offsets, in frames of its own.
    let folder = Folder::new("frames");
    append(&folder.input(), (1, 400), 10, 3);
    let place = Reader::open(&folder.input()).unwrap().place(333).unwrap();
    let again = folder.0.join("again");
    append(&again, (1, 400), 7, 3);
    let other = Reader::open(&again).unwrap().fingerprint(333).unwrap();
    assert!(place.fingerprint.is_some());
    assert_eq!(place.fingerprint, other);
    let changed = folder.0.join("changed");
    append(&changed, (1, 400), 10, 4);
    assert_ne!(place.fingerprint, Reader::open(&changed).unwrap().fingerprint(333).unwrap());
}

#[test]
fn state_of_version_1_is_taken_in() {
    // It names no places: nothing is compared, and the next state does.
    let folder = Folder::new("version");
    append(&folder.input(), (1, 400), 10, 3);
    folder.run();
    let states = || std::fs::read_dir(folder.0.join("states")).unwrap().map(|e| e.unwrap().path());
    let path = states().next().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut old = bytes[..40].to_vec();
    old[8] = 1;
    old.extend_from_slice(&bytes[88..bytes.len() - 4]);
    old.extend_from_slice(&crc32c::crc32c(&old).to_le_bytes());
    std::fs::write(&path, old).unwrap();
    let stage = folder.stage().unwrap();
    assert_eq!((stage.covered(), stage.notes()), (399, &[][..]));
}
