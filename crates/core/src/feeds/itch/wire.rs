//! The bytes of ITCH 5.0 and of MoldUDP64: lengths by type, fields by offset, blocks in a row.
//!
//! All integers are big-endian. A message is read only after its length was compared with that of
//! its type, so that no read of a field runs past its end.

use super::JUMP_MAX;
use crate::error::{DecodeReason, Error, Result};

/// Length of each type of message; 0 where there is no such type.
pub(super) const LENGTHS: [u8; 256] = {
    const TYPES: &[u8; 23] = b"SRHYLVWKJhAFECXDUPQBINO";
    const BYTES: [u8; 23] = [
        12, 39, 25, 20, 26, 35, 12, 28, 35, 21, 36, 40, 31, 36, 23, 19, 35, 44, 40, 19, 50, 20, 48,
    ];
    let (mut lengths, mut at) = ([0; 256], 0);
    while at < TYPES.len() {
        lengths[TYPES[at] as usize] = BYTES[at];
        at += 1;
    }
    lengths
};

/// The largest time of a day, in ns since its midnight.
pub(super) const TIME_MAX: u64 = 86_399_999_999_999;
/// Bytes of the header of a MoldUDP64 packet.
pub(super) const PACKET_HEADER: usize = 20;
/// Count of a packet that ends its session.
const END_OF_SESSION: u16 = u16::MAX;

#[inline(always)]
fn bytes<const N: usize>(message: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&message[at..at + N]);
    found
}

/// The field of two bytes at `at`.
#[inline(always)]
pub(super) fn u16_at(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes(message, at))
}

/// The field of four bytes at `at`.
#[inline(always)]
pub(super) fn u32_at(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes(message, at))
}

/// The field of eight bytes at `at`.
#[inline(always)]
pub(super) fn u64_at(message: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes(message, at))
}

/// The time of a message, in ns since midnight.
#[inline(always)]
pub(super) fn time_of(message: &[u8]) -> u64 {
    u64::from(u16_at(message, 5)) << 32 | u64::from(u32_at(message, 7))
}

/// A text of `N` bytes without the spaces that fill it.
#[inline]
pub(super) fn text<const N: usize>(message: &[u8], at: usize) -> ([u8; N], usize) {
    let field = bytes(message, at);
    let mut length = N;
    while length > 0 && field[length - 1] == b' ' {
        length -= 1;
    }
    (field, length)
}

/// The header of a MoldUDP64 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) session: [u8; 10],
    /// Number of its first message, or of the next that will be sent.
    pub(super) sequence: u64,
    /// Its messages.
    pub(super) count: u16,
    /// Whether nothing follows any more.
    pub(super) ends: bool,
}

impl Packet {
    /// Number behind its last message.
    pub(super) const fn after(&self) -> u64 {
        self.sequence.saturating_add(self.count as u64)
    }

    /// Refuses a number that no session reaches.
    pub(super) fn check_number(&self) -> Result<()> {
        if self.sequence == 0 || self.sequence > JUMP_MAX {
            return Err(Error::decode(DecodeReason::ImplausibleSequence, 10));
        }
        Ok(())
    }

    /// Reads the header and checks that the blocks behind it are whole, and as many as it says: of
    /// a packet that is not, nothing is believed.
    ///
    /// # Errors
    /// `Error::Decode`: `Truncated` or `TrailingBytes`, and where.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        if body.len() < PACKET_HEADER {
            return Err(Error::decode(DecodeReason::Truncated, body.len()));
        }
        let told = u16_at(body, 18);
        let ends = told == END_OF_SESSION;
        let packet = Self {
            session: bytes(body, 0),
            sequence: u64_at(body, 10),
            count: if ends { 0 } else { told },
            ends,
        };
        let mut blocks = Blocks::new(body, PACKET_HEADER);
        let whole = blocks.by_ref().take(usize::from(packet.count)).count();
        if whole < usize::from(packet.count) {
            return Err(Error::decode(DecodeReason::Truncated, blocks.at));
        }
        if blocks.at < body.len() {
            return Err(Error::decode(DecodeReason::TrailingBytes, blocks.at));
        }
        Ok(packet)
    }
}

/// Blocks of a length and a message in a row, as in files and in packets.
#[derive(Debug, Clone)]
pub(super) struct Blocks<'a> {
    body: &'a [u8],
    /// Where the next block begins: at its length.
    pub(super) at: usize,
}

impl<'a> Blocks<'a> {
    pub(super) const fn new(body: &'a [u8], at: usize) -> Self {
        Self { body, at }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a [u8];

    /// The next message; `None` where there is no whole one.
    #[inline(always)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.body.get(self.at..)?.split_first_chunk::<2>()?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        self.at += 2 + message.len();
        Some(message)
    }
}

/// A run of whole messages of a file: what becomes one frame on the raw tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// Where it ends: at the length of the next message.
    pub end: usize,
    /// Its messages.
    pub count: u32,
    /// Time of its last message whose length is that of its type, in ns since midnight.
    pub time_last: Option<u64>,
    /// A length of 0 ended it: the end of the session in this format, or another format.
    pub is_ended: bool,
}

impl Run {
    /// The whole messages of `bytes` from `start` on: at most `messages_max`, and none that is
    /// `span_ns` or more behind the first, or earlier than the one before it.
    pub fn scan(bytes: &[u8], start: usize, messages_max: u32, span_ns: u64) -> Self {
        let mut run = Self { end: start, ..Self::default() };
        let mut blocks = Blocks::new(bytes, start);
        let mut first = None;
        while run.count < messages_max {
            let Some(message) = blocks.next() else { break };
            if message.is_empty() {
                run.is_ended = true;
                break;
            }
            let is_known = usize::from(LENGTHS[usize::from(message[0])]) == message.len();
            // What is after its day has no time.
            if is_known && time_of(message) <= TIME_MAX {
                let time = time_of(message);
                let begin = *first.get_or_insert(time);
                if time < run.time_last.unwrap_or(begin) || time - begin >= span_ns {
                    break;
                }
                run.time_last = Some(time);
            }
            (run.end, run.count) = (blocks.at, run.count + 1);
        }
        run
    }
}
