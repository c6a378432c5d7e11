//! Compressed segments: smaller, and read block by block in bounded memory.
//!
//! A cold file starts with the head of its segment, unchanged. A table of blocks follows, then
//! the blocks: LZ4 frames of whole tape frames each. Positions stay those of the segment.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use super::chain::for_each_frame;
use super::head::HEAD;
use super::segment::{doing, Segment, SegmentFile, SUFFIX_COLD};
use super::space;
use crate::codec::{Frame, FRAME_HEADER, FRAME_PAYLOAD_MAX};
use crate::error::{Error, Result};
use crate::record::Plain;

/// Tape frames are gathered into blocks of at least so many bytes.
const BLOCK: usize = 1 << 20;
/// No segment is longer.
const POSITION_MAX: u64 = 1 << 48;
/// Where the table starts.
const TABLE: usize = HEAD;

/// What the table starts with, 8 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct TableHead {
    /// Number of blocks.
    count: u32,
    /// CRC-32C of the entries.
    checksum: u32,
}

// SAFETY: `repr(C)` of integers, 8 bytes without padding.
unsafe impl Plain for TableHead {}

/// One block, 24 bytes in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Block {
    /// Where its first frame starts in the segment.
    position: u64,
    /// Where it starts in the cold file.
    at: u64,
    /// Length in the segment.
    length: u32,
    /// Length in the cold file.
    stored: u32,
}

// SAFETY: `repr(C)` of integers, 24 bytes without padding.
unsafe impl Plain for Block {}

/// The blocks of a cold file, of which one is unpacked.
#[derive(Debug)]
pub(crate) struct Cold {
    blocks: Vec<Block>,
    unpacked: Vec<u8>,
    /// Where what is unpacked starts in the segment.
    start: usize,
    /// The last frame, once it was looked for.
    last: Option<Frame>,
}

impl Cold {
    /// Reads the table of the cold file `bytes`, which came from `path`.
    pub(crate) fn open(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = || Error::corrupt(path, TABLE as u64, "the table of blocks is wrong");
        let head = bytes.get(TABLE..).and_then(TableHead::read_from).ok_or_else(wrong)?;
        let start = TABLE + size_of::<TableHead>();
        let end = (head.count as usize)
            .checked_mul(size_of::<Block>())
            .and_then(|length| length.checked_add(start))
            .ok_or_else(wrong)?;
        let table = bytes.get(start..end).ok_or_else(wrong)?;
        if crc32c::crc32c(table) != head.checksum {
            return Err(wrong());
        }
        let blocks: Vec<Block> =
            table.chunks_exact(size_of::<Block>()).filter_map(Block::read_from).collect();
        // Blocks lie back to back, here and in the segment: nothing is left out, nothing overlaps.
        let (mut position, mut at) = (HEAD as u64, end as u64);
        for block in &blocks {
            let is_next = block.position == position && block.at == at;
            let length_max = (BLOCK + FRAME_HEADER + FRAME_PAYLOAD_MAX) as u64;
            let has_length = (FRAME_HEADER as u64..length_max).contains(&u64::from(block.length));
            if !is_next || !has_length || position > POSITION_MAX {
                return Err(wrong());
            }
            position += u64::from(block.length);
            at += u64::from(block.stored);
        }
        if at != bytes.len() as u64 {
            let reason = format!("expected a file of {at} bytes, got {}", bytes.len());
            return Err(Error::corrupt(path, at.min(bytes.len() as u64), reason));
        }
        Ok(Self { blocks, unpacked: Vec::new(), start: 0, last: None })
    }

    /// The byte of the segment after its last frame.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.blocks.last().map_or(HEAD, |last| last.position as usize + last.length as usize)
    }

    /// The last frame, if there is one. The block that is unpacked stays.
    pub(crate) fn last_frame(&mut self, file: &[u8], path: &Path) -> Result<Option<Frame>> {
        let Some(&block) = self.blocks.last().filter(|_| self.last.is_none()) else {
            return Ok(self.last);
        };
        let mut bytes = Vec::new();
        let last = unpack_block(file, path, &block, &mut bytes)?;
        let whole = Frame::read(&bytes[last..]).ok_or_else(|| {
            let at = block.position + last as u64;
            Error::corrupt(path, at, "the checksum of the last frame is wrong")
        })?;
        self.last = Some(whole.0);
        Ok(self.last)
    }

    /// Unpacks the block that holds the frame at `at`, which must reach up to `end`.
    pub(crate) fn unpack(&mut self, file: &[u8], path: &Path, at: usize, end: usize) -> Result<()> {
        if !(self.start..self.start + self.unpacked.len()).contains(&at) {
            let after = self.blocks.partition_point(|block| block.position <= at as u64);
            let Some(&block) = after.checked_sub(1).and_then(|index| self.blocks.get(index)) else {
                return Err(Error::corrupt(path, at as u64, "no block holds this position"));
            };
            let mut bytes = std::mem::take(&mut self.unpacked);
            bytes.clear();
            unpack_block(file, path, &block, &mut bytes)?;
            self.unpacked = bytes;
            self.start = block.position as usize;
        }
        if at < self.start || end > self.start + self.unpacked.len() {
            return Err(Error::corrupt(path, at as u64, "the frame reaches beyond its block"));
        }
        Ok(())
    }

    /// Bytes of the block that is unpacked.
    #[inline]
    pub(crate) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        &self.unpacked[from - self.start..to - self.start]
    }
}

/// Unpacks `block` of the compressed segment `file` to the end of `out`. Returns where its last
/// frame starts there.
///
/// No more is unpacked than the headers of its frames bear out, so that a block which claims more
/// costs no memory for it.
fn unpack_block(file: &[u8], path: &Path, block: &Block, out: &mut Vec<u8>) -> Result<usize> {
    let wrong = || Error::corrupt(path, block.at, "a compressed block is wrong");
    let end = block.at.checked_add(u64::from(block.stored)).ok_or_else(wrong)?;
    let stored = usize::try_from(block.at).ok().zip(usize::try_from(end).ok());
    let stored = stored.and_then(|(from, to)| file.get(from..to)).ok_or_else(wrong)?;
    let mut decoder = FrameDecoder::new(stored);
    let mut unpack_to = |out: &mut Vec<u8>, to: usize| {
        while out.len() < to {
            let from = out.len();
            out.resize(to.min(from + BLOCK), 0);
            decoder.read_exact(&mut out[from..]).map_err(|_| wrong())?;
        }
        Ok(())
    };
    let length = block.length as usize;
    unpack_to(out, length.min(BLOCK))?;
    let (mut last, mut at) = (0, 0);
    while at < length {
        // A block ends with the frame that brings it to its size.
        if at >= BLOCK || length - at < FRAME_HEADER {
            return Err(wrong());
        }
        unpack_to(out, at + FRAME_HEADER)?;
        let frame = Frame::read_from(&out[at..]).filter(Frame::is_plausible).ok_or_else(wrong)?;
        (last, at) = (at, at + frame.size());
        if at > length {
            return Err(wrong());
        }
        unpack_to(out, at)?;
    }
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(last),
        _ => Err(wrong()),
    }
}

/// Replaces the closed segment `file` by its compressed form, of which the path is returned; by
/// nothing if `stop` says so meanwhile.
///
/// # Errors
/// `Error::DiskFull`, `Error::Io`, `Error::Corrupt`: the segment stays as it is.
pub(crate) fn compress(file: &SegmentFile, stop: &dyn Fn() -> bool) -> Result<Option<PathBuf>> {
    let path = file.path.with_file_name(format!("{:020}{SUFFIX_COLD}", file.first));
    let aside = path.with_extension("aside");
    match write(file, &aside, stop) {
        Ok(true) => {}
        unfinished => {
            drop(std::fs::remove_file(&aside));
            return unfinished.map(|_| None);
        }
    }
    let place = || {
        std::fs::rename(&aside, &path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        std::fs::remove_file(&file.path)
    };
    place().map_err(|error| Error::io(error, doing("replacing", &file.path)))?;
    Ok(Some(path))
}

/// Writes the compressed form of `file` to `aside`. `false` if it was stopped.
fn write(file: &SegmentFile, aside: &PathBuf, stop: &dyn Fn() -> bool) -> Result<bool> {
    let mut segment = Segment::open(file)?;
    let mut blocks: Vec<Block> = Vec::new();
    let end = for_each_frame(&mut segment, |_, at, frame| {
        match blocks.last_mut() {
            Some(block) if (block.length as usize) < BLOCK => block.length += frame.size() as u32,
            _ => blocks.push(Block {
                position: at as u64,
                at: 0,
                length: frame.size() as u32,
                stored: 0,
            }),
        }
        Ok(())
    })?;
    debug_assert!(end >= file.first);
    let table = TABLE + size_of::<TableHead>() + blocks.len() * size_of::<Block>();
    let written = (|| {
        let mut out = File::create(aside)?;
        out.write_all(&vec![0; table])?;
        let mut at = table as u64;
        for block in &mut blocks {
            if stop() {
                return Ok(false);
            }
            let from = block.position as usize;
            let mut encoder = FrameEncoder::new(Vec::with_capacity(block.length as usize));
            encoder.write_all(segment.published_bytes(from, from + block.length as usize))?;
            let stored = encoder.finish().map_err(std::io::Error::other)?;
            out.write_all(&stored)?;
            block.at = at;
            block.stored = stored.len() as u32;
            at += stored.len() as u64;
            segment.forget(from, from + block.length as usize);
        }
        write_front(&mut out, segment.head_bytes(), &blocks)?;
        out.sync_all()?;
        Ok(true)
    })();
    written.map_err(|error: std::io::Error| {
        if space::is_full(&error) {
            Error::DiskFull { path: aside.clone() }
        } else {
            Error::io(error, doing("compressing", &file.path))
        }
    })
}

/// Writes head and table, which are known last, to the front.
fn write_front(out: &mut File, head: &[u8], blocks: &[Block]) -> std::io::Result<()> {
    let entries: Vec<u8> = blocks.iter().flat_map(|b| b.as_bytes().to_vec()).collect();
    let table = TableHead { count: blocks.len() as u32, checksum: crc32c::crc32c(&entries) };
    let mut front = head.to_vec();
    front.extend_from_slice(table.as_bytes());
    front.extend_from_slice(&entries);
    std::os::unix::fs::FileExt::write_all_at(out, &front, 0)
}
