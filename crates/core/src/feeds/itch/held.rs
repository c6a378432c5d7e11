//! Packets that wait for those before them, which another line or a request may still bring.
//!
//! A packet behind a hole is held until the hole is filled, or until nothing filled it for as long
//! as the context of the packets says; then the hole is a gap. How long that is follows from the
//! receive times of the packets alone, so that the same tape gives the same records.

use std::collections::BTreeMap;

use super::sessions::{Came, BELIEVED, QUIET_NS};
use super::{taken, u64_of, Itch, Task, PACKET_HEADER};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::Rejected;
use crate::instrument::Instruments;
use crate::record::{Header, Records};

/// Packets and bytes that are held at most; beyond it the first hole is a gap.
const PACKETS_MAX: usize = 1 << 16;
const BYTES_MAX: usize = 32 << 20;
/// A packet further ahead is believed where others speak for it, not by time alone.
pub(super) const FAR: u64 = 1 << 10;

/// One packet that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldPacket {
    ts_recv: i64,
    flags: u8,
    count: u16,
    ends: bool,
    body: Vec<u8>,
}

/// Packets that are held, by the number of their first message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    packets: BTreeMap<u64, HeldPacket>,
    bytes: usize,
    /// When the number that is expected last rose, by receipt.
    ts_moved: i64,
    /// When the last packet came from where the session is.
    ts_level: i64,
    /// Packets from there, since there is a first one that is held.
    levels: u64,
    /// Heartbeats that came again from behind the first and those that follow it.
    beats: u64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether enough packets in a row speak for the first that is held.
    fn is_believed(&self) -> bool {
        self.run().0 + self.beats >= BELIEVED
    }

    /// How many packets stand in a row from the first that is held on, up to `BELIEVED`, and the
    /// number behind them.
    fn run(&self) -> (u64, u64) {
        let (mut run, mut next) = (0, None);
        for (&first, packet) in &self.packets {
            if next.is_some_and(|next| first > next) || run == BELIEVED {
                break;
            }
            let after = first.saturating_add(u64::from(packet.count));
            next = Some(next.map_or(after, |next: u64| next.max(after)));
            run += 1;
        }
        (run, next.unwrap_or(0))
    }

    /// Whether nothing but time speaks for the first that is held, far behind message `next`, and
    /// nothing against it.
    fn is_alone(&self, first: u64, next: u64) -> bool {
        first.saturating_sub(next) > FAR && !self.is_believed() && self.levels < BELIEVED
    }

    /// Takes in a packet; the longer one where two have one number. Says whether it was new.
    fn add(&mut self, sequence: u64, packet: HeldPacket) -> bool {
        if self.packets.get(&sequence).is_some_and(|known| known.count >= packet.count) {
            return false;
        }
        if self.packets.first_key_value().is_none_or(|(&first, _)| sequence < first) {
            (self.levels, self.beats) = (0, 0);
        }
        self.bytes += packet.body.len();
        if let Some(shorter) = self.packets.insert(sequence, packet) {
            self.bytes -= shorter.body.len();
        }
        true
    }

    fn pop(&mut self) -> Option<(u64, HeldPacket)> {
        let (sequence, packet) = self.packets.pop_first()?;
        self.bytes -= packet.body.len();
        (self.levels, self.beats) = (0, 0);
        Some((sequence, packet))
    }

    /// Whether the first packet goes on although what is before it is missing.
    fn is_due(&self, ts_recv: i64, next: u64, hold_ns: i64) -> bool {
        let Some((&number, first)) = self.packets.first_key_value() else { return false };
        // As long as packets come from where the session is, nothing was lost before one that has
        // next to none behind it.
        let ts_level = if self.is_believed() { self.ts_moved } else { self.ts_level };
        let since = first.ts_recv.max(self.ts_moved).max(ts_level);
        let hold_ns = if self.is_alone(number, next) { hold_ns.max(QUIET_NS) } else { hold_ns };
        ts_recv.saturating_sub(since) >= hold_ns
            || self.bytes > BYTES_MAX
            || self.packets.len() > PACKETS_MAX
    }

    /// Writes it as part of a state; nothing if there was never a packet that may wait.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            return;
        }
        out.extend_from_slice(&self.ts_moved.to_le_bytes());
        out.extend_from_slice(&self.ts_level.to_le_bytes());
        out.extend_from_slice(&self.levels.to_le_bytes());
        out.extend_from_slice(&self.beats.to_le_bytes());
        for (sequence, packet) in &self.packets {
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&packet.ts_recv.to_le_bytes());
            out.extend_from_slice(&packet.count.to_le_bytes());
            out.extend_from_slice(&[packet.flags, u8::from(packet.ends)]);
            out.extend_from_slice(&(packet.body.len() as u32).to_le_bytes());
            out.extend_from_slice(&packet.body);
        }
    }

    /// Reads what `store` wrote: all of `rest`. The former layout has no heartbeats.
    pub(super) fn load(rest: &mut &[u8], is_former: bool) -> Option<Self> {
        let mut held = Self::default();
        if rest.is_empty() {
            return Some(held);
        }
        held.ts_moved = i64::from_le_bytes(taken(rest)?);
        held.ts_level = i64::from_le_bytes(taken(rest)?);
        let levels = u64_of(rest)?;
        let beats = if is_former { 0 } else { u64_of(rest)? };
        while !rest.is_empty() {
            let sequence = u64_of(rest)?;
            let ts_recv = i64::from_le_bytes(taken(rest)?);
            let count = u16::from_le_bytes(taken(rest)?);
            let [flags, ends] = taken(rest)?;
            let length = u32::from_le_bytes(taken(rest)?) as usize;
            let (body, after) = rest.split_at_checked(length)?;
            *rest = after;
            let (ends, body) = (ends != 0, body.to_vec());
            held.add(sequence, HeldPacket { ts_recv, flags, count, ends, body });
        }
        (held.levels, held.beats) = (levels, beats);
        Some(held)
    }
}

impl Itch {
    /// Takes in a packet of the session.
    pub(super) fn arrange(
        &mut self,
        came: &Came<&[u8]>,
        instruments: &mut Instruments,
        out: &mut Records,
        rejected: &mut Rejected,
    ) -> Result<()> {
        let (packet, ts_recv, body) = (&came.packet, came.ts_recv, came.body);
        if self.session.next == 0 {
            // Of lines, whatever came before the first packet is missing: a session begins with 1.
            self.session.next = if self.session.from_start { 1 } else { packet.sequence };
            self.held.ts_moved = ts_recv;
        }
        let held = HeldPacket {
            ts_recv,
            flags: came.flags,
            count: packet.count,
            ends: packet.ends,
            body: Vec::new(),
        };
        if packet.sequence > self.session.next {
            let held = HeldPacket { body: body.to_vec(), ..held };
            if self.held.add(packet.sequence, held) {
                self.checked(body, rejected)?;
            } else if packet.count == 0 && packet.sequence == self.held.run().1 {
                self.held.beats = self.held.beats.saturating_add(1);
            }
        } else {
            // Also what came late is taken, as long as nothing behind it was passed on.
            let before = self.session.next;
            if packet.after() >= before {
                self.held.ts_level = ts_recv;
                self.held.levels = self.held.levels.saturating_add(1);
            }
            self.pass(packet.sequence, &held, body, instruments, out, rejected)?;
            if self.session.next > before {
                self.held.ts_moved = ts_recv;
            }
        }
        self.release(ts_recv, false, instruments, out, rejected)
    }

    /// Passes on what follows, and what need not wait any more; with `is_over` all that waits.
    pub(super) fn release(
        &mut self,
        ts_recv: i64,
        is_over: bool,
        instruments: &mut Instruments,
        out: &mut Records,
        rejected: &mut Rejected,
    ) -> Result<()> {
        while let Some((&first, _)) = self.held.packets.first_key_value() {
            let follows = first <= self.session.next;
            let (next, hold_ns) = (self.session.next, self.session.hold_ns);
            if !follows && !is_over && !self.held.is_due(ts_recv, next, hold_ns) {
                break;
            }
            // Others came after it where the session was, and next to nothing came behind it.
            let is_wrong = !follows && !self.held.is_believed() && self.held.levels >= BELIEVED;
            let Some((first, packet)) = self.held.pop() else { break };
            if is_wrong {
                rejected.add(Error::decode(DecodeReason::ImplausibleSequence, 10))?;
                continue;
            }
            let mut found = Rejected::NONE;
            self.pass(first, &packet, &packet.body, instruments, out, &mut found)?;
            // What was told when the packet came is not told again.
            let mut told = Rejected::NONE;
            self.checked(&packet.body, &mut told)?;
            if found.count > told.count {
                rejected.count += found.count - told.count;
                rejected.first = rejected.first.or(found.first);
            }
        }
        Ok(())
    }

    /// Decodes the messages of a packet that are not known yet. Those before it, as far as they
    /// are missing, are a gap.
    fn pass(
        &mut self,
        sequence: u64,
        packet: &HeldPacket,
        body: &[u8],
        instruments: &mut Instruments,
        out: &mut Records,
        rejected: &mut Rejected,
    ) -> Result<()> {
        let header = Header {
            flags: packet.flags,
            feed: self.feed as u8,
            ts_event: packet.ts_recv,
            ts_recv: packet.ts_recv,
            ..Header::default()
        };
        let at = PACKET_HEADER;
        let ts_first = self.ts_first(body, at);
        let count = u64::from(packet.count);
        let known = match self.arbitrate(sequence, count, &header, ts_first, out) {
            Ok(known) => known,
            Err(error) => return rejected.add(error),
        };
        self.session.is_over |= packet.ends;
        let mut task = Task { itch: self, instruments, header, ts_last: None, out };
        let found = task.run(body, at, sequence, known)?;
        rejected.count = rejected.count.saturating_add(found.count);
        rejected.first = rejected.first.or(found.first);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
