//! Packets of SoupBinTCP 3.00, read as the packet of MoldUDP64 that has the same messages.
//!
//! A packet is a length, a type and what it carries. One of type `S` is the next message of the
//! session; messages have no numbers of their own, both sides count.

use super::wire::{Packet, PACKET_HEADER};
use crate::error::{DecodeReason, Error, Result};

/// The name of a session as packets of MoldUDP64 have it: filled with spaces at the right.
pub(super) fn session(name: &str) -> Option<[u8; 10]> {
    let mut session = [b' '; 10];
    session.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(session)
}

/// The messages of `body`, of which the first has the number `first`, behind the header of a packet
/// and each behind its length.
///
/// # Errors
/// `Error::Decode`: a packet is not whole, or of no type that there is, and where it begins.
pub(super) fn packet(body: &[u8], session: [u8; 10], first: u64) -> Result<(Packet, Vec<u8>)> {
    let mut packet = Packet { session, sequence: first, count: 0, ends: false };
    let mut messages = Vec::with_capacity(PACKET_HEADER + body.len());
    messages.extend_from_slice(&session);
    messages.extend_from_slice(&first.to_be_bytes());
    messages.extend_from_slice(&[0; 2]);
    let mut at = 0;
    while at < body.len() {
        let wrong = |reason| Error::decode(reason, at);
        let truncated = || wrong(DecodeReason::Truncated);
        let (length, rest) = body[at..].split_first_chunk::<2>().ok_or_else(truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (kind, message) =
            rest.get(..length).ok_or_else(truncated)?.split_first().ok_or_else(truncated)?;
        match kind {
            b'S' => {
                // Shorter than what was read, so that it fits.
                messages.extend_from_slice(&(message.len() as u16).to_be_bytes());
                messages.extend_from_slice(message);
                let many = || wrong(DecodeReason::TrailingBytes);
                packet.count = packet.count.checked_add(1).ok_or_else(many)?;
            }
            b'Z' => packet.ends = true,
            // Login, its answer, signs of life, what needs no number, and words for people.
            b'A' | b'J' | b'H' | b'U' | b'+' => {}
            _ => return Err(wrong(DecodeReason::UnknownEvent)),
        }
        at += 2 + length;
    }
    messages[18..PACKET_HEADER].copy_from_slice(&packet.count.to_be_bytes());
    Ok((packet, messages))
}
