//! What tests of tapes start from: a folder of their own, and a wait for the tape's own threads.

// Each test file uses some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tapeworks_core::record::{Header, Plain, Trade};

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder; `name` tells it from those of the other tests.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tapeworks-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where a tape goes, if there is one only.
    pub fn tape(&self) -> PathBuf {
        self.join("tape")
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Copies the files of a folder to `to`, and nothing else is there then.
pub fn copy(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The files of a tape's segments, in the order of their offsets; compressed ones are `.seg.lz4`.
pub fn segments(tape: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(tape)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".seg"))
        .collect();
    files.sort();
    files
}

/// The bytes of `count` trades, all the same.
pub fn trades(count: usize) -> Vec<u8> {
    let trade = Trade {
        header: Header::of::<Trade>(),
        price: 3,
        size: 7,
        trade_id: 1,
        count: 1,
        side: 1,
        channel: 1,
        conditions: [0; 2],
    };
    trade.as_bytes().repeat(count)
}

/// Waits until `holds`; what the tape's own threads do takes a moment.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "not so within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
