//! Which session is received: one rule for what is decoded and for what is asked for again.
//!
//! A session stays until its sender ended it or nothing of it came for a while, and then another is
//! believed only after several packets that fit to each other, which wait until then. So a packet
//! that strayed here changes nothing. Sessions that are over are remembered: what comes again of
//! them is known. One whose name comes again with later times than it had is another one.

use super::times::Times;
use super::wire::{time_of, Blocks, Packet, PACKET_HEADER};
use super::{taken, u64_of, Held, Itch, Rejected, Session};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::Records;

/// So many packets that fit to each other are believed against what does not fit to them.
pub(super) const BELIEVED: u64 = 3;
/// After so long without a packet of a session that was not ended, another one may follow.
pub(super) const QUIET_NS: i64 = 10_000_000_000;
/// Packets of one session that come one after another are no further apart.
const NEAR: u64 = 1 << 16;
/// Packets that wait at most until their session is believed.
const WAITING_MAX: usize = 16;
/// Sessions of the past that are remembered.
const PAST_MAX: usize = 4;
/// The clock of the host may be late by so much.
pub(super) const CLOCK_NS: i64 = 60_000_000_000;

/// A session, as far as it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: [u8; 10],
    /// Number of its next message; 0 before its first packet.
    pub(super) next: u64,
    /// Number behind the last message that came: what is behind it was only told of.
    pub(super) seen: u64,
    /// When the last of its messages happened, as [`Times::last`] says.
    pub(super) ts_last: i64,
    /// Start of its day.
    pub(super) midnight: i64,
    /// Its sender ended it.
    pub(super) is_over: bool,
}

/// A packet, and how it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Came<B> {
    pub(super) packet: Packet,
    /// Start of the day of its receipt.
    pub(super) midnight: i64,
    pub(super) ts_recv: i64,
    pub(super) flags: u8,
    pub(super) body: B,
}

/// What a packet is to the session that is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is of the session.
    Own,
    /// It came before, of a session that is over.
    Repeated,
    /// It may be of another session, which is not believed yet.
    Waits,
    /// It is of another session, whose packets that waited are now to be taken.
    Begins,
    /// It is of another session while this one goes on, or says nothing.
    Stray,
}

/// What tells sessions apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    /// When the last packet came from where the session is.
    ts_heard: i64,
    /// Packets with messages that came of it.
    heard: u64,
    /// Packets of the session that may follow.
    waiting: Vec<Came<Vec<u8>>>,
    /// Packets that speak for it.
    agreed: u64,
    /// The oldest first.
    past: Vec<Known>,
}

impl Known {
    /// Whether a packet under its name is of a later session.
    fn is_left_behind_by(&self, came: &Came<&[u8]>) -> bool {
        let ts = |midnight: i64, time| midnight.saturating_add_unsigned(time);
        let is_new_day = came.midnight > self.midnight;
        (came.packet.sequence..).zip(Blocks::new(came.body, PACKET_HEADER)).any(
            |(number, message)| {
                message.len() >= 11 && {
                    let time = time_of(message);
                    let is_past = ts(came.midnight, time) <= came.ts_recv.saturating_add(CLOCK_NS);
                    is_new_day && is_past
                        || number < self.seen && ts(self.midnight, time) > self.ts_last
                }
            },
        )
    }
}

impl Sessions {
    /// Whether enough came of the session that it was none that strayed here.
    pub(super) const fn is_believed(&self) -> bool {
        self.heard >= BELIEVED
    }

    /// Whether nothing but heartbeats came of the session.
    pub(super) const fn is_silent(&self) -> bool {
        self.heard == 0
    }

    /// Says what a packet is to the session `current`, and how many that waited strayed here.
    pub(super) fn judge(&mut self, current: &Known, came: &Came<&[u8]>) -> (Verdict, usize) {
        let packet = &came.packet;
        let (after, has_messages) = (packet.after(), packet.count > 0);
        let is_own = packet.session == current.name;
        let is_quiet = came.ts_recv.saturating_sub(self.ts_heard) >= QUIET_NS;
        let is_done = current.is_over || is_quiet;
        let fits = self.fits(packet);
        if current.next == 0 {
            return (self.wait(came), 0);
        }
        let is_again =
            is_own && is_done && if has_messages { current.is_left_behind_by(came) } else { fits };
        if is_own && !is_again {
            if after >= current.next {
                self.ts_heard = came.ts_recv;
            }
            self.heard = self.heard.saturating_add(u64::from(has_messages));
            let goes_on = has_messages && after > current.next;
            return (Verdict::Own, if goes_on { self.drop_waiting() } else { 0 });
        }
        let past = self.past.iter().find(|past| past.name == packet.session && !is_own);
        let is_repeated = past.is_some_and(|past| {
            after <= past.next && !(has_messages && past.is_left_behind_by(came))
        });
        if is_repeated {
            return (Verdict::Repeated, 0);
        }
        // Of a session that began unseen, heartbeats alone may come: they speak for it, but neither
        // beside one that goes on, nor against messages that wait.
        let speaks = has_messages || fits;
        let is_open = is_done || speaks && !self.is_believed();
        if !is_open || !speaks && self.has_waiting(came.ts_recv) {
            return (Verdict::Stray, 0);
        }
        let strayed = if fits { 0 } else { self.drop_waiting() };
        (self.wait(came), strayed)
    }

    /// Whether a packet is of the same run as those that wait.
    fn fits(&self, packet: &Packet) -> bool {
        let is_one = |other: &Packet| other.session == packet.session;
        self.waiting.first().is_some_and(|first| is_one(&first.packet))
            && packet.sequence.abs_diff(self.waiting_next()) <= NEAR
    }

    /// Whether messages wait, of a short while ago.
    fn has_waiting(&self, ts_recv: i64) -> bool {
        self.waiting
            .iter()
            .any(|other| other.packet.count > 0 && ts_recv.saturating_sub(other.ts_recv) < QUIET_NS)
    }

    fn waiting_next(&self) -> u64 {
        self.waiting.iter().map(|came| came.packet.after()).max().unwrap_or(0)
    }

    pub(super) fn drop_waiting(&mut self) -> usize {
        self.agreed = 0;
        std::mem::take(&mut self.waiting).len()
    }

    fn wait(&mut self, came: &Came<&[u8]>) -> Verdict {
        let packet = came.packet;
        let is_first = self.waiting.is_empty();
        let is_known = self.waiting.iter().any(|other| {
            other.packet.sequence <= packet.sequence && packet.after() <= other.packet.after()
        });
        let is_heartbeat = packet.count == 0 && packet.sequence == self.waiting_next();
        if is_first || !is_known || packet.ends {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push(came.to_owned());
            }
            self.agreed += 1;
        } else {
            self.agreed += u64::from(is_heartbeat);
        }
        if self.agreed >= BELIEVED || self.is_silent() {
            return Verdict::Begins;
        }
        Verdict::Waits
    }

    /// Goes over from `current` to the session that waits. Gives how far that one came before, and
    /// its packets.
    pub(super) fn begin(&mut self, current: &Known) -> (Known, Vec<Came<Vec<u8>>>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.agreed = 0;
        waiting.sort_by_key(|came| came.packet.sequence);
        let Some(first) = waiting.iter().find(|came| came.packet.count > 0).or(waiting.first())
        else {
            return (*current, waiting);
        };
        let name = first.packet.session;
        let anew = Known { name, midnight: first.midnight, ..Known::default() };
        let known = self.past.iter().find(|past| past.name == name && name != current.name);
        let known = known.filter(|past| !past.is_left_behind_by(&first.as_ref())).copied();
        if !self.is_silent() {
            self.past.retain(|past| past.name != current.name);
            self.past.push(*current);
        }
        self.past.retain(|past| past.name != name);
        if self.past.len() > PAST_MAX {
            self.past.remove(0);
        }
        self.ts_heard = waiting.iter().map(|came| came.ts_recv).max().unwrap_or(0);
        self.heard = waiting.iter().filter(|came| came.packet.count > 0).count() as u64;
        (known.map_or(anew, |past| Known { is_over: false, ..past }), waiting)
    }

    /// Writes it as part of a state.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ts_heard.to_le_bytes());
        out.extend_from_slice(&self.heard.to_le_bytes());
        out.extend_from_slice(&self.agreed.to_le_bytes());
        out.extend_from_slice(&[self.past.len() as u8, self.waiting.len() as u8]);
        for past in &self.past {
            out.extend_from_slice(&past.name);
            out.extend_from_slice(&past.next.to_le_bytes());
            out.extend_from_slice(&past.seen.to_le_bytes());
            out.extend_from_slice(&past.ts_last.to_le_bytes());
            out.extend_from_slice(&past.midnight.to_le_bytes());
            out.push(u8::from(past.is_over));
        }
        for came in &self.waiting {
            out.extend_from_slice(&came.packet.session);
            out.extend_from_slice(&came.packet.sequence.to_le_bytes());
            out.extend_from_slice(&came.packet.count.to_le_bytes());
            out.extend_from_slice(&came.midnight.to_le_bytes());
            out.extend_from_slice(&came.ts_recv.to_le_bytes());
            out.extend_from_slice(&[u8::from(came.packet.ends), came.flags]);
            out.extend_from_slice(&(came.body.len() as u32).to_le_bytes());
            out.extend_from_slice(&came.body);
        }
    }

    /// Reads what `store` wrote.
    pub(super) fn load(rest: &mut &[u8]) -> Option<Self> {
        let mut found = Self {
            ts_heard: i64::from_le_bytes(taken(rest)?),
            heard: u64_of(rest)?,
            agreed: u64_of(rest)?,
            ..Self::default()
        };
        let [past, waiting] = taken(rest)?;
        for _ in 0..past {
            found.past.push(Known {
                name: taken(rest)?,
                next: u64_of(rest)?,
                seen: u64_of(rest)?,
                ts_last: i64::from_le_bytes(taken(rest)?),
                midnight: i64::from_le_bytes(taken(rest)?),
                is_over: taken::<1>(rest)?[0] != 0,
            });
        }
        for _ in 0..waiting {
            let (session, sequence) = (taken(rest)?, u64_of(rest)?);
            let count = u16::from_le_bytes(taken(rest)?);
            let midnight = i64::from_le_bytes(taken(rest)?);
            let ts_recv = i64::from_le_bytes(taken(rest)?);
            let [ends, flags] = taken(rest)?;
            let length = u32::from_le_bytes(taken(rest)?) as usize;
            let (body, after) = rest.split_at_checked(length)?;
            *rest = after;
            let packet = Packet { session, sequence, count, ends: ends != 0 };
            found.waiting.push(Came { packet, midnight, ts_recv, flags, body: body.to_vec() });
        }
        Some(found)
    }
}

impl Came<&[u8]> {
    fn to_owned(&self) -> Came<Vec<u8>> {
        let &Came { packet, midnight, ts_recv, flags, body } = self;
        Came { packet, midnight, ts_recv, flags, body: body.to_vec() }
    }
}

impl Came<Vec<u8>> {
    pub(super) fn as_ref(&self) -> Came<&[u8]> {
        let &Came { packet, midnight, ts_recv, flags, ref body } = self;
        Came { packet, midnight, ts_recv, flags, body }
    }
}

impl Itch {
    /// Takes in the name of the session of a packet that waits for none, or has no number.
    pub(super) fn enter_packet(&mut self, packet: &Packet) -> Result<()> {
        if self.session.name == packet.session {
            return Ok(());
        }
        if self.session.next != 0 && !self.session.is_over {
            // Two at once: the orders of one mean nothing in the other.
            return Err(Error::decode(DecodeReason::ImplausibleSequence, 0));
        }
        let midnight = self.session.midnight;
        self.begin_session(&Known { name: packet.session, midnight, ..Known::default() });
        Ok(())
    }

    fn begin_session(&mut self, known: &Known) {
        let session = &mut self.session;
        *session = Session {
            context: std::mem::take(&mut session.context),
            hold_ns: session.hold_ns,
            from_start: session.from_start,
            name: known.name,
            midnight: known.midnight,
            next: known.next,
            seen: known.seen,
            times: Times::behind(known.ts_last),
            ..Session::default()
        };
        self.held = Held::default();
        self.begin_day();
    }

    /// The session as others are told from it.
    fn known(&self) -> Known {
        let &Session { name, next, seen, midnight, is_over, .. } = &self.session;
        let ts_last = self.session.times.last();
        Known { name, next, seen, ts_last, midnight, is_over }
    }

    /// Takes in a packet of a session whose packets may wait for each other, or of another one.
    pub(super) fn line(
        &mut self,
        came: &Came<&[u8]>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let stray = || Error::decode(DecodeReason::ImplausibleSequence, 0);
        came.packet.check_number()?;
        if came.packet.count > 0 && self.sessions.is_silent() {
            // The day is that of the first messages, not of heartbeats.
            self.session.midnight = came.midnight;
        }
        let (verdict, strayed) = self.sessions.judge(&self.known(), came);
        let mut rejected = Rejected::NONE;
        (0..strayed).try_for_each(|_| rejected.add(stray()))?;
        match verdict {
            Verdict::Own => self.arrange(came, instruments, out, &mut rejected)?,
            Verdict::Begins => {
                if self.sessions.is_believed() {
                    self.release(came.ts_recv, true, instruments, out, &mut rejected)?;
                }
                let (known, waited) = self.sessions.begin(&self.known());
                self.begin_session(&known);
                for came in &waited {
                    self.arrange(&came.as_ref(), instruments, out, &mut rejected)?;
                }
            }
            Verdict::Waits | Verdict::Repeated => {}
            Verdict::Stray => return Err(stray()),
        }
        Ok(rejected)
    }
}
