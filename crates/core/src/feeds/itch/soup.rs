//! Packets of SoupBinTCP 3.00, read as the packet of MoldUDP64 that has the same messages.
//!
//! A packet is a length, a type and what it carries. One of type `S` is the next message of the
//! session; messages have no numbers of their own, both sides count.

use super::wire::{Packet, PACKET_HEADER};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::Rejected;

/// The name of a session as packets of MoldUDP64 have it: filled with spaces at the right.
pub(super) fn session(name: &str) -> Option<[u8; 10]> {
    let mut session = [b' '; 10];
    session.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(session)
}

/// What was read over SoupBinTCP, as MoldUDP64 would have sent it.
pub(super) struct Stream {
    pub(super) packet: Packet,
    /// Behind the header of a packet, each message behind its length.
    pub(super) messages: Vec<u8>,
    /// Packets of no type that there is: they carry no message, and those beside them are read.
    pub(super) unknown: Rejected,
}

/// The messages of `body`, of which the first has the number `first`.
///
/// # Errors
/// `Error::Decode`: a packet is not whole, and where it begins.
pub(super) fn packet(body: &[u8], session: [u8; 10], first: u64) -> Result<Stream> {
    let mut packet = Packet { session, sequence: first, count: 0, ends: false };
    let mut messages = Vec::with_capacity(PACKET_HEADER + body.len());
    messages.extend_from_slice(&session);
    messages.extend_from_slice(&first.to_be_bytes());
    messages.extend_from_slice(&[0; 2]);
    let (mut at, mut unknown) = (0, Rejected::NONE);
    while at < body.len() {
        let wrong = |reason| Error::decode(reason, at);
        let truncated = || wrong(DecodeReason::Truncated);
        let (length, rest) = body[at..].split_first_chunk::<2>().ok_or_else(truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        match rest.get(..length).ok_or_else(truncated)?.split_first() {
            Some((b'S', message)) => {
                // Shorter than what was read, so that it fits.
                messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
                messages.extend_from_slice(message);
                let many = || wrong(DecodeReason::TrailingBytes);
                packet.count = packet.count.checked_add(1).ok_or_else(many)?;
            }
            Some((b'Z', _)) => packet.ends = true,
            // Login, its answer, signs of life, what needs no number, and words for people.
            Some((b'A' | b'J' | b'H' | b'U' | b'+', _)) => {}
            _ => unknown.add(wrong(DecodeReason::UnknownEvent))?,
        }
        at += 2 + length;
    }
    messages[18..PACKET_HEADER].copy_from_slice(&packet.count.to_be_bytes());
    Ok(Stream { packet, messages, unknown })
}
