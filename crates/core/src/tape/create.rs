//! Making segment files, and taking over those that are there.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::head::{
    this_boot, Chain, Head, BOOT, CHAIN, CHAIN_START, COVERED, DURABLE, EPOCH, IDENTITY, MAGIC,
    OPENED, PUBLISHED,
};
use super::identity::Identity;
use super::index::SLOTS;
use super::map::Map;
use super::rewrite::sync_file;
use super::segment::{doing, segment_path};
use super::sync::Live;
use super::{space, TapeConfig};
use crate::codec::VERSION;
use crate::error::{Error, Result};
use crate::record::Plain;

/// Marks the segment in `map` as written by this process from now on, with `last` as its last
/// frame. `opened` is the end of the tape when it was opened first under this boot.
pub(crate) fn take_over(map: &Map, last: u64, opened: u64) {
    let boot = this_boot();
    map.word(COVERED).store(0, Ordering::Release);
    map.word(OPENED).store(opened + 1, Ordering::Release);
    map.word(PUBLISHED).store(last, Ordering::Release);
    map.word(BOOT).store(boot[0], Ordering::Release);
    map.word(BOOT + 8).store(boot[1], Ordering::Release);
    map.word(EPOCH).fetch_add(1, Ordering::AcqRel);
}

pub(crate) fn open_file(path: &Path) -> Result<File> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|error| Error::io(error, doing("opening", path)))
}

pub(crate) fn fixed_head(
    config: &TapeConfig,
    first: u64,
    input: u64,
    ts_before: i64,
    ts: i64,
) -> Head {
    let stride = (config.segment_bytes / SLOTS).max(4096);
    Head {
        magic: MAGIC,
        version: VERSION,
        kind: config.kind as u32,
        first_offset: first,
        input_before: input,
        ts_before,
        ts_first: ts,
        stride: u32::try_from(stride).unwrap_or(u32::MAX),
        checksum: 0,
    }
    .sealed()
}

/// What a new segment starts with.
#[derive(Debug)]
pub(crate) struct NewSegment {
    pub(crate) head: Head,
    pub(crate) identity: Identity,
    pub(crate) chain_state: u32,
    /// The tape's durable watermark.
    pub(crate) durable: u64,
    /// The end of the tape when it was opened first under this boot.
    pub(crate) opened: u64,
    /// So many bytes are needed at once, and at most so many will be.
    pub(crate) needed: usize,
    pub(crate) limit: usize,
}

impl NewSegment {
    /// Makes the file, in the folder `tape`. Returns it with its length. It gets its name only
    /// when its head is whole, so that no reader sees half of it.
    pub(crate) fn create(&self, tape: &Path) -> Result<(Live, usize)> {
        let path = segment_path(tape, self.head.first_offset);
        let aside = path.with_extension("new");
        let made = File::options().read(true).write(true).create(true).truncate(true).open(&aside);
        let file = match made {
            Err(error) if space::is_full(&error) => return Err(Error::DiskFull { path }),
            made => made.map_err(|error| Error::io(error, doing("making", &aside)))?,
        };
        match self.prepare(&file, &aside, &path) {
            Ok((map, allocated)) => {
                let first = self.head.first_offset;
                Ok((Live { first, file, map, path }, allocated))
            }
            Err(error) => {
                // The error that stopped us is the one to tell; a file left aside is overwritten.
                drop(std::fs::remove_file(&aside));
                Err(error)
            }
        }
    }

    fn prepare(&self, file: &File, aside: &Path, path: &Path) -> Result<(Map, usize)> {
        let allocated = space::grow(file, path, 0, self.needed, self.limit)?;
        let map = Map::appended(file, self.limit.max(self.needed), path)?;
        map.write(0, self.head.as_bytes());
        map.write(IDENTITY, self.identity.sealed().as_bytes());
        map.write(CHAIN, Chain::sealed([0; 32], self.chain_state).as_bytes());
        map.word(DURABLE).store(self.durable, Ordering::Release);
        take_over(&map, 0, self.opened);
        if self.chain_state == CHAIN_START {
            // No segment before it can tell that it was there: a first segment without its head is
            // damage, since the head is on the disk before the name.
            sync_file(file).map_err(|error| Error::io(error, doing("syncing", path)))?;
        }
        let renamed = std::fs::rename(aside, path);
        renamed.map_err(|error| Error::io(error, doing("naming", path)))?;
        Ok((map, allocated))
    }
}
