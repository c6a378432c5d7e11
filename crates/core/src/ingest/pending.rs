//! Frames that wait for the raw tape: a buffer with a bound, and a count of what it refused.
//!
//! While the tape can be written the buffer holds one read of a socket. When it cannot (the disk
//! is full), frames are kept up to the bound, and from then on the newest are shed until the tape
//! takes the kept ones. So what is lost is one range of time per connection, counted exactly.

use crate::error::Result;
use crate::record::blob::BlobHeader;
use crate::record::{
    BlobKind, Blobs, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain,
    FLAG_RECV_SUSPECT,
};

/// Markers may use this much beyond the bound: they say what was lost, and are few.
const MARKER_BYTES_MAX: usize = 1 << 20;

/// So many markers wait apart at most.
const OWED_MAX: usize = 16_384;

/// What was shed of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// The connection.
    pub connection: u16,
    /// How many frames.
    pub count: u64,
    /// Receive time of the first, in ns.
    pub ts_first: i64,
    /// Receive time of the last, in ns.
    pub ts_last: i64,
}

/// The buffer.
#[derive(Debug)]
pub struct Pending {
    blobs: Blobs,
    bytes_max: usize,
    feed: u8,
    /// Receive time and number of frames, for the latency histogram: one entry per read.
    runs: Vec<(i64, u64)>,
    shedding: bool,
    shed: Vec<Shed>,
    shed_total: u64,
    /// Receive time of what was added last.
    ts_last: i64,
    /// Markers that found no room, each with its connection: the last of each kind, connection and
    /// stream. They say what is open and what is not, so that they are written once there is room.
    owed: Vec<(u16, Marker)>,
    /// Whether receive times are suspect.
    pub suspect: bool,
}

impl Pending {
    /// An empty buffer of at most `bytes_max` bytes, for frames of the feed of that number.
    pub const fn new(feed: u8, bytes_max: usize) -> Self {
        Self {
            blobs: Blobs::new(),
            bytes_max,
            feed,
            runs: Vec::new(),
            shedding: false,
            shed: Vec::new(),
            shed_total: 0,
            ts_last: 0,
            owed: Vec::new(),
            suspect: false,
        }
    }

    /// Whether a frame of `bytes` bytes would be shed. An empty buffer takes any one frame: a bound
    /// below the venue's largest message would else shed that message for ever.
    #[inline]
    pub fn is_full(&self, bytes: usize) -> bool {
        let held = self.blobs.as_bytes().len();
        self.shedding || (held > 0 && held + bytes > self.bytes_max)
    }

    /// Adds a frame, or sheds and counts it. Says whether it was added.
    ///
    /// # Errors
    /// `Error::Invalid`: the context is over 65,535 bytes.
    #[inline]
    pub fn push(
        &mut self,
        connection: u16,
        kind: BlobKind,
        ts_recv: i64,
        context: &[u8],
        body: &[u8],
    ) -> Result<bool> {
        let bytes = size_of::<BlobHeader>() + context.len() + body.len();
        if self.is_full(bytes) {
            self.shed_one(connection, ts_recv);
            return Ok(false);
        }
        self.add(connection, kind, ts_recv, context, body)?;
        match self.runs.last_mut() {
            Some((ts, times)) if *ts == ts_recv => *times += 1,
            _ => self.runs.push((ts_recv, 1)),
        }
        Ok(true)
    }

    /// Adds a marker that the session made. Far beyond the bound it waits apart, in the place of an
    /// earlier one that says the same of the same stream; that time passed is then not told.
    ///
    /// # Errors
    /// `Error::Invalid`: the records are over 4 GiB.
    pub fn push_records(&mut self, connection: u16, ts_recv: i64, records: &[u8]) -> Result<()> {
        if !self.takes_records() {
            match Marker::read_from(records) {
                Some(marker) if marker.code == MarkerCode::Heartbeat as u8 => {}
                Some(marker) => self.owe(connection, marker),
                None => self.shed_one(connection, ts_recv),
            }
            return Ok(());
        }
        self.add(connection, BlobKind::Records, ts_recv, &[], records)
    }

    /// Whether records are taken at once: see [`Pending::push_records`].
    pub fn takes_records(&self) -> bool {
        self.blobs.as_bytes().len() <= self.bytes_max + MARKER_BYTES_MAX
    }

    /// The frames, to be written in one go.
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Receive time and number of frames of each read.
    pub fn runs(&self) -> &[(i64, u64)] {
        &self.runs
    }

    /// Receive time of what was added last.
    pub const fn ts_last(&self) -> i64 {
        self.ts_last
    }

    /// Frames shed so far.
    pub const fn shed_total(&self) -> u64 {
        self.shed_total
    }

    /// The frames were written: forgets them, and puts in their place one gap marker for each
    /// connection of which frames were shed. Says whether there are such markers to write.
    ///
    /// # Errors
    /// None in practice: a marker fits into any blob.
    pub fn written(&mut self, now: i64) -> Result<bool> {
        self.blobs.clear();
        self.runs.clear();
        self.shedding = false;
        let owed = std::mem::take(&mut self.owed);
        let shed = std::mem::take(&mut self.shed);
        // What waited apart is later than all that was kept: times must not fall on the tape.
        let newest = owed.iter().map(|(_, marker)| marker.header.ts_recv);
        let now = newest.chain(shed.iter().map(|shed| shed.ts_last)).fold(now, i64::max);
        for lost in &shed {
            let marker = overload(self.feed, lost, now);
            self.add(lost.connection, BlobKind::Records, now, &[], marker.as_bytes())?;
        }
        for (connection, marker) in &owed {
            let header = Header { ts_recv: now, ..marker.header };
            let marker = Marker { header, ..*marker };
            self.add(*connection, BlobKind::Records, now, &[], marker.as_bytes())?;
        }
        Ok(!(shed.is_empty() && owed.is_empty()))
    }

    fn owe(&mut self, connection: u16, marker: Marker) {
        let key = |marker: &Marker| {
            let losses = [GapCause::Retention as u8, GapCause::Damage as u8];
            let (header, is_loss) = (&marker.header, losses.contains(&marker.cause));
            // Of a loss, the tape and the items: a part of another one is no other word on it.
            let loss = if is_loss { (marker.last, header.sequence) } else { (0, 0) };
            (marker.code, marker.cause, marker.channel, header.instrument, marker.first, loss)
        };
        // The order is that of the last of each: an end that is followed by an opening stays so.
        self.owed.retain(|(_, owed)| key(owed) != key(&marker));
        if self.owed.len() < OWED_MAX {
            self.owed.push((connection, marker));
        } else {
            self.shed_one(connection, marker.header.ts_recv);
        }
    }

    fn add(
        &mut self,
        connection: u16,
        kind: BlobKind,
        ts_recv: i64,
        context: &[u8],
        body: &[u8],
    ) -> Result<()> {
        self.ts_last = ts_recv;
        let header = BlobHeader {
            kind: kind as u8,
            feed: self.feed,
            connection,
            ts_recv,
            flags: if self.suspect { u16::from(FLAG_RECV_SUSPECT) } else { 0 },
            ..BlobHeader::default()
        };
        self.blobs.push(header, context, body)
    }

    fn shed_one(&mut self, connection: u16, ts_recv: i64) {
        self.shedding = true;
        self.shed_total += 1;
        match self.shed.iter_mut().find(|shed| shed.connection == connection) {
            Some(shed) => {
                shed.count += 1;
                shed.ts_last = ts_recv;
            }
            None => {
                self.shed.push(Shed { connection, count: 1, ts_first: ts_recv, ts_last: ts_recv });
            }
        }
    }
}

/// The ledger's entry for frames that were shed. `first` is the connection; `last` is the count
/// in full, where `count` has only 32 bits.
fn overload(feed: u8, shed: &Shed, now: i64) -> Marker {
    Marker {
        header: Header { feed, ts_event: shed.ts_last, ts_recv: now, ..Header::of::<Marker>() },
        code: MarkerCode::Gap as u8,
        cause: GapCause::Overload as u8,
        state: GapState::Closed as u8,
        channel: Channel::Session as u8,
        count: u32::try_from(shed.count).unwrap_or(u32::MAX - 1),
        first: u64::from(shed.connection),
        last: shed.count,
        ts_start: shed.ts_first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::records;

    fn pushed(pending: &mut Pending, connection: u16, ts: i64) -> bool {
        pending.push(connection, BlobKind::Text, ts, b"", &[b'x'; 100]).unwrap()
    }

    #[test]
    fn newest_are_shed_and_counted_per_connection() {
        // Room for three frames of 128 bytes. Once one was shed, smaller ones are too: what is
        // lost must be one range of time.
        let mut pending = Pending::new(1, 3 * 128);
        let kept = (0..10).filter(|&ts| pushed(&mut pending, (ts % 2) as u16, ts)).count();
        assert_eq!(kept, 3);
        assert!(!pending.push(0, BlobKind::Text, 10, b"", b"").unwrap());
        assert_eq!(pending.shed_total(), 8);
        assert!(pending.written(99).unwrap());
        let gaps: Vec<Marker> = pending
            .blobs()
            .iter()
            .flat_map(|blob| records::iterate(blob.body).filter_map(|r| r.as_marker()))
            .collect();
        let ranges: Vec<_> =
            gaps.iter().map(|g| (g.first, g.count, g.ts_start, g.header.ts_event)).collect();
        assert_eq!(ranges, [(1, 4, 3, 9), (0, 4, 4, 10)]);
        assert!(gaps.iter().all(|g| g.cause == GapCause::Overload as u8 && g.header.ts_recv == 99));
        // The markers are written in their turn, and then all is as new.
        assert!(!pending.written(100).unwrap());
        assert!(pending.blobs().is_empty() && pushed(&mut pending, 0, 101));
    }

    #[test]
    fn one_frame_above_the_bound_is_taken_alone() {
        // A snapshot of 1000 bytes and a bound of 300: it is taken where nothing else waits, and
        // what comes while it waits is shed.
        let mut pending = Pending::new(1, 300);
        assert!(pending.push(0, BlobKind::Rest, 1, b"", &[b'x'; 1000]).unwrap());
        assert!(!pushed(&mut pending, 0, 2));
        assert!(pending.written(3).unwrap());
        assert_eq!(pending.shed_total(), 1);
    }

    #[test]
    fn markers_have_a_bound_and_none_that_counts_is_lost() {
        // Reconnects go on while the disk is full for days; their markers must not fill memory.
        // What was open last, and what was not, is told all the same.
        let mut pending = Pending::new(1, 4096);
        let marker = |code: MarkerCode, connection: u64, ts: i64| {
            let header = Header { ts_event: ts, ts_recv: ts, ..Header::of::<Marker>() };
            Marker {
                header,
                code: code as u8,
                first: connection,
                cause: 0,
                ..overload(1, &Shed { connection: 0, count: 1, ts_first: 0, ts_last: 0 }, 0)
            }
        };
        let mut push = |code, connection, ts| {
            let made = marker(code, connection, ts);
            pending.push_records(connection as u16, ts, made.as_bytes()).unwrap();
        };
        for ts in 0..50_000 {
            push(MarkerCode::Heartbeat, 9, ts);
            push(MarkerCode::Disconnected, ts as u64 % 2, ts);
            push(MarkerCode::Connected, ts as u64 % 2, ts);
        }
        push(MarkerCode::Disconnected, 1, 50_000);
        assert!(pending.blobs().as_bytes().len() <= 4096 + MARKER_BYTES_MAX + 128);
        assert_eq!(pending.shed_total(), 0);
        assert!(pending.written(3).unwrap());
        let told: Vec<_> = pending
            .blobs()
            .iter()
            .flat_map(|blob| records::iterate(blob.body).filter_map(|r| r.as_marker()))
            .map(|marker| (marker.code, marker.first, marker.header.ts_recv))
            .collect();
        let (ended, opened) = (MarkerCode::Disconnected as u8, MarkerCode::Connected as u8);
        let now = 50_000;
        assert_eq!(told, [(ended, 0, now), (opened, 0, now), (opened, 1, now), (ended, 1, now)]);
    }

    #[test]
    fn a_marker_that_waited_apart_keeps_its_connection() {
        // `first` of a marker is the connection of some kinds only: of a loss it is an item.
        let mut pending = Pending::new(1, 0);
        let filler = vec![0; MARKER_BYTES_MAX];
        assert!(pending.push(7, BlobKind::Text, 1, b"", &filler).unwrap());
        assert!(!pending.takes_records());
        let told = |cause: GapCause, first: u64| Marker {
            cause: cause as u8,
            first,
            ..overload(1, &Shed { connection: 0, count: 1, ts_first: 0, ts_last: 0 }, 2)
        };
        let silence = told(GapCause::Silence, 0);
        pending.push_records(5, 2, silence.as_bytes()).unwrap();
        let loss = told(GapCause::Retention, 65_536 + 7);
        pending.push_records(u16::MAX, 2, loss.as_bytes()).unwrap();
        assert!(pending.written(3).unwrap());
        let of: Vec<u16> = pending.blobs().iter().map(|blob| blob.header.connection).collect();
        assert_eq!(of, [5, u16::MAX]);
    }

    #[test]
    fn frames_of_one_read_are_one_run() {
        // The histogram takes one entry per read of a socket, not per frame.
        let mut pending = Pending::new(1, 1 << 20);
        [5, 5, 5, 7, 7].iter().for_each(|&ts| assert!(pushed(&mut pending, 0, ts)));
        assert_eq!(pending.runs(), [(5, 3), (7, 2)]);
        assert_eq!(pending.ts_last(), 7);
    }
}
