//! Deals the records of one source to shards, each with the time that it had on the tape.

use super::frame::FrameWriter;
use super::instance::Instance;
use super::queues::Queues;
use super::Plan;
use crate::error::{Error, Result};
use crate::instrument::INSTRUMENTS_MAX;
use crate::processors::bars::{after, Watermark};
use crate::processors::metrics::OrderSequence;
use crate::processors::state::{StateReader, StateWriter};
use crate::protobuf::Decoder;
use crate::record::{
    records, Channel, Header, Marker, MarkerCode, Order, Plain, Record, RecordRef, Records, NONE,
    ORDERS_BEGIN,
};

const NAME: &str = "router";
const VERSION: u32 = 2;
/// A time that is not near the last one is believed when it was told so often; see [`Watermark`].
const TOLD_MAX: u32 = 4;

/// Deals the records of one source.
pub struct Router {
    plan: Plan,
    source: String,
    shards: u32,
    /// The next offset of the tape; none before the first.
    next: Option<u64>,
    watermark: Watermark,
    orders: OrderSequence,
    grids: Vec<(i64, i64)>,
    /// The next receive time at which a processor may have something due.
    due: i64,
    /// What an instrument begins with: it saw all that concerns all.
    unseen: Instance,
    /// By instrument, the time as its processors know it; at 0 that of `unseen`.
    views: Vec<Option<Watermark>>,
    queues: Queues,
    /// Records that had been dealt before.
    repeated: u64,
    frames: Vec<FrameWriter>,
    /// Shards that have instruments, in order of their first one.
    active: Vec<u32>,
    decoded: Records,
}

impl Router {
    /// A router of `source` to `shards` shards, a power of two.
    ///
    /// # Errors
    /// `Error::Invalid`: the number of shards is no power of two, or above 32,768.
    pub fn new(plan: &Plan, source: &str, shards: u32) -> Result<Self> {
        if !shards.is_power_of_two() || shards > 1 << 15 {
            return Err(Error::invalid(format!(
                "expected a number of shards that is a power of two up to 32768, got {shards}"
            )));
        }
        let unseen = Instance::new(plan, 0)?;
        let mut router = Self {
            plan: plan.clone(),
            source: source.to_owned(),
            shards,
            next: None,
            watermark: Watermark::default(),
            orders: OrderSequence::default(),
            grids: unseen.due_grids(),
            due: i64::MIN,
            unseen,
            views: Vec::new(),
            queues: Queues::default(),
            repeated: 0,
            frames: Vec::new(),
            active: Vec::new(),
            decoded: Records::new(),
        };
        router.frames.resize_with(shards as usize, FrameWriter::default);
        Ok(router)
    }

    /// The shard of an instrument: those that follow each other by number lie far apart, so that
    /// each part of a row of shards gets its share of few instruments, too.
    pub fn shard_of(&self, instrument: u32) -> u32 {
        let bits = self.shards.trailing_zeros();
        let mixed = (instrument % self.shards).reverse_bits().checked_shr(32 - bits).unwrap_or(0);
        (mixed + crc32c::crc32c(self.source.as_bytes()) % self.shards) % self.shards
    }

    /// The receive time up to which all was dealt; `i64::MIN` before the first record.
    pub const fn watermark(&self) -> i64 {
        self.watermark.ts()
    }

    /// The next offset of the tape; none before the first.
    pub const fn next(&self) -> Option<u64> {
        self.next
    }

    /// Number of records that had been dealt before, and were dropped.
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Records that wait for what stands before them on the tape: their number and bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.queues.waiting(), self.queues.byte_length())
    }

    /// Says at which offset the tape begins, unless anything of it was dealt.
    pub fn begin_at(&mut self, offset: u64) {
        self.next.get_or_insert(offset);
    }

    /// Deals records that stand on the tape from `first_offset` on.
    ///
    /// # Errors
    /// `Error::Invalid`: they do not follow those before.
    pub fn deal_batch(&mut self, bytes: &[u8], first_offset: u64) -> Result<()> {
        let next = *self.next.get_or_insert(first_offset);
        if next != first_offset {
            return Err(Error::invalid(format!(
                "{}: expected the records from offset {next} on, got those from {first_offset} on",
                self.source
            )));
        }
        for record in records::iterate(bytes) {
            self.deal(record)?;
        }
        Ok(())
    }

    /// Takes in a message that came on `line`, and deals all that is in order by it.
    ///
    /// # Errors
    /// `Error::Invalid`: it is no message of a record, or of another source.
    pub fn deal_message(&mut self, line: u32, message: &[u8]) -> Result<()> {
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        let origin = Decoder.decode(message, &mut decoded)?;
        if origin.source != self.source {
            return Err(Error::invalid(format!(
                "expected a message of {}, got one of {:?}",
                self.source, origin.source
            )));
        }
        let next = *self.next.get_or_insert(0);
        for record in &decoded {
            if origin.offset < next {
                self.repeated += 1;
            } else if origin.offset == next {
                self.deal(record)?;
            } else {
                self.queues.push(line, origin.offset, record);
            }
        }
        self.decoded = decoded;
        self.deal_waiting()
    }

    fn deal_waiting(&mut self) -> Result<()> {
        let mut queues = std::mem::take(&mut self.queues);
        let mut done = Ok(());
        while let (Some(next), true) = (self.next, queues.waiting() > 0) {
            match queues.take(next, |record| self.deal(record)) {
                Ok((true, repeated)) => self.repeated += repeated,
                Ok((false, repeated)) => {
                    self.repeated += repeated;
                    break;
                }
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        self.queues = queues;
        done
    }

    /// The lowest offset that waits for those before it.
    pub fn lowest_waiting(&self) -> Option<u64> {
        self.queues.lowest()
    }

    /// Gives what was dealt since the last call, by shard.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn take<E>(
        &mut self,
        mut each: impl FnMut(u32, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        for &shard in &self.active {
            let frame = &mut self.frames[shard as usize];
            if !frame.is_empty() {
                each(shard, frame.finish())?;
                frame.clear();
            }
        }
        Ok(())
    }

    fn deal(&mut self, record: RecordRef<'_>) -> Result<()> {
        self.next = self.next.map(|next| next + 1);
        let header = record.header();
        if header.instrument as usize > INSTRUMENTS_MAX {
            return Err(Error::invalid(format!(
                "expected instrument ids up to {INSTRUMENTS_MAX}, got {}",
                header.instrument
            )));
        }
        if self.views.is_empty() {
            self.views.push(Some(Watermark::default()));
            self.begin(0)?;
        }
        let before = self.watermark.ts();
        self.watermark.take(header.ts_recv);
        let now = self.watermark.ts();
        if now < before {
            // All know the time before it fell: then it is believed that it did.
            self.tell_all(before)?;
        }
        if now < before || now >= self.due && now != before {
            self.tell_all(now)?;
            let next = self.grids.iter().map(|&(interval, phase)| after(now, interval, phase));
            self.due = next.min().unwrap_or(i64::MAX);
        }
        if record.kind() == Order::KIND as u8 && self.orders.falls(&header) {
            // The order is one instrument's; that all orders before it are gone concerns all.
            let mut begin = Marker { state: ORDERS_BEGIN, ..time(0, now) };
            begin.header.ts_event = header.ts_event;
            records::iterate(begin.as_bytes()).try_for_each(|told| self.deal_to_all(told, now))?;
        }
        if header.instrument == 0 {
            self.deal_to_all(record, now)
        } else {
            self.deal_to_one(record, &header, now)
        }
    }

    fn deal_to_all(&mut self, record: RecordRef<'_>, now: i64) -> Result<()> {
        self.tell_all(now)?;
        self.views.iter_mut().flatten().for_each(|view| {
            view.take(record.header().ts_recv);
        });
        self.unseen.push(record);
        for &shard in &self.active {
            self.frames[shard as usize].record(record.bytes());
        }
        Ok(())
    }

    #[inline]
    fn deal_to_one(&mut self, record: RecordRef<'_>, header: &Header, now: i64) -> Result<()> {
        let at = header.instrument as usize;
        if self.views.get(at).is_none_or(Option::is_none) {
            self.begin(header.instrument)?;
        }
        let shard = self.shard_of(header.instrument) as usize;
        let Some(view) = &mut self.views[at] else { return Ok(()) };
        let mut seen = *view;
        seen.take(header.ts_recv);
        if seen.ts() == now {
            *view = seen;
        } else {
            let mut told = 0;
            while view.ts() != now {
                told += 1;
                assert!(told <= TOLD_MAX, "a time that is told is believed");
                view.take(now);
                self.frames[shard].record(time(header.instrument, now).as_bytes());
            }
            view.take(header.ts_recv);
            assert_eq!(view.ts(), now, "an instrument sees the time of its tape");
        }
        self.frames[shard].record(record.bytes());
        Ok(())
    }

    /// Tells all instruments that the receive times are at `ts`.
    fn tell_all(&mut self, ts: i64) -> Result<()> {
        let mut told = 0;
        while self.views.iter().flatten().any(|view| view.ts() != ts) {
            told += 1;
            assert!(told <= TOLD_MAX, "a time that is told is believed");
            self.views.iter_mut().flatten().for_each(|view| {
                view.take(ts);
            });
            let marker = time(0, ts);
            for &shard in &self.active {
                self.frames[shard as usize].record(marker.as_bytes());
            }
            records::iterate(marker.as_bytes()).for_each(|record| self.unseen.push(record));
        }
        Ok(())
    }

    /// Sends the state that an instrument begins with.
    #[cold]
    fn begin(&mut self, instrument: u32) -> Result<()> {
        // What it gives, instrument 0 gives on its shard.
        self.unseen.settle()?;
        let at = instrument as usize;
        if at >= self.views.len() {
            self.views.resize(at + 1, None);
        }
        self.views[at] = self.views[0];
        let mut state = Vec::new();
        self.unseen.instrument = instrument;
        self.unseen.snapshot(&self.plan, &self.source, &mut state);
        self.unseen.instrument = 0;
        let shard = self.shard_of(instrument);
        if !self.active.contains(&shard) {
            self.active.push(shard);
        }
        self.frames[shard as usize].begin(instrument, &state);
        Ok(())
    }

    /// Appends the whole state to `out`. All that was dealt must have been taken.
    ///
    /// # Errors
    /// Those of processors.
    pub fn snapshot(&mut self, out: &mut Vec<u8>) -> Result<()> {
        assert!(
            self.frames.iter().all(FrameWriter::is_empty),
            "a state holds nothing that was dealt and not taken"
        );
        self.unseen.settle()?;
        let mut unseen = Vec::new();
        self.unseen.snapshot(&self.plan, &self.source, &mut unseen);
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.bytes(&unseen);
        state.u32(self.shards);
        state.flag(self.next.is_some());
        state.u64(self.next.unwrap_or(0));
        state.u64(self.repeated);
        self.watermark.write(&mut state);
        state.u64(self.orders.last());
        state.i64(self.due);
        state.length(self.views.len());
        for view in &self.views {
            state.flag(view.is_some());
            view.unwrap_or_default().write(&mut state);
        }
        state.length(self.active.len());
        self.active.iter().for_each(|&shard| state.u32(shard));
        self.queues.write(&mut state);
        Ok(())
    }

    /// A router from a state.
    ///
    /// # Errors
    /// `Error::Invalid`: the state is not whole, of another version, of other settings or another
    /// number of shards.
    pub fn restore(plan: &Plan, shards: u32, bytes: &[u8]) -> Result<Self> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        let (source, unseen) = Instance::restore(plan, state.bytes()?)?;
        let mut router = Self::new(plan, source, shards)?;
        router.unseen = unseen;
        let found = state.u32()?;
        if found != shards {
            return Err(Error::invalid(format!(
                "the state is of {found} shards, and {shards} are set: their number is for good"
            )));
        }
        let (is_begun, next) = (state.flag()?, state.u64()?);
        router.next = is_begun.then_some(next);
        router.repeated = state.u64()?;
        router.watermark = Watermark::read(&mut state)?;
        router.orders = OrderSequence::behind(state.u64()?);
        router.due = state.i64()?;
        for _ in 0..state.length(21)? {
            let (is_there, view) = (state.flag()?, Watermark::read(&mut state)?);
            router.views.push(is_there.then_some(view));
        }
        for _ in 0..state.length(4)? {
            router.active.push(state.u32()?);
        }
        if router.active.iter().any(|&shard| shard >= shards) {
            return Err(Error::invalid("the state names a shard that is not there"));
        }
        router.queues = Queues::read(&mut state)?;
        state.finish()?;
        Ok(router)
    }
}

/// A marker that tells the time and nothing else.
fn time(instrument: u32, ts: i64) -> Marker {
    Marker {
        header: Header { instrument, ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() },
        code: MarkerCode::Heartbeat as u8,
        cause: 0,
        state: 0,
        channel: Channel::None as u8,
        count: 0,
        first: 0,
        last: 0,
        ts_start: NONE,
    }
}
