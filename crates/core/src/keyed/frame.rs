//! What a router sends to a shard: records, and what instruments begin with.
//!
//! ```text
//! size  field
//!    1  part: 1 an instrument begins, 2 records
//!    4  instrument; 0 of records
//!    4  length of what follows, n
//!    n  the state that the instrument begins with, or records back to back
//! ```
//! Parts follow each other up to the end. Little-endian.

use crate::error::{Error, Result};

const BEGIN: u8 = 1;
const RECORDS: u8 = 2;
const HEAD: usize = 9;

/// A frame that is being made.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    bytes: Vec<u8>,
    /// Where the open part of records begins.
    open: Option<usize>,
}

impl FrameWriter {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn begin(&mut self, instrument: u32, state: &[u8]) {
        self.close();
        self.head(BEGIN, instrument, state.len() as u32);
        self.bytes.extend_from_slice(state);
    }

    #[inline]
    pub(super) fn record(&mut self, bytes: &[u8]) {
        if self.open.is_none() {
            self.open = Some(self.bytes.len());
            self.head(RECORDS, 0, 0);
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn head(&mut self, part: u8, instrument: u32, length: u32) {
        self.bytes.push(part);
        self.bytes.extend_from_slice(&instrument.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    fn close(&mut self) {
        if let Some(start) = self.open.take() {
            let length = (self.bytes.len() - start - HEAD) as u32;
            self.bytes[start + 5..start + HEAD].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// The whole frame.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.close();
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
    }
}

/// One part of a frame.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Begin(u32, &'a [u8]),
    Records(&'a [u8]),
}

/// The parts of a frame.
pub(super) fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Result<Part<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let read = next_part(bytes);
        bytes = read.as_ref().map_or(&[][..], |(_, rest)| rest);
        Some(read.map(|(part, _)| part))
    })
}

fn next_part(bytes: &[u8]) -> Result<(Part<'_>, &[u8])> {
    let cut = || Error::invalid("the frame of a shard is not whole");
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or_else(cut)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = word(5) as usize;
    let (body, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    match head[0] {
        BEGIN => Ok((Part::Begin(word(1), body), rest)),
        RECORDS => Ok((Part::Records(body), rest)),
        _ => Err(cut()),
    }
}
