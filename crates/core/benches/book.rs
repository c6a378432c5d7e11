//! L2 book: nanoseconds a level update, a read of the top, a checksum; the book at a past instant.
//!
//! Sketch: an update touches one directory entry and one cache line of sizes, both in L2 at 5,000
//! levels a side: a multiplication, two loads and two stores, so a few nanoseconds. Ten levels of
//! both sides are twenty loads from a handful of lines: some tens of nanoseconds.
//!
//! Reads `book_<levels>.bin` (24-byte records: u32 message, u8 side, u8 snapshot, u16, i64 price in
//! ticks, i64 size in lots) from the folder that `PEERS_DATA` names; the first two times `levels`
//! records fill the book. Without it, a seeded workload of the same shape is made.
//!
//! History: a book tape of `BOOK_HISTORY_LEVELS` level updates (default 2 million; a busy day has
//! 50) of four instruments is written to a temporary folder, and asked for random instants. A
//! question reads at most a million records of 64 bytes from a checkpoint on: 64 MB, some
//! milliseconds.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use tapeworks_core::book::{L2Book, Moment, Past, PriceLevel};
use tapeworks_core::processors::book_history::open_book_history;
use tapeworks_core::processors::books::Books;
use tapeworks_core::record::{Channel, Header, Level, Marker, MarkerCode, Side, FLAG_LAST, NONE};
use tapeworks_core::tape::{Batch, Durability, Tape, TapeConfig, TapeKind};
use tapeworks_core::{Processor, Records};

const ROUNDS: usize = 15;

/// One update, in the units of records.
struct Update {
    side: Side,
    price: i64,
    size: i64,
}

fn main() {
    for levels in [1000, 5000] {
        let updates = load(levels).unwrap_or_else(|| make(levels));
        let (fill, flow) = updates.split_at(levels * 2);
        let mut book = L2Book::new();
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            book.clear();
            fill.iter().for_each(|update| book.set(update.side, update.price, update.size));
            let start = cpu_ns();
            flow.iter().for_each(|update| book.set(update.side, update.price, update.size));
            times.push((cpu_ns() - start) / flow.len() as f64);
        }
        println!("book update, {levels} levels: {:.2} ns a level", median(times));
        println!("book top 10 of both sides, {levels} levels: {:.1} ns", top(&mut book, flow));
        let start = cpu_ns();
        black_box(book.checksum());
        let count = book.len(Side::Bid) + book.len(Side::Ask);
        println!("book checksum of {count} levels: {:.0} ns", cpu_ns() - start);
    }
    let levels = std::env::var("BOOK_HISTORY_LEVELS").ok().and_then(|text| text.parse().ok());
    history(levels.unwrap_or(2_000_000));
}

/// Milliseconds to rebuild the book at a random instant of a tape with `levels` level updates.
fn history(levels: usize) {
    let folder = std::env::temp_dir().join(format!("book-history-{}", std::process::id()));
    let start = Instant::now();
    let end = write_tape(&folder, levels);
    let written = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut history = open_book_history(&folder).expect("the tape was just written");
    history.refresh().expect("the tape was just written");
    let scan = start.elapsed().as_secs_f64() * 1e3;
    drop(history);
    let start = Instant::now();
    let mut history = open_book_history(&folder).expect("the tape was just written");
    let (mut times, mut cpu_times) = (Vec::new(), Vec::new());
    for place in 0..200_u64 {
        let start = if place == 0 { start } else { Instant::now() };
        let cpu = cpu_ns();
        let ts = 1 + (place * 7_919_217_331 % end as u64) as i64;
        let past = history.at(1 + place as u32 % 4, Moment::Event(ts)).expect("a whole tape");
        assert!(matches!(past, Past::Book(_)), "{past:?}");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        cpu_times.push((cpu_ns() - cpu) / 1e6);
    }
    let first = times[0];
    times.sort_by(f64::total_cmp);
    cpu_times.sort_by(f64::total_cmp);
    println!(
        "book at an instant of {levels} level updates: p50 {:.2} ms, p99 {:.2} ms (CPU {:.2} and \
         {:.2} ms); first question {first:.2} ms; first scan {scan:.0} ms; written at {:.2} M/s",
        times[100],
        times[197],
        cpu_times[100],
        cpu_times[197],
        levels as f64 / written / 1e6,
    );
    let _ = std::fs::remove_dir_all(&folder);
}

/// Writes the book tape of four instruments; returns the event time of the last update.
fn write_tape(folder: &Path, levels: usize) -> i64 {
    let config = TapeConfig { durability: Durability::Never, ..TapeConfig::new(TapeKind::Records) };
    let mut tape = Tape::open(folder, config).expect("a temporary folder");
    let mut books = Books::default();
    let (mut normalised, mut out) = (Records::new(), Records::new());
    let updates = load(5000).unwrap_or_else(|| make(5000));
    let (fill, flow) = updates.split_at(10_000);
    for instrument in 1..5 {
        normalised.push(&marker(instrument, MarkerCode::SnapshotBegin, fill.len() as u32));
        for update in fill {
            normalised.push(&level(instrument, 0, update, Channel::Snapshot));
        }
        normalised.push(&marker(instrument, MarkerCode::SnapshotEnd, 0));
    }
    let mut sequences = [0; 4];
    for (place, update) in flow.iter().cycle().take(levels).enumerate() {
        let instrument = place / 25 % 4;
        sequences[instrument] += 1;
        let sequence = sequences[instrument];
        normalised.push(&level(instrument as u32 + 1, sequence, update, Channel::Depth));
        if normalised.len() >= 4096 || place + 1 == levels {
            let bytes = normalised.as_bytes();
            let batch = Batch { first_offset: 0, count: normalised.len(), bytes };
            books.process(batch, &mut out).expect("sound records");
            tape.append(out.as_bytes(), out.len() as u32, 0, place as i64).expect("space");
            normalised.clear();
            out.clear();
        }
    }
    sequences[0] as i64
}

fn level(instrument: u32, sequence: u64, update: &Update, channel: Channel) -> Level {
    Level {
        header: Header {
            feed: 1,
            instrument,
            flags: FLAG_LAST,
            sequence,
            ts_event: sequence as i64,
            ts_recv: sequence as i64,
            ..Header::of::<Level>()
        },
        price: update.price,
        size: update.size,
        previous: sequence.wrapping_sub(1),
        span: 0,
        side: update.side as u8,
        channel: channel as u8,
        reserved: [0; 2],
    }
}

fn marker(instrument: u32, code: MarkerCode, count: u32) -> Marker {
    Marker {
        header: Header { feed: 1, instrument, ..Header::of::<Marker>() },
        code: code as u8,
        cause: 0,
        state: 0,
        channel: Channel::Snapshot as u8,
        count,
        first: 0,
        last: 0,
        ts_start: NONE,
    }
}

/// The read alone, each after 25 updates: what nine more reads cost, by nine, and the first one
/// from the difference to no read at all. The slower of the two.
fn top(book: &mut L2Book, flow: &[Update]) -> f64 {
    let mut tops = [PriceLevel::default(); 20];
    let mut times = [0, 1, 10].map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (reads, times) in [0, 1, 10].into_iter().zip(&mut times) {
            let start = cpu_ns();
            for updates in flow.chunks(25) {
                updates.iter().for_each(|update| book.set(update.side, update.price, update.size));
                for _ in 0..reads {
                    let (bids, asks) = tops.split_at_mut(10);
                    black_box(book.top(Side::Bid, bids) + book.top(Side::Ask, asks));
                    black_box(&tops);
                }
            }
            times.push((cpu_ns() - start) / (flow.len() as f64 / 25.0));
        }
    }
    let [none, one, ten] = times.map(median);
    (one - none).max((ten - one) / 9.0)
}

/// CPU time of this thread, in ns: other work on the machine does not count.
fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn load(levels: usize) -> Option<Vec<Update>> {
    let folder = std::env::var_os("PEERS_DATA")?;
    let path = std::path::Path::new(&folder).join(format!("book_{levels}.bin"));
    let bytes = std::fs::read(path).ok()?;
    let word = |at: &[u8]| i64::from_le_bytes(at.try_into().expect("eight bytes"));
    let update = |record: &[u8]| Update {
        side: if record[4] == 0 { Side::Bid } else { Side::Ask },
        price: word(&record[8..16]) * 10_000_000,
        size: word(&record[16..24]) * 1000,
    };
    Some(bytes.chunks_exact(24).map(update).collect())
}

/// A workload of the same shape: mostly near the touch, a third removals.
fn make(levels: usize) -> Vec<Update> {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let mut updates = Vec::new();
    for place in 0..levels as u64 * 2 + 1_000_000 {
        let fill = place < levels as u64 * 2;
        let reach = [16, 16, 16, 16, 16, 16, 16, 200, 200, levels as u64 * 17 / 10];
        let away = if fill { place / 2 } else { random() % reach[(random() % 10) as usize] };
        let bid = if fill { place % 2 == 0 } else { random() % 2 == 0 };
        let tick = if bid { 6_700_000 - 1 - away as i64 } else { 6_700_000 + away as i64 };
        let size = if !fill && random() % 10 < 3 { 0 } else { 1 + random() as i64 % 100_000 };
        let side = if bid { Side::Bid } else { Side::Ask };
        updates.push(Update { side, price: tick * 10_000_000, size });
    }
    updates
}
