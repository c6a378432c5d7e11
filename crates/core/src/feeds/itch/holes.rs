//! What is missing of a session at the moment, by the numbers of all packets that came, on whatever
//! line: what is to be asked for again. Sans I/O; it changes nothing of what is decoded. Which
//! session it is, and whether a packet far ahead is believed, is judged as the decoder does.

use std::collections::BTreeMap;

use super::held::FAR;
use super::sessions::{Came, Known, Sessions, Verdict, BELIEVED, QUIET_NS};
use super::times::Times;
use super::wire::{time_of, Blocks, Packet, PACKET_HEADER};
use super::{Carrier, Place};

/// Holes that are known at one time at most; beyond it the oldest are given up.
const HOLES_MAX: usize = 4096;

/// Messages that are missing in a row, by the number of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hole {
    /// Number behind the last.
    end: u64,
    /// When it was noticed.
    since: i64,
    /// When it last became smaller.
    moved: i64,
    /// When it was last asked for; 0: not yet.
    asked: i64,
    /// Packets behind it, up to the next hole.
    behind: u64,
    /// Packets that came directly before it: the session was there after it was noticed.
    before: u64,
}

/// The holes of the session that is received.
#[derive(Debug, Default)]
pub struct Holes {
    /// Its next number is that behind the highest that came.
    session: Known,
    times: Times,
    sessions: Sessions,
    /// What came before the first packet is asked for if it is no more than this.
    start_max: u64,
    holes: BTreeMap<u64, Hole>,
    given_up: u64,
}

impl Holes {
    /// No packet came yet. What came before the first is to be asked for if it is at most
    /// `start_max` messages.
    pub fn new(start_max: u64) -> Self {
        Self { start_max, ..Self::default() }
    }

    /// From now on, what came before the first packet of a session is asked for if it is at most
    /// `start_max` messages.
    pub fn ask_start(&mut self, start_max: u64) {
        self.start_max = start_max;
    }

    /// Takes in what came at `ts_recv` with `context`; what the decoder refuses is passed over.
    pub fn observe(&mut self, context: &[u8], body: &[u8], ts_recv: i64) {
        let Ok(place) = Place::parse(context) else { return };
        let Ok(stream) = place.carrier.stream(body) else { return };
        let (packet, body) = match &stream {
            Some(stream) => (stream.packet, &stream.messages[..]),
            None if place.carrier == Carrier::Packet => match Packet::read(body) {
                Ok(packet) => (packet, body),
                Err(_) => return,
            },
            None => return,
        };
        if packet.check_number().is_err() {
            return;
        }
        if packet.count > 0 && self.sessions.is_silent() {
            self.session.midnight = place.midnight;
        }
        let came = Came { packet, midnight: place.midnight, ts_recv, flags: 0, body };
        match self.sessions.judge(&self.session, &came).0 {
            Verdict::Own => self.take(&packet, body, ts_recv),
            Verdict::Begins => {
                let (known, waited) = self.sessions.begin(&self.session);
                self.session = known;
                self.times = Times::behind(known.ts_last);
                self.holes.clear();
                self.given_up = 0;
                for came in waited {
                    self.take(&came.packet, &came.body, came.ts_recv);
                }
            }
            Verdict::Waits | Verdict::Repeated | Verdict::Stray => {}
        }
    }

    /// Takes in a packet of the session.
    fn take(&mut self, packet: &Packet, body: &[u8], ts: i64) {
        let (sequence, after) = (packet.sequence, packet.after());
        let session = &mut self.session;
        if session.next == 0 {
            session.next = if sequence - 1 <= self.start_max { 1 } else { sequence };
        }
        session.is_over |= packet.ends;
        let messages = Blocks::new(body, PACKET_HEADER).filter(|message| message.len() >= 11);
        if let Some(last) = messages.last() {
            self.times.add(session.midnight.saturating_add_unsigned(time_of(last)), ts);
            session.ts_last = self.times.last();
        }
        if sequence > session.next {
            if self.holes.len() == HOLES_MAX {
                self.give_up_first();
            }
            let hole = Hole { end: sequence, since: ts, moved: ts, asked: 0, behind: 0, before: 0 };
            self.holes.insert(self.session.next, hole);
        } else if !self.holes.is_empty() {
            if let Some((_, hole)) = self.holes.range_mut(sequence..=after).next() {
                hole.before += 1;
            }
            self.fill(sequence, after, ts);
        }
        self.session.next = self.session.next.max(after);
        if packet.count > 0 {
            self.session.seen = self.session.seen.max(after);
        }
        if let Some((_, hole)) = self.holes.range_mut(..sequence).next_back() {
            hole.behind += u64::from(hole.end <= sequence);
        }
    }

    /// Takes messages `first` up to `after` off the holes.
    fn fill(&mut self, first: u64, after: u64, ts: i64) {
        let touched: Vec<_> = self
            .holes
            .range(..after)
            .rev()
            .take_while(|(_, hole)| hole.end > first)
            .map(|(&start, &hole)| (start, hole))
            .collect();
        for (start, hole) in touched {
            self.holes.remove(&start);
            if start < first {
                let behind = if hole.end > after { 0 } else { hole.behind };
                self.holes.insert(start, Hole { end: first, behind, ..hole });
            }
            if hole.end > after {
                let before = if start < first { 1 } else { hole.before };
                self.holes.insert(after, Hole { moved: ts, asked: 0, before, ..hole });
            }
        }
    }

    fn give_up_first(&mut self) {
        if let Some((&start, _)) = self.holes.first_key_value() {
            self.give_up(start);
        }
    }

    fn give_up(&mut self, start: u64) {
        let Some(hole) = self.holes.remove(&start) else { return };
        if hole.behind >= BELIEVED || hole.before < BELIEVED {
            self.given_up += hole.end - start;
            return;
        }
        // The session is before it, and next to nothing is behind it: that strayed here.
        match self.holes.range(start..).next().map(|(&next, _)| next) {
            Some(next) => {
                if let Some(other) = self.holes.remove(&next) {
                    self.holes.insert(start, Hole { before: hole.before, ..other });
                }
            }
            None => {
                self.session.next = start;
                self.session.seen = self.session.seen.min(start);
            }
        }
    }

    /// What is to be asked for at `now`: the first number and how many messages, of at most `most`
    /// holes that are `wait_ns` old and were not asked for in the last `retry_ns`. Holes of which
    /// nothing came for `hold_ns` are given up.
    pub fn due(
        &mut self,
        now: i64,
        wait_ns: i64,
        retry_ns: i64,
        hold_ns: i64,
        most: usize,
    ) -> Vec<(u64, u64)> {
        let mut due = Vec::new();
        let mut old = Vec::new();
        for (&start, hole) in &mut self.holes {
            let is_old = now.saturating_sub(hole.since) >= wait_ns;
            let is_judged = hole.behind >= BELIEVED || hole.before >= BELIEVED;
            let is_alone = hole.end - start > FAR && !is_judged;
            let hold_ns = if is_alone { hold_ns.max(QUIET_NS) } else { hold_ns };
            if now.saturating_sub(hole.moved) >= hold_ns {
                old.push(start);
            } else if is_old && now.saturating_sub(hole.asked) >= retry_ns {
                hole.asked = now;
                due.push((start, hole.end - start));
                if due.len() >= most {
                    break;
                }
            }
        }
        for start in old {
            self.give_up(start);
        }
        due
    }

    /// The session that is received.
    pub const fn session(&self) -> &[u8; 10] {
        &self.session.name
    }

    /// Number of the next message.
    pub const fn next(&self) -> u64 {
        self.session.next
    }

    /// Whether its sender ended the session, and nothing is missing any more.
    pub fn is_over(&self) -> bool {
        self.session.is_over && self.holes.is_empty()
    }

    /// Messages that are missing now, and those that were given up.
    pub fn missing(&self) -> (u64, u64) {
        (self.holes.iter().map(|(start, hole)| hole.end - start).sum(), self.given_up)
    }
}

#[cfg(test)]
mod tests;
