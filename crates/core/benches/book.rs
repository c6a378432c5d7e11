//! L2 book: nanoseconds a level update, a read of the top, a checksum.
//!
//! Sketch: an update touches one directory entry and one cache line of sizes, both in L2 at 5,000
//! levels a side: a multiplication, two loads and two stores, so a few nanoseconds. Ten levels of
//! both sides are twenty loads from a handful of lines: some tens of nanoseconds.
//!
//! Reads `book_<levels>.bin` (24-byte records: u32 message, u8 side, u8 snapshot, u16, i64 price in
//! ticks, i64 size in lots) from the folder that `PEERS_DATA` names; the first two times `levels`
//! records fill the book. Without it, a seeded workload of the same shape is made.

use std::hint::black_box;
use std::time::Instant;

use tapeworks_core::book::{L2Book, PriceLevel};
use tapeworks_core::record::Side;

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
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            book.clear();
            fill.iter().for_each(|update| book.set(update.side, update.price, update.size));
            let start = Instant::now();
            flow.iter().for_each(|update| book.set(update.side, update.price, update.size));
            best = best.min(start.elapsed().as_nanos() as f64 / flow.len() as f64);
        }
        println!("book update, {levels} levels: {best:.2} ns a level");
        println!("book top 10 of both sides, {levels} levels: {:.1} ns", top(&mut book, flow));
        let start = Instant::now();
        black_box(book.checksum());
        let count = book.len(Side::Bid) + book.len(Side::Ask);
        println!("book checksum of {count} levels: {} ns", start.elapsed().as_nanos());
    }
}

/// The read alone: time with it less time without it, over the same updates.
fn top(book: &mut L2Book, flow: &[Update]) -> f64 {
    let mut tops = [PriceLevel::default(); 20];
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let mut times = [0.0; 2];
        for (reads, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            for updates in flow.chunks(25) {
                updates.iter().for_each(|update| book.set(update.side, update.price, update.size));
                if reads == 1 {
                    let (bids, asks) = tops.split_at_mut(10);
                    black_box(book.top(Side::Bid, bids) + book.top(Side::Ask, asks));
                    black_box(&tops);
                }
            }
            *time = start.elapsed().as_nanos() as f64;
        }
        best = best.min((times[1] - times[0]) / (flow.len() as f64 / 25.0));
    }
    best
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
