//! NASDAQ TotalView-ITCH 5.0: whole days from files, packets of MoldUDP64, and SoupBinTCP.
//!
//! A blob is a run of messages: a piece of a file, one packet, or a piece of a stream. Messages
//! have numbers, which say what comes again (dropped) and what is missing (a gap). Orders that are
//! open are kept, as most messages name no more of an order than its id. The day is not in the
//! stream: the context of a blob says when it began, and of lines that are recorded how long a
//! packet waits for those before it (see `held`). After a loss, or if the start of the day is not
//! there, orders may be unknown: then all records are flagged (`FLAG_MAYBE_BAD`) up to the start of
//! the next day.

use super::{Corrections, Descriptor, Feed, FeedId, Framing, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, BlobKind, Channel, Header, Records, NONE};
use crate::sequencing::{Continuity, Rule, Rules};

mod decode;
mod encode;
mod held;
mod holes;
mod imbalance;
mod numbers;
mod resting;
mod sessions;
mod soup;
mod stocks;
mod times;
mod wire;

use self::decode::Task;
use self::held::Held;
use self::resting::Resting;
use self::sessions::{Came, Sessions};
use self::soup::Stream;
use self::times::Times;
use self::wire::{Blocks, Packet, PACKET_HEADER};
pub use holes::Holes;
pub use wire::Run;

/// NASDAQ ITCH 5.0. Its decoder knows repeats and losses by the numbers of messages, so nothing is
/// left to do behind it; it has no books by price of its own.
pub const ITCH: Descriptor = Descriptor {
    id: FeedId::Itch,
    continuity: Continuity::Chained,
    rules: Rules::USUAL.with(Channel::Trade, Rule::Free),
    counts_updates: false,
    framing: Framing::Session,
    live_unit_ns: 1,
    updates: None,
    corrections: Corrections::Counted,
    page_mark: b"",
    news: None,
    build: |id| Box::new(Itch::new(id)),
};

/// A jump of message numbers by more is not believed: no day has so many messages.
const JUMP_MAX: u64 = 1 << 32;
/// Bit of a state: it tells the times of packets, and what speaks for those that are held.
const LAYOUT_2: u8 = 2;

/// How the messages of a blob lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// A piece of a file; the number of its first message.
    File(u64),
    /// A packet of MoldUDP64.
    Packet,
    /// Packets of SoupBinTCP; their session, and the number of their first message.
    Soup([u8; 10], u64),
}

impl Carrier {
    /// The messages of packets of SoupBinTCP, as MoldUDP64 would have sent them.
    fn stream(self, body: &[u8]) -> Result<Option<Stream>> {
        let Self::Soup(session, first) = self else { return Ok(None) };
        soup::packet(body, session, first).map(Some)
    }
}

/// Where a decoder stands in its session: all but its instruments and orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Session {
    /// What the contexts of its blobs start with.
    context: Vec<u8>,
    /// Its name in packets.
    name: [u8; 10],
    /// Start of its day, in ns since the epoch.
    midnight: i64,
    /// How long packets wait for those before them; 0: not at all.
    hold_ns: i64,
    /// Whether it is recorded from its first message on, so that what is not there is missing.
    from_start: bool,
    /// Number of the next message; 0 before the first.
    next: u64,
    /// Number behind the last message that came.
    seen: u64,
    /// When its messages happened.
    times: Times,
    /// Latest event time of the messages of a file, which stands for their receipt.
    ts_last: i64,
    /// Nothing is missing since the start of the day.
    is_whole: bool,
    /// It was ended by its sender.
    is_over: bool,
}

/// What a stock locate stands for.
#[derive(Debug, Clone, Copy, Default)]
struct Stock {
    /// Its symbol as messages have it, 0 until one of them was compared.
    named: u64,
    /// 0 where it is not known.
    instrument: u32,
}

/// The wire format of ITCH 5.0.
#[derive(Debug)]
pub struct Itch {
    feed: FeedId,
    session: Session,
    /// By stock locate.
    stocks: Vec<Stock>,
    resting: Resting,
    sessions: Sessions,
    held: Held,
}

impl Itch {
    /// A decoder and encoder that saw nothing yet.
    pub fn new(feed: FeedId) -> Self {
        Self {
            feed,
            session: Session::default(),
            stocks: Vec::new(),
            resting: Resting::default(),
            sessions: Sessions::default(),
            held: Held::default(),
        }
    }

    /// Number of orders that are open.
    pub const fn open_orders(&self) -> usize {
        self.resting.len()
    }

    /// Forgets the day: orders, instruments by locate.
    fn begin_day(&mut self) {
        self.resting.clear();
        self.stocks.clear();
        self.stocks.resize(1 << 16, Stock::default());
    }

    fn enter(&mut self, place: &Place<'_>) {
        let session = &mut self.session;
        if session.context == place.session {
            return;
        }
        if session.from_start && place.from_start {
            // A session of lines goes on over midnight, and under other settings.
            session.context = place.session.to_vec();
            session.hold_ns = place.hold_ns;
            return;
        }
        *session = Session {
            context: place.session.to_vec(),
            midnight: place.midnight,
            hold_ns: place.hold_ns,
            from_start: place.from_start,
            ..Session::default()
        };
        self.sessions = Sessions::default();
        self.held = Held::default();
        self.begin_day();
    }

    fn binary(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let place = Place::parse(blob.context)?;
        let stream = place.carrier.stream(blob.body)?;
        let mut rejected = stream.as_ref().map_or(Rejected::NONE, |stream| stream.unknown);
        let goes_on = place.from_start && self.session.from_start;
        if !self.held.is_empty() && !goes_on && place.session != self.session.context {
            self.release(blob.header.ts_recv, true, instruments, out, &mut rejected)?;
        }
        self.enter(&place);
        let carrier = place.carrier;
        let header = Header {
            flags: blob.header.flags as u8,
            feed: self.feed as u8,
            ts_event: blob.header.ts_recv,
            ts_recv: blob.header.ts_recv,
            ..Header::default()
        };
        let mut body = blob.body;
        let (at, sequence, count) = match carrier {
            // What goes on where the last piece ended repeats nothing and misses nothing, however
            // much it is: it is counted as it is decoded.
            Carrier::File(sequence) if self.goes_on_at(sequence) => (0, sequence, 0),
            Carrier::File(sequence) => (0, sequence, Blocks::new(body, 0).count() as u64),
            Carrier::Packet | Carrier::Soup(..) => {
                let packet = match &stream {
                    Some(stream) => {
                        body = &stream.messages;
                        stream.packet
                    }
                    None => Packet::read(body)?,
                };
                // Captures without numbers have no order but their own.
                if self.session.hold_ns > 0 && (packet.sequence > 0 || self.session.from_start) {
                    let (ts_recv, flags) = (header.ts_recv, header.flags);
                    let came = Came { packet, midnight: place.midnight, ts_recv, flags, body };
                    rejected.join(self.line(&came, instruments, out)?);
                    return Ok(rejected);
                }
                self.enter_packet(&packet)?;
                self.session.is_over |= packet.ends;
                (PACKET_HEADER, packet.sequence, u64::from(packet.count))
            }
        };
        let ts_first = self.ts_first(body, at);
        let known = self.arbitrate(sequence, count, &header, ts_first, out)?;
        let mut task = Task {
            itch: self,
            instruments,
            header,
            // A file has no receive times: what happened stands for them.
            ts_last: matches!(carrier, Carrier::File(_)).then_some(header.ts_recv),
            out,
        };
        rejected.join(task.run(body, at, sequence, known)?);
        Ok(rejected)
    }

    /// Whether a message of that number is the next.
    const fn goes_on_at(&self, sequence: u64) -> bool {
        sequence == self.session.next && 0 < sequence && sequence <= JUMP_MAX
    }

    /// When the first of the messages of `body` from `at` on happened, if it tells.
    fn ts_first(&self, body: &[u8], at: usize) -> Option<i64> {
        let first = Blocks::new(body, at).next()?;
        decode::ts_of(first, self.session.midnight)
    }

    /// Counts the messages of a packet whose type, length or time cannot be.
    fn checked(&self, body: &[u8], rejected: &mut Rejected) -> Result<()> {
        let mut blocks = Blocks::new(body, PACKET_HEADER);
        let mut start = PACKET_HEADER;
        while let Some(message) = blocks.next() {
            if let Err(error) = decode::check(message, self.session.midnight) {
                let (reason, byte) = error.of_frame().ok_or(error)?;
                rejected.add(Error::decode(reason, start + 2 + byte))?;
            }
            start = blocks.at;
        }
        Ok(())
    }
}

/// What the context of a blob says.
struct Place<'a> {
    session: &'a [u8],
    midnight: i64,
    hold_ns: i64,
    from_start: bool,
    carrier: Carrier,
}

impl<'a> Place<'a> {
    /// Reads `file?name=NAME&midnight=NS&sequence=NUMBER`, `moldudp64?midnight=NS`, with
    /// `reorder_ms=MS&` before the time of a capture whose packets may wait for each other, and
    /// `hold_ms=MS&` of lines that are recorded: then also what came before the first is missing.
    /// Behind that of lines, `&soupbintcp=SESSION:NUMBER` is of a line over SoupBinTCP.
    fn parse(context: &'a [u8]) -> Result<Self> {
        let missing = || Error::decode(DecodeReason::UnknownStream, 0);
        let text = std::str::from_utf8(context).map_err(|_| missing())?;
        let (text, stream) = match text.rsplit_once("&soupbintcp=") {
            Some((lines, stream)) => (lines, Some(stream)),
            None => (text, None),
        };
        let (session, carrier) = match text.rsplit_once("&sequence=") {
            Some((session, number)) if text.starts_with("file?") && stream.is_none() => {
                (session, Carrier::File(number.parse().map_err(|_| missing())?))
            }
            None if text.starts_with("moldudp64?hold_ms=") && stream.is_some() => {
                let place = stream.and_then(|stream| stream.rsplit_once(':'));
                let (name, first) = place.ok_or_else(missing)?;
                let first = first.parse().map_err(|_| missing())?;
                (text, Carrier::Soup(soup::session(name).ok_or_else(missing)?, first))
            }
            None if text.starts_with("moldudp64?") && stream.is_none() => (text, Carrier::Packet),
            _ => return Err(missing()),
        };
        let (_, midnight) = session.rsplit_once("midnight=").ok_or_else(missing)?;
        let midnight: i64 = midnight.parse().map_err(|_| missing())?;
        // A day behind it must fit.
        if midnight.checked_add(wire::TIME_MAX as i64 + 1).is_none_or(|end| end == NONE) {
            return Err(missing());
        }
        let lines = session.strip_prefix("moldudp64?hold_ms=");
        let waits = lines.or_else(|| session.strip_prefix("moldudp64?reorder_ms="));
        let hold = waits.and_then(|rest| rest.split_once('&'));
        let hold_ms: u32 = hold.map_or(Ok(0), |(ms, _)| ms.parse().map_err(|_| missing()))?;
        let hold_ns = i64::from(hold_ms) * 1_000_000;
        let from_start = lines.is_some();
        Ok(Self { session: session.as_bytes(), midnight, hold_ns, from_start, carrier })
    }
}

impl Feed for Itch {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        if blob.header.kind == BlobKind::Binary as u8 {
            return self.binary(blob, instruments, out);
        }
        Err(Error::decode(DecodeReason::UnknownEvent, 0))
    }

    fn settle(
        &mut self,
        ts_recv: i64,
        is_over: bool,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mut rejected = Rejected::NONE;
        self.release(ts_recv, is_over, instruments, out, &mut rejected)?;
        for _ in 0..if is_over { self.sessions.drop_waiting() } else { 0 } {
            rejected.add(Error::decode(DecodeReason::ImplausibleSequence, 0))?;
        }
        Ok(rejected)
    }

    fn encode(
        &mut self,
        event: &Records,
        instruments: &Instruments,
        _: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        encode::event(event, instruments, self.session.midnight, out)
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let session = &self.session;
        out.extend_from_slice(&(session.context.len() as u32).to_le_bytes());
        out.extend_from_slice(&session.context);
        out.extend_from_slice(&session.name);
        out.extend_from_slice(&session.midnight.to_le_bytes());
        out.extend_from_slice(&session.next.to_le_bytes());
        out.extend_from_slice(&session.seen.to_le_bytes());
        out.extend_from_slice(&session.ts_last.to_le_bytes());
        let is_whole = u8::from(session.is_whole) | LAYOUT_2;
        out.extend_from_slice(&[is_whole, u8::from(session.is_over)]);
        session.times.store(out);
        let known = self.stocks.iter().map(|stock| stock.instrument).enumerate();
        let known = known.filter(|(_, id)| *id != 0);
        out.extend_from_slice(&(known.clone().count() as u32).to_le_bytes());
        for (locate, id) in known {
            out.extend_from_slice(&(locate as u16).to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        self.resting.store(out);
        self.sessions.store(out);
        self.held.store(out);
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        *self = Self::new(self.feed);
        if state.is_empty() {
            return Ok(());
        }
        self.load(state).ok_or_else(|| Error::invalid("expected a state of the feed itch, whole"))
    }
}

impl Itch {
    fn load(&mut self, mut state: &[u8]) -> Option<()> {
        let rest = &mut state;
        let length = u32::from_le_bytes(taken(rest)?) as usize;
        let (context, after) = rest.split_at_checked(length)?;
        *rest = after;
        let nowhere = Place {
            session: b"",
            midnight: 0,
            hold_ns: 0,
            from_start: false,
            carrier: Carrier::Packet,
        };
        let place = Place::parse(context).unwrap_or(nowhere);
        self.session = Session {
            context: context.to_vec(),
            name: taken(rest)?,
            midnight: i64::from_le_bytes(taken(rest)?),
            next: u64_of(rest)?,
            seen: u64_of(rest)?,
            ts_last: i64::from_le_bytes(taken(rest)?),
            hold_ns: place.hold_ns,
            from_start: place.from_start,
            ..Session::default()
        };
        let [is_whole, is_over] = taken(rest)?;
        (self.session.is_whole, self.session.is_over) = (is_whole & 1 != 0, is_over != 0);
        let is_former = is_whole & LAYOUT_2 == 0;
        self.session.times =
            if is_former { Times::behind(self.session.ts_last) } else { Times::load(rest)? };
        self.begin_day();
        for _ in 0..u32::from_le_bytes(taken(rest)?) {
            let locate = u16::from_le_bytes(taken(rest)?);
            self.stocks[usize::from(locate)].instrument = u32::from_le_bytes(taken(rest)?);
        }
        self.resting = Resting::load(rest)?;
        self.sessions = Sessions::load(rest)?;
        self.held = Held::load(rest, is_former)?;
        rest.is_empty().then_some(())
    }
}

/// The next bytes of a state.
fn taken<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*found)
}

/// The next number of a state.
fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    taken(rest).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
