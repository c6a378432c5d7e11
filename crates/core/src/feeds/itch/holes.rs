//! What is missing of a session of MoldUDP64 at the moment, by the headers of all packets that
//! came, on whatever line: what is to be asked for again. Sans I/O; it changes nothing of what is
//! decoded.

use std::collections::BTreeMap;

use super::held::SESSION_QUIET_NS;
use super::wire::{u16_at, u64_at, PACKET_HEADER};
use super::JUMP_MAX;

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
}

/// The holes of the session that is received.
#[derive(Debug, Default)]
pub struct Holes {
    session: [u8; 10],
    /// Number behind the highest that came; 0: nothing came yet.
    end: u64,
    /// What came before the first packet is asked for if it is no more than this.
    start_max: u64,
    holes: BTreeMap<u64, Hole>,
    heard: i64,
    is_over: bool,
    given_up: u64,
}

impl Holes {
    /// No packet came yet. What came before the first is to be asked for if it is at most
    /// `start_max` messages.
    pub fn new(start_max: u64) -> Self {
        Self { start_max, ..Self::default() }
    }

    /// Takes in a packet that came at `ts`; what is none is passed over.
    pub fn observe(&mut self, packet: &[u8], ts: i64) {
        if packet.len() < PACKET_HEADER {
            return;
        }
        let (session, sequence) = (&packet[..10], u64_at(packet, 10));
        let told = u16_at(packet, 18);
        let (ends, count) = if told == u16::MAX { (true, 0) } else { (false, told) };
        if session != self.session {
            let is_gone = ts.saturating_sub(self.heard) >= SESSION_QUIET_NS;
            if self.end != 0 && !self.is_over && !is_gone {
                return;
            }
            *self = Self::new(self.start_max);
            self.session.copy_from_slice(session);
        }
        let Some(after) = sequence.checked_add(u64::from(count)).filter(|_| sequence != 0) else {
            return;
        };
        if self.end == 0 {
            self.end = if sequence - 1 <= self.start_max { 1 } else { sequence };
        }
        if sequence.saturating_sub(self.end) > JUMP_MAX {
            return;
        }
        (self.heard, self.is_over) = (ts, self.is_over || ends);
        if sequence > self.end {
            if self.holes.len() == HOLES_MAX {
                self.give_up_first();
            }
            self.holes.insert(self.end, Hole { end: sequence, since: ts, moved: ts, asked: 0 });
        } else if !self.holes.is_empty() {
            self.fill(sequence, after, ts);
        }
        self.end = self.end.max(after);
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
                self.holes.insert(start, Hole { end: first, ..hole });
            }
            if hole.end > after {
                self.holes.insert(after, Hole { moved: ts, asked: 0, ..hole });
            }
        }
    }

    fn give_up_first(&mut self) {
        if let Some((start, hole)) = self.holes.pop_first() {
            self.given_up += hole.end - start;
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
            let hole = self.holes.remove(&start);
            self.given_up += hole.map_or(0, |hole| hole.end - start);
        }
        due
    }

    /// The session that is received.
    pub const fn session(&self) -> &[u8; 10] {
        &self.session
    }

    /// Number of the next message.
    pub const fn next(&self) -> u64 {
        self.end
    }

    /// Whether its sender ended the session, and nothing is missing any more.
    pub fn is_over(&self) -> bool {
        self.is_over && self.holes.is_empty()
    }

    /// Messages that are missing now, and those that were given up.
    pub fn missing(&self) -> (u64, u64) {
        (self.holes.iter().map(|(start, hole)| hole.end - start).sum(), self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(session: u8, sequence: u64, count: u16) -> Vec<u8> {
        let mut bytes = vec![session; 10];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_missing_is_asked_for_until_it_comes_or_is_given_up() {
        let mut holes = Holes::new(100);
        holes.observe(&packet(1, 3, 2), 1_000);
        holes.observe(&packet(1, 10, 5), 1_001);
        assert_eq!(holes.due(1_001, 0, 50, 500, 9), [(1, 2), (5, 5)]);
        assert_eq!(holes.due(1_020, 0, 50, 500, 9), []);
        assert_eq!(holes.due(1_060, 0, 50, 500, 1), [(1, 2)]);
        // The middle of a hole, then a packet over all of it.
        holes.observe(&packet(1, 6, 1), 1_100);
        assert_eq!(holes.missing(), (2 + 1 + 3, 0));
        assert_eq!(holes.due(1_110, 0, 500, 500, 9), [(7, 3)]);
        holes.observe(&packet(1, 4, 9), 1_200);
        assert_eq!(holes.missing(), (2, 0));
        assert_eq!(holes.due(1_500, 0, 50, 500, 9), []);
        assert_eq!((holes.missing(), holes.next()), ((0, 2), 15));
        // A heartbeat tells of what is missing at the end; another session is not believed.
        holes.observe(&packet(1, 20, 0), 1_600);
        holes.observe(&packet(2, 1, 1), 1_601);
        assert_eq!(holes.missing(), (5, 2));
        holes.observe(&packet(1, 20, u16::MAX), 1_602);
        assert!(!holes.is_over());
        holes.observe(&packet(1, 15, 5), 1_603);
        assert!(holes.is_over());
        holes.observe(&packet(2, 1_000, 1), 1_700);
        assert_eq!((holes.missing(), holes.next()), ((0, 0), 1_001));
    }
}
