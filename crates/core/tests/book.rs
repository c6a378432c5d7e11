//! L2 books and their synchronisation, through the public API, against slow obvious models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tapeworks_core::book::{
    BookHistory, Continuity, Distance, Fill, L2Book, Moment, Past, PriceLevel, Step, SyncState,
    SyncedBook, Touch,
};
use tapeworks_core::processors::book_history::open_book_history;
use tapeworks_core::processors::books::{Books, BooksConfig};
use tapeworks_core::processors::sync_tracker::SyncTracker;
use tapeworks_core::record::{
    Channel, Header, Level, Marker, MarkerCode, Side, FLAG_LAST, FLAG_SNAPSHOT, NONE,
};
use tapeworks_core::tape::{Durability, Reader as TapeReader, Tape, TapeConfig, TapeKind};
use tapeworks_core::{Batch, Processor, Records};

/// A seeded generator; seeds are printed by the asserts that use it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The slow obvious book.
#[derive(Default, Clone, PartialEq, Debug)]
struct Model {
    sides: [BTreeMap<i64, i64>; 2],
}

impl Model {
    fn set(&mut self, side: Side, price: i64, size: i64) {
        let levels = &mut self.sides[side as usize - 1];
        if size > 0 {
            levels.insert(price, size);
        } else {
            levels.remove(&price);
        }
    }

    fn levels(&self, side: Side) -> Vec<PriceLevel> {
        let levels = self.sides[side as usize - 1].iter();
        let level = |(&price, &size): (&i64, &i64)| PriceLevel { price, size };
        match side {
            Side::Bid => levels.rev().map(level).collect(),
            _ => levels.map(level).collect(),
        }
    }
}

fn assert_equal(book: &L2Book, model: &Model, context: &str) {
    for side in [Side::Bid, Side::Ask] {
        let wanted = model.levels(side);
        assert_eq!(book.len(side), wanted.len(), "{context}");
        assert_eq!(book.levels(side).collect::<Vec<_>>(), wanted, "{context}");
        assert_eq!(book.best(side), wanted.first().copied(), "{context}");
    }
}

const SIDES: [Side; 2] = [Side::Bid, Side::Ask];

#[test]
fn book_equals_sorted_map_for_prices_of_every_kind() {
    // Random sets and removals from price families that force each path: one tick, wide ranges,
    // off-tick prices, the ends of i64, a market that moves far; after each burst all levels equal.
    for seed in 0..60 {
        let mut random = Random(seed);
        let (mut book, mut model) = (L2Book::new(), Model::default());
        let family = seed % 6;
        for burst in 0..40_u64 {
            for _ in 0..200 {
                let near = random.below(400) as i64 - 200;
                let price = match family {
                    0 => 61_000_000_000_000 + near * 10_000_000,
                    1 => (random.below(1 << 40) as i64 - (1 << 39)) * 100,
                    2 => random.next() as i64 >> random.below(63),
                    3 => near * 12_500_000 + i64::from(random.below(50) == 0) * near,
                    4 => [i64::MIN, i64::MAX, 0, -1, 1, i64::MIN + 1][random.below(6) as usize],
                    _ => (burst as i64 * 3_000_000 + near) * 10_000_000,
                };
                let side = SIDES[random.below(2) as usize];
                let size = if random.below(3) == 0 { 0 } else { random.below(1 << 50) as i64 };
                book.set(side, price, size);
                model.set(side, price, size);
                assert_eq!(book.size_at(side, price), size, "seed {seed}");
            }
            assert_equal(&book, &model, &format!("seed {seed} burst {burst}"));
            if random.below(15) == 0 {
                book.clear();
                model = Model::default();
                assert!(book.is_empty(), "seed {seed}");
            }
        }
    }
}

#[test]
fn checksum_depends_on_levels_alone() {
    // The same levels by another history, on another grid, have one checksum; any change of a
    // price, a size or a side has another.
    let mut direct = L2Book::new();
    let mut winding = L2Book::new();
    winding.set(Side::Bid, 7, 1);
    winding.set(Side::Ask, -13, 1);
    for tick in (0..500).rev() {
        winding.set(Side::Bid, 1000 * tick, 5 + tick);
        winding.set(Side::Ask, 1000 * tick, 1);
    }
    winding.set(Side::Bid, 7, 0);
    winding.set(Side::Ask, -13, 0);
    for tick in 0..500 {
        direct.set(Side::Bid, 1000 * tick, 5 + tick);
        direct.set(Side::Ask, 1000 * tick, 1);
    }
    assert_eq!(direct, winding);
    assert_eq!(direct.checksum(), winding.checksum());
    // Stored on tapes: this number may never change.
    assert_eq!(L2Book::new().checksum(), 0);
    let mut one = L2Book::new();
    one.set(Side::Bid, 61_659_700_000_000, 148_600_000);
    assert_eq!(one.checksum(), 16_020_606_116_666_241_284);
    let mut seen = vec![direct.checksum()];
    for (side, price, size) in [
        (Side::Bid, 1000, 7),
        (Side::Ask, 1000, 2),
        (Side::Bid, 1000, 0),
        (Side::Ask, 1000, 0),
        (Side::Bid, 1001, 6),
        (Side::Ask, 1001, 6),
    ] {
        let mut other = direct.clone();
        other.set(side, price, size);
        assert!(!seen.contains(&other.checksum()), "{side:?} {price} {size}");
        seen.push(other.checksum());
    }
}

#[test]
fn touch_is_reported_and_never_repaired() {
    let mut book = L2Book::new();
    assert_eq!(book.touch(), Touch::Empty);
    book.set(Side::Bid, 100, 1);
    assert_eq!(book.touch(), Touch::OneSided);
    book.set(Side::Ask, 101, 1);
    assert_eq!(book.touch(), Touch::Open);
    book.set(Side::Ask, 100, 1);
    assert_eq!(book.touch(), Touch::Locked);
    book.set(Side::Bid, 105, 1);
    assert_eq!(book.touch(), Touch::Crossed);
    assert_eq!((book.len(Side::Bid), book.len(Side::Ask)), (2, 2));
}

#[test]
fn depth_and_cost_are_exact() {
    // Three levels a side with a middle at a half unit, so that rounding would show.
    let mut book = L2Book::new();
    for (place, size) in [(0, 10), (1, 20), (2, 30)] {
        book.set(Side::Bid, 1000 - place, size);
        book.set(Side::Ask, 1001 + place, size);
    }
    let sizes = |distance| SIDES.map(|side| book.depth(side, distance).unwrap().size);
    assert_eq!(sizes(Distance::Price(0)), [0, 0]);
    assert_eq!(sizes(Distance::Price(1)), [10, 10]);
    assert_eq!(sizes(Distance::Price(2)), [30, 30]);
    // The middle is 1000.5: 14 points are 1.4007, which misses 1.5; 15 are 1.50075.
    assert_eq!(sizes(Distance::BasisPoints(14)), [10, 10]);
    assert_eq!(sizes(Distance::BasisPoints(15)), [30, 30]);
    let depth = book.depth(Side::Ask, Distance::Price(2)).unwrap();
    assert_eq!((depth.levels, depth.turnover), (2, 1001 * 10 + 1002 * 20));
    assert_eq!(L2Book::new().depth(Side::Bid, Distance::Price(1)), None);

    let fill = Fill { size: 15, cost: 1001 * 10 + 1002 * 5, price_worst: Some(1002) };
    assert_eq!(book.cost(Side::Ask, 15), fill);
    assert_eq!(book.cost(Side::Bid, 100).size, 60);
    assert_eq!(book.cost(Side::Bid, 0), Fill::default());
    let mut huge = L2Book::new();
    huge.set(Side::Bid, i64::MIN, i64::MAX - 1);
    let cost = i128::from(i64::MIN) * i128::from(i64::MAX - 1);
    assert_eq!(huge.cost(Side::Bid, i64::MAX).cost, cost);
}

fn level(feed: u8, (first, last, previous): (u64, u64, u64), side: Side, price: i64) -> Level {
    Level {
        header: Header {
            feed,
            instrument: 1,
            flags: FLAG_LAST,
            sequence: last,
            ts_event: last as i64,
            ts_recv: last as i64 + 5,
            ..Header::of::<Level>()
        },
        price,
        size: last as i64,
        previous,
        span: (last - first) as u32,
        side: side as u8,
        channel: Channel::Depth as u8,
        reserved: [0; 2],
    }
}

fn marker(code: MarkerCode, first: u64, count: u32) -> Marker {
    Marker {
        header: Header { feed: 1, instrument: 1, ..Header::of::<Marker>() },
        code: code as u8,
        cause: 0,
        state: 0,
        channel: Channel::Snapshot as u8,
        count,
        first,
        last: 0,
        ts_start: NONE,
    }
}

/// Feeds a snapshot with one bid at 50 and returns the step of its end.
fn snapshot(book: &mut SyncedBook, sequence: u64) -> Step {
    book.marker(&marker(MarkerCode::SnapshotBegin, sequence, 1));
    let mut only = level(1, (sequence, sequence, 0), Side::Bid, 50);
    only.channel = Channel::Snapshot as u8;
    only.header.flags = FLAG_SNAPSHOT;
    book.level(&only);
    book.marker(&marker(MarkerCode::SnapshotEnd, sequence, 1))
}

#[test]
fn spot_rule_bridges_and_breaks() {
    // The venue's steps: too old a snapshot is refused, one inside the buffer is continued by it,
    // duplicates are ignored, an overlap is applied, a hole breaks the book.
    let mut book = SyncedBook::new(Continuity::Adjacent);
    let spot = |first, last| level(1, (first, last, first - 1), Side::Ask, 100 + last as i64);
    assert_eq!(book.sync().state(), SyncState::Empty);
    assert!(book.level(&spot(10, 12)).changed);
    book.level(&spot(13, 13));
    book.level(&spot(14, 16));
    assert!(book.sync().needs_snapshot() && book.book().is_none());
    assert!(!snapshot(&mut book, 8).changed);
    assert_eq!(book.sync().state(), SyncState::AwaitingSnapshot);
    assert!(snapshot(&mut book, 13).changed);
    assert_eq!((book.sync().state(), book.sync().sequence()), (SyncState::Continuous, 16));
    assert_eq!((book.ts_event(), book.ts_recv()), (16, 21));
    assert_eq!(book.book().unwrap().levels(Side::Ask).map(|l| l.price).collect::<Vec<_>>(), [116]);
    assert!(!book.level(&spot(13, 13)).applied);
    assert!(book.level(&spot(15, 18)).applied);
    let step = book.level(&spot(20, 21));
    assert_eq!((step.changed, step.first, step.last), (true, 19, 20));
    assert_eq!(book.sync().state(), SyncState::Broken);
    assert!(book.book().is_none() && book.sync().needs_snapshot());
    assert!(!snapshot(&mut book, 18).changed, "it lies before the hole");
    assert!(snapshot(&mut book, 19).changed);
    assert_eq!((book.sync().state(), book.sync().sequence()), (SyncState::Continuous, 21));
}

#[test]
fn snapshot_newer_than_the_buffer_waits_for_its_update() {
    let mut book = SyncedBook::new(Continuity::Adjacent);
    let spot = |first, last| level(1, (first, last, first - 1), Side::Ask, 100 + last as i64);
    book.level(&spot(10, 12));
    assert!(snapshot(&mut book, 20).changed);
    assert_eq!(book.sync().state(), SyncState::Bridging);
    assert!(!book.level(&spot(13, 18)).applied);
    assert!(book.book().is_none());
    let step = book.level(&spot(19, 22));
    assert!(step.changed && !step.applied, "its levels are part of the first book shown");
    assert_eq!((book.sync().state(), book.sync().sequence()), (SyncState::Continuous, 22));
    assert_eq!(book.book().unwrap().len(Side::Ask), 1);
    // Another snapshot can tell a continuous book nothing.
    assert!(!snapshot(&mut book, 30).changed);
    assert_eq!(book.book().unwrap().len(Side::Ask), 1);
}

#[test]
fn snapshot_far_ahead_of_its_stream_gives_way_to_another() {
    // Updates would not reach it in years. A right one takes its place, and the next update
    // verifies that; where one was missed meanwhile, the book breaks and asks anew.
    for missed in [false, true] {
        let mut book = SyncedBook::new(Continuity::Adjacent);
        let spot = |first, last| level(1, (first, last, first - 1), Side::Ask, 100 + last as i64);
        book.level(&spot(10, 12));
        snapshot(&mut book, 1_000_000_000);
        book.level(&spot(13, 18));
        assert_eq!(book.sync().state(), SyncState::Bridging);
        snapshot(&mut book, 18);
        assert_eq!((book.sync().state(), book.sync().sequence()), (SyncState::Bridging, 18));
        let next = if missed { spot(20, 22) } else { spot(19, 22) };
        assert!(book.level(&next).changed);
        let state = if missed { SyncState::Broken } else { SyncState::Continuous };
        assert_eq!(book.sync().state(), state);
        if missed {
            snapshot(&mut book, 21);
            assert_eq!(book.sync().state(), SyncState::Continuous);
        }
    }
}

#[test]
fn futures_rule_follows_the_chain() {
    // Ids jump between updates; `previous` alone links them. At the boundary three forms are right:
    // the range holds the snapshot, ends at it, or names it as predecessor.
    let chained = |update| level(2, update, Side::Ask, 7);
    for (update, bridges) in [
        ((90, 110, 80), true),
        ((95, 100, 80), true),
        ((120, 130, 100), true),
        ((120, 130, 90), false),
        ((101, 130, 99), false),
    ] {
        let mut book = SyncedBook::new(Continuity::Chained);
        book.level(&chained(update));
        snapshot(&mut book, 100);
        let wanted = if bridges { SyncState::Continuous } else { SyncState::AwaitingSnapshot };
        assert_eq!(book.sync().state(), wanted, "{update:?} buffered before the snapshot");
        let mut book = SyncedBook::new(Continuity::Chained);
        snapshot(&mut book, 100);
        book.level(&chained(update));
        let wanted = if bridges { SyncState::Continuous } else { SyncState::Broken };
        assert_eq!(book.sync().state(), wanted, "{update:?} after the snapshot");
        if bridges {
            assert!(book.level(&chained((500, 510, update.1))).applied, "{update:?}");
            assert!(!book.level(&chained((90, 510, update.1))).applied, "a duplicate");
            let step = book.level(&chained((511, 520, 505)));
            assert_eq!((step.changed, step.first, step.last), (true, 510, 505));
        }
    }
}

#[test]
fn what_cannot_be_right_breaks_the_book() {
    // An update without its end, a size that is none, half a snapshot: nothing is shown after it.
    let spot = |first, last| level(1, (first, last, first - 1), Side::Ask, 100);
    let ready = || {
        let mut book = SyncedBook::new(Continuity::Adjacent);
        snapshot(&mut book, 10);
        book.level(&spot(11, 11));
        assert!(book.book().is_some());
        book
    };
    let mut book = ready();
    book.level(&Level { header: Header { flags: 0, ..spot(12, 12).header }, ..spot(12, 12) });
    assert!(book.book().is_none(), "in the middle of an update");
    assert!(book.level(&spot(13, 13)).changed);
    assert_eq!(book.sync().state(), SyncState::Broken);
    for wrong in [
        Level { size: -1, ..spot(12, 12) },
        Level { size: NONE, ..spot(12, 12) },
        Level { side: 0, ..spot(12, 12) },
    ] {
        let mut book = ready();
        assert!(book.level(&wrong).changed);
        assert_eq!(book.sync().state(), SyncState::Broken);
        book.level(&spot(13, 13));
        assert!(!snapshot(&mut book, 11).changed, "nothing continues it");
        assert!(snapshot(&mut book, 12).changed);
        assert_eq!(book.sync().state(), SyncState::Continuous);
    }
    let mut book = SyncedBook::new(Continuity::Adjacent);
    book.marker(&marker(MarkerCode::SnapshotBegin, 10, 2));
    assert!(!book.marker(&marker(MarkerCode::SnapshotEnd, 10, 2)).changed);
    assert_eq!(book.sync().state(), SyncState::Empty);
}

#[test]
fn full_buffer_drops_the_oldest_and_counts() {
    // Updates without a snapshot for long: memory stays bounded, and a snapshot inside what is
    // still buffered is accepted while an older one is not.
    let mut book = SyncedBook::new(Continuity::Adjacent);
    let total = tapeworks_core::book::BUFFERED_UPDATES_MAX as u64 + 500;
    for id in 1..=total {
        book.level(&level(1, (id, id, id - 1), Side::Ask, id as i64));
    }
    assert_eq!(book.sync().dropped(), 500);
    assert!(!snapshot(&mut book, 499).changed);
    assert!(snapshot(&mut book, 500).changed);
    assert_eq!(book.book().unwrap().len(Side::Ask), total as usize - 500);
}

#[test]
fn end_of_session_ends_what_is_verified() {
    let mut book = SyncedBook::new(Continuity::Adjacent);
    snapshot(&mut book, 10);
    book.level(&level(1, (11, 11, 10), Side::Ask, 100));
    assert!(book.marker(&marker(MarkerCode::EndOfSession, 0, 0)).changed);
    assert_eq!((book.sync().state(), book.book()), (SyncState::Empty, None));
}

/// A venue's instrument: what it would send, with faults, and the truth at every id.
struct Venue {
    random: Random,
    instrument: u32,
    chained: bool,
    last: u64,
    truth: Model,
    /// The truth and last id of the recent past, for snapshots that lag.
    past: Vec<(u64, Model)>,
    out: Records,
}

impl Venue {
    fn new(seed: u64, instrument: u32, chained: bool) -> Self {
        Self {
            random: Random(seed * 1000 + u64::from(instrument)),
            instrument,
            chained,
            last: 0,
            truth: Model::default(),
            past: vec![(0, Model::default())],
            out: Records::new(),
        }
    }

    fn truth_at(&self, sequence: u64) -> &Model {
        &self.past.iter().rev().find(|past| past.0 == sequence).unwrap().1
    }

    /// A level of this instrument.
    fn level(&self, update: (u64, u64, u64), side: Side, price: i64) -> Level {
        let mut level = level(1 + u8::from(self.chained), update, side, price);
        level.header.instrument = self.instrument;
        level
    }

    /// A marker of this instrument.
    fn marker(&self, code: MarkerCode, first: u64, count: u32) -> Marker {
        let mut marker = marker(code, first, count);
        marker.header.feed = 1 + u8::from(self.chained);
        marker.header.instrument = self.instrument;
        // A snapshot is received when the venue is further on.
        (marker.header.ts_event, marker.header.ts_recv) = (first as i64, self.last as i64 + 5);
        marker
    }

    /// One update; lost if `lose`.
    fn update(&mut self, lose: bool) {
        let first = self.last + 1 + if self.chained { self.random.below(5) } else { 0 };
        let last = first + self.random.below(4);
        let count = self.random.below(6);
        let mark = self.out.mark();
        for place in 0..count {
            let side = SIDES[self.random.below(2) as usize];
            let price = 1000 + self.random.below(300) as i64;
            let size = self.random.below(4) as i64;
            self.truth.set(side, price, size);
            let mut level = self.level((first, last, self.last), side, price);
            level.header.flags = if place + 1 == count { FLAG_LAST } else { 0 };
            level.size = size;
            self.out.push(&level);
        }
        if count == 0 {
            let mut empty = self.marker(MarkerCode::EmptyUpdate, first, 0);
            empty.header.sequence = last;
            (empty.last, empty.ts_start) = (last, self.last as i64);
            (empty.header.ts_event, empty.header.ts_recv) = (last as i64, last as i64 + 5);
            empty.channel = Channel::Depth as u8;
            self.out.push(&empty);
        }
        if lose {
            self.out.truncate(mark);
        } else if self.random.below(10) == 0 {
            let copy = self.out.as_bytes()[mark.0..].to_vec();
            self.out.extend_from_bytes(&copy).unwrap();
        }
        self.last = last;
        self.past.push((last, self.truth.clone()));
    }

    /// A snapshot of the present, or of a moment up to 30 updates ago.
    fn snapshot(&mut self) {
        let back = self.random.below(30).min(self.past.len() as u64 - 1) as usize;
        let (sequence, model) = self.past[self.past.len() - 1 - back].clone();
        let levels: Vec<_> = SIDES
            .into_iter()
            .flat_map(|side| model.levels(side).into_iter().map(move |l| (side, l)))
            .collect();
        self.out.push(&self.marker(MarkerCode::SnapshotBegin, sequence, levels.len() as u32));
        for (side, one) in levels {
            let mut level = self.level((sequence, sequence, 0), side, one.price);
            (level.channel, level.header.flags) = (Channel::Snapshot as u8, FLAG_SNAPSHOT);
            level.size = one.size;
            self.out.push(&level);
        }
        self.out.push(&self.marker(MarkerCode::SnapshotEnd, sequence, 0));
    }
}

#[test]
fn shown_book_is_always_the_venues_book() {
    // Random losses, duplicates, empty updates and late snapshots, on both rules: whenever the book
    // is shown, it equals the venue's at that id; every loss breaks it; it comes back each time. A
    // tracker without books is in the same state after every record.
    for seed in 0..300 {
        let chained = seed % 2 == 1;
        let mut venue = Venue::new(seed, 1, chained);
        let continuity = if chained { Continuity::Chained } else { Continuity::Adjacent };
        let mut book = SyncedBook::new(continuity);
        let mut tracker = SyncTracker::new();
        let (mut losses, mut shown) = (0, 0);
        for round in 0..400 {
            venue.out.clear();
            let lose = venue.random.below(40) == 0;
            venue.update(lose);
            losses += u64::from(lose);
            if book.sync().needs_snapshot() && venue.random.below(4) == 0 {
                venue.snapshot();
            }
            for record in &venue.out {
                tracker.observe(record.bytes());
                match (record.as_level(), record.as_marker()) {
                    (Some(level), _) => book.level(&level),
                    (_, Some(marker)) => book.marker(&marker),
                    _ => unreachable!(),
                };
                assert_eq!(tracker.state(1), book.sync().state(), "seed {seed}");
                assert_eq!(tracker.needs().count() == 1, book.sync().needs_snapshot());
            }
            if let Some(book_shown) = book.book() {
                let sequence = book.sync().sequence();
                let model = venue.truth_at(sequence);
                assert_equal(book_shown, model, &format!("seed {seed} round {round}"));
                shown += 1;
            }
        }
        assert!(shown > 40, "seed {seed}: shown {shown} of 400");
        assert!(book.sync().breaks() <= losses, "seed {seed}: broke without a loss");
    }
}

/// The normalised tape of four instruments of two feeds, with losses, and the venues behind it.
fn faulty_tape(seed: u64, ends: bool) -> (Records, Vec<Venue>) {
    let mut venues: Vec<_> = (1..5).map(|id| Venue::new(seed, id, id % 2 == 0)).collect();
    let mut tracker = SyncTracker::new();
    let mut tape = Records::new();
    let mut random = Random(seed);
    for round in 0..1500 {
        let venue = &mut venues[random.below(4) as usize];
        venue.out.clear();
        venue.update(random.below(60) == 0);
        if random.below(10) == 0 && tracker.needs().any(|id| id == venue.instrument) {
            venue.snapshot();
        }
        if ends && round == 1000 {
            let header = Header::of::<Marker>();
            venue.out.push(&Marker { header, ..marker(MarkerCode::EndOfSession, 0, 0) });
        }
        tracker.observe(venue.out.as_bytes());
        tape.extend_from_bytes(venue.out.as_bytes()).unwrap();
    }
    (tape, venues)
}

fn run(books: &mut Books, tape: &[u8], batch_size: usize) -> Records {
    let mut out = Records::new();
    // All records of these tapes are 64 bytes long.
    for bytes in tape.chunks(64 * batch_size) {
        books.process(Batch { first_offset: 0, count: bytes.len() / 64, bytes }, &mut out).unwrap();
    }
    out
}

/// What a reader of the book tape knows of one instrument.
#[derive(Default)]
struct Reader {
    book: L2Book,
    model: Model,
    verified: bool,
    whole: bool,
    frame: Vec<(Side, PriceLevel)>,
    updates: usize,
    checkpoints: usize,
    ts_top: Option<i64>,
}

impl Reader {
    fn marker(&mut self, marker: &Marker, venue: &Venue, context: &str) {
        let code = MarkerCode::try_from(marker.code).unwrap();
        match code {
            MarkerCode::BookState => {
                self.verified = marker.state == SyncState::Continuous as u8;
                self.whole = false;
            }
            MarkerCode::CheckpointBegin | MarkerCode::SnapshotBegin => {
                assert!(self.verified, "{context}");
                self.frame.clear();
            }
            MarkerCode::CheckpointEnd => {
                assert_eq!(self.frame.len(), marker.count as usize, "{context}");
                self.book.clear();
                self.model = Model::default();
                for (side, level) in &self.frame {
                    self.book.set(*side, level.price, level.size);
                    self.model.set(*side, level.price, level.size);
                }
                assert_eq!(self.book.checksum(), marker.last, "{context}");
                assert_eq!(&self.model, venue.truth_at(marker.header.sequence), "{context}");
                self.whole = true;
                self.checkpoints += 1;
            }
            MarkerCode::SnapshotEnd => {
                assert_eq!(self.frame.len(), marker.count as usize, "{context}");
                let truth = venue.truth_at(marker.header.sequence);
                let top = |side| truth.levels(side).into_iter().take(5).map(move |l| (side, l));
                let wanted: Vec<_> = top(Side::Bid).chain(top(Side::Ask)).collect();
                assert_eq!(self.frame, wanted, "{context}");
                let ts = marker.header.ts_event;
                assert!(self.ts_top.is_none_or(|last| last + 1_000_000 <= ts), "{context}");
                self.ts_top = Some(ts);
            }
            MarkerCode::EmptyUpdate => {
                assert!(self.whole, "{context}");
                assert_eq!(&self.model, venue.truth_at(marker.header.sequence), "{context}");
            }
            _ => panic!("{context}: {code:?} on the book tape"),
        }
    }

    fn level(&mut self, level: &Level, venue: &Venue, context: &str) {
        let side = Side::try_from(level.side).unwrap();
        assert!(self.verified, "{context}: a level of a book that is not verified");
        if level.channel != Channel::Depth as u8 {
            let (price, size) = (level.price, level.size);
            return self.frame.push((side, PriceLevel { price, size }));
        }
        assert!(self.whole, "{context}: an update before the first checkpoint");
        self.model.set(side, level.price, level.size);
        if level.header.flags & FLAG_LAST != 0 {
            assert_eq!(&self.model, venue.truth_at(level.header.sequence), "{context}");
            self.updates += 1;
        }
    }
}

#[test]
fn book_tape_shows_verified_books_only() {
    // A reader that trusts the book tape blindly is compared with the venue after every update,
    // checkpoint and top; the same bytes come out at any batch size.
    for seed in 0..20 {
        let (tape, venues) = faulty_tape(seed, true);
        let config = BooksConfig { snapshot_interval_ms: 1, snapshot_levels: 5 };
        let out = run(&mut Books::new(config), tape.as_bytes(), 4096);
        for batch_size in [1, 7] {
            let other = run(&mut Books::new(config), tape.as_bytes(), batch_size);
            assert!(other.as_bytes() == out.as_bytes(), "seed {seed} batch size {batch_size}");
        }
        let mut readers: [Reader; 4] = Default::default();
        for (place, record) in out.iter().enumerate() {
            let id = record.header().instrument as usize - 1;
            let context = format!("seed {seed} instrument {} record {place}", id + 1);
            match (record.as_level(), record.as_marker()) {
                (Some(level), _) => readers[id].level(&level, &venues[id], &context),
                (_, Some(marker)) => readers[id].marker(&marker, &venues[id], &context),
                _ => panic!("{context}: neither level nor marker"),
            }
        }
        for reader in &readers {
            let counts = (reader.updates, reader.checkpoints);
            assert!(counts.0 > 50 && counts.1 > 1, "seed {seed}: {counts:?}");
        }
    }
}

#[test]
fn restored_processor_goes_on_exactly() {
    // Cut the tape at random records, also in the middle of updates and snapshots: what a fresh
    // processor restored there writes, equals what the first would have written.
    for seed in 0..40 {
        let (tape, _) = faulty_tape(seed, true);
        let config = BooksConfig { snapshot_interval_ms: 1, snapshot_levels: 3 };
        let straight = run(&mut Books::new(config), tape.as_bytes(), 4096);
        let cut = Random(seed).below(tape.len() as u64) as usize * 64;
        let mut first = Books::new(config);
        let mut out = run(&mut first, &tape.as_bytes()[..cut], 4096);
        let mut state = Vec::new();
        first.snapshot(&mut state);
        let mut second = Books::new(config);
        second.restore(&state).unwrap();
        let mut again = Vec::new();
        second.snapshot(&mut again);
        assert_eq!(state, again, "seed {seed} cut {cut}");
        let rest = run(&mut second, &tape.as_bytes()[cut..], 4096);
        out.extend_from_bytes(rest.as_bytes()).unwrap();
        assert!(out.as_bytes() == straight.as_bytes(), "seed {seed} cut {cut}");
        for length in (0..state.len()).step_by(1 + state.len() / 200) {
            assert!(Books::default().restore(&state[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn no_record_can_make_the_processor_fail() {
    // Levels and markers with fields from anywhere, as a foreign or damaged tape might hold: no
    // panic, no overflow, the same bytes at any batch size, and a state that can be restored.
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut tape = Records::new();
        for _ in 0..500 {
            let any = |random: &mut Random| match random.below(8) {
                0 => u64::MAX - random.below(3),
                1 => random.next(),
                _ => random.below(12),
            };
            let mut level = level(1, (0, 0, 0), Side::Bid, any(&mut random) as i64);
            level.header.feed = random.below(3) as u8;
            level.header.instrument = random.below(4) as u32;
            level.header.flags = random.below(4) as u8;
            level.header.sequence = any(&mut random);
            level.header.ts_event = any(&mut random) as i64;
            level.size = any(&mut random) as i64;
            level.previous = any(&mut random);
            level.span = any(&mut random) as u32;
            level.side = random.below(20).min(3) as u8;
            level.channel = [4, 4, 9, 5, 0][random.below(5) as usize];
            let mut marker = marker(MarkerCode::Gap, any(&mut random), random.below(4) as u32);
            marker.header = Header { kind: marker.header.kind, ..level.header };
            marker.code = [1, 2, 8, 3, 7][(random.below(17) / 4) as usize];
            marker.channel = level.channel;
            (marker.last, marker.ts_start) = (any(&mut random), any(&mut random) as i64);
            if random.below(3) > 0 {
                tape.push(&level);
            } else {
                tape.push(&marker);
            }
        }
        let config = BooksConfig { snapshot_interval_ms: 1, snapshot_levels: 3 };
        let mut books = Books::new(config);
        let out = run(&mut books, tape.as_bytes(), 4096);
        let other = run(&mut Books::new(config), tape.as_bytes(), 7);
        assert!(out.as_bytes() == other.as_bytes(), "seed {seed}");
        let mut state = Vec::new();
        books.snapshot(&mut state);
        Books::new(config).restore(&state).unwrap();
    }
}

#[test]
fn lost_input_breaks_every_book() {
    // Retention passed the reader: what it missed is not known, so no book is shown until a new
    // snapshot; the tape says so for each.
    let (tape, _) = faulty_tape(3, false);
    let mut books = Books::default();
    run(&mut books, tape.as_bytes(), 4096);
    let shown = (1..5).filter(|&id| books.book(id).unwrap().book().is_some()).count();
    assert!(shown > 0);
    let mut out = Records::new();
    books.lost(&marker(MarkerCode::Gap, 5, 0), &mut out).unwrap();
    assert!((1..5).all(|id| books.book(id).unwrap().book().is_none()));
    assert!(out.iter().all(|record| record.as_marker().unwrap().state == SyncState::Broken as u8));
    assert!(out.len() >= shown);
}

#[test]
fn checkpoints_keep_rebuilding_short() {
    // One instrument is quiet after its start, another has 1.3 million level updates: no book needs
    // more than twice the promised levels of its own, or records of the tape, from a checkpoint.
    let mut books = Books::new(BooksConfig { snapshot_interval_ms: 0, snapshot_levels: 20 });
    let mut venues = [Venue::new(1, 1, false), Venue::new(1, 2, false)];
    let mut out = Records::new();
    for venue in &mut venues {
        venue.snapshot();
        let start = venue.last + 1;
        venue.out.push(&venue.level((start, start, start - 1), Side::Ask, 5));
        venue.last = start;
        out.extend_from_bytes(run(&mut books, venue.out.as_bytes(), 4096).as_bytes()).unwrap();
    }
    let busy = &mut venues[1];
    busy.out.clear();
    for id in busy.last + 1..busy.last + 1_300_000 {
        busy.out.push(&busy.level((id, id, id - 1), Side::Bid, (id % 500) as i64));
    }
    out.extend_from_bytes(run(&mut books, busy.out.as_bytes(), 4096).as_bytes()).unwrap();
    let mut last = [0; 2];
    let mut longest = [0; 2];
    for (place, record) in out.iter().enumerate() {
        let id = record.header().instrument as usize - 1;
        if record.as_marker().is_some_and(|m| m.code == MarkerCode::CheckpointBegin as u8) {
            last[id] = place;
        }
        for (longest, last) in longest.iter_mut().zip(last) {
            *longest = (place - last).max(*longest);
        }
    }
    assert!(longest[0] > 1 << 20 && longest[0] < 1_060_000, "{longest:?}");
    assert!(longest[1] < 21_000, "{longest:?}");
}

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("book-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn tape(&self) -> Tape {
        let durability = Durability::Never;
        let config = TapeConfig { durability, segment_bytes: 1 << 20, ..records_config() };
        Tape::open(&self.0, config).unwrap()
    }
}

fn records_config() -> TapeConfig {
    TapeConfig::new(TapeKind::Records)
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn append(tape: &mut Tape, records: &[u8], frame: usize) {
    for bytes in records.chunks(64 * frame) {
        tape.append(bytes, (bytes.len() / 64) as u32, 0, 0).unwrap();
    }
}

fn book_at(history: &mut BookHistory<TapeReader>, instrument: u32, moment: Moment) -> Past {
    history.at(instrument, moment).unwrap()
}

#[test]
fn history_gives_the_venues_book_or_says_why_not() {
    // Every instant of a faulty tape, by both clocks: a book that is given equals the venue's at
    // that instant, lost updates included; where an update was applied, a book is given. Times are
    // update ids here, so that the truth is known at each.
    for seed in 0..6 {
        let (normalised, venues) = faulty_tape(seed, false);
        let config = BooksConfig { snapshot_interval_ms: 1, snapshot_levels: 5 };
        let out = run(&mut Books::new(config), normalised.as_bytes(), 4096);
        let folder = Folder::new(&format!("history-{seed}"));
        append(&mut folder.tape(), out.as_bytes(), 100);
        let mut history = open_book_history(&folder.0).unwrap();
        let mut given = 0;
        for venue in &venues {
            let mine = out.iter().filter(|record| record.header().instrument == venue.instrument);
            let last = |level: &Level| level.header.flags & FLAG_LAST != 0;
            let applied = mine.filter_map(|record| record.as_level()).filter(last);
            for sequence in applied.map(|level| level.header.sequence as i64) {
                let past = book_at(&mut history, venue.instrument, Moment::Event(sequence));
                assert!(matches!(past, Past::Book(_)), "seed {seed} {sequence}: {past:?}");
            }
            for ts in 0..=venue.last as i64 {
                for moment in [Moment::Event(ts), Moment::Received(ts + 5)] {
                    let context = format!("seed {seed} {} {moment:?}", venue.instrument);
                    let Past::Book(past) = book_at(&mut history, venue.instrument, moment) else {
                        continue;
                    };
                    given += 1;
                    let past_id = venue.past.iter().rfind(|past| past.0 as i64 <= ts).unwrap();
                    if !past.is_newest {
                        assert_eq!(past.sequence, past_id.0, "{context}");
                    }
                    assert_equal(&past.book, venue.truth_at(past.sequence), &context);
                }
            }
        }
        assert!(given > 1000, "seed {seed}: {given}");
    }
}

#[test]
fn file_of_checkpoints_is_only_a_cache() {
    // The answers are the same with the file, with a damaged one, with one of another tape, and
    // without; a scan that grows with the tape finds the same as one over all of it.
    let normalised = |seed| faulty_tape(seed, false).0;
    let out = |seed| run(&mut Books::default(), normalised(seed).as_bytes(), 4096);
    let folder = Folder::new("cache");
    let mut tape = folder.tape();
    let busy: Vec<_> = (0..5).flat_map(|_| out(7).as_bytes().to_vec()).collect();
    let repeat = (1 << 18) / (busy.len() / 64) + 1;
    let mut growing = None;
    for _ in 0..repeat {
        append(&mut tape, &busy, 500);
        let history = growing.get_or_insert_with(|| open_book_history(&folder.0).unwrap());
        history.refresh().unwrap();
    }
    let answers = |history: &mut BookHistory<TapeReader>| -> Vec<_> {
        let ask = |ts| match book_at(history, 1, Moment::Event(ts)) {
            Past::Book(past) => (past.sequence, past.book.checksum()),
            Past::Unverified(unverified) => (unverified.sequence, 0),
        };
        (0..400).map(ask).collect()
    };
    let file = folder.0.join("checkpoints.idx");
    let whole = std::fs::read(&file).unwrap();
    let wanted = answers(&mut growing.unwrap());
    assert_eq!(answers(&mut open_book_history(&folder.0).unwrap()), wanted);
    for damage in [&whole[..10], &whole[..whole.len() - 1], &[], &[7; 100]] {
        std::fs::write(&file, damage).unwrap();
        assert_eq!(answers(&mut open_book_history(&folder.0).unwrap()), wanted);
    }
    assert_eq!(std::fs::read(&file).unwrap(), whole, "what was damaged is written again");
    // Another tape is laid where this one was, and the file stays.
    drop(tape);
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        if path != file {
            std::fs::remove_file(path).unwrap();
        }
    }
    let other: Vec<_> = (0..10).flat_map(|_| out(8).as_bytes().to_vec()).collect();
    let mut tape = folder.tape();
    for _ in 0..repeat {
        append(&mut tape, &other, 500);
    }
    let replaced = answers(&mut open_book_history(&folder.0).unwrap());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(replaced, answers(&mut open_book_history(&folder.0).unwrap()));
}
