//! Books of single orders: nanoseconds an event; ITCH to records, with books and without.
//!
//! Sketch: a message of 30 bytes becomes a record of 128: at 30 M messages/s that is 0.9 GB/s in
//! and 3.8 GB/s out, in the cache. It looks one order up in a table of tens of MB, so one line of
//! memory each, which is fetched ahead: bound by instructions and by how many lines can be on their
//! way at a time. An event of a book touches five to eight lines more: the slot of its id, the
//! order, its neighbours and its queue; of a new order the side, the page and the queue of its
//! price, and the last order there. Fetching ahead hides how long a line takes, not how many come.
//! Nor does it hide that a page is looked up: sampled by `perf record -e cpu-clock`, a quarter of
//! the time of the decoder's loop is at its two fetches of an order, which wait where the processor
//! does not remember the page. So what counts most is how few messages go to the table of older
//! orders, which is larger than the processor's memory of pages.
//!
//! Reads `l3.bin` (32-byte records: u8 action (0 add, 1 modify, 2 delete), u8 side, u16, u32, u64
//! order id, i64 price in ticks, i64 size in lots) from the folder that `PEERS_DATA` names; without
//! it that part is left out. `ITCH_MESSAGES` is the length of the session, 5 million if unset. Its
//! end state is compared with what the session's own market holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tapeworks_core::book::{Applied, OrderBooks};
use tapeworks_core::feeds::itch::{Itch, Run};
use tapeworks_core::record::blob::{Blob, BlobHeader, BlobKind};
use tapeworks_core::record::{Header, Order, OrderAction, Side, NONE};
use tapeworks_core::{Feed, FeedId, Instruments, Records};

mod session;
use session::{Session, STOCKS};

const ROUNDS: usize = 15;
/// Messages of a blob, as a file is cut when it is imported.
const RUN_MESSAGES: u32 = 1000;
/// Messages made at a time.
const PIECE: usize = 200_000;

/// Bytes held, and how often some were asked for.
static HELD: AtomicI64 = AtomicI64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The allocator of the system, counted.
struct Counted;

// SAFETY: every call goes to the allocator of the system as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn main() {
    if let Some(events) = load() {
        updates(&events);
    }
    let messages = std::env::var("ITCH_MESSAGES").ok().and_then(|text| text.parse().ok());
    let messages = messages.unwrap_or(5_000_000);
    if messages > 0 {
        run_session(messages);
    }
}

/// Nanoseconds an action of `l3.bin`, one by one and as a batch.
fn updates(events: &[Order]) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let mut books = OrderBooks::new();
        let start = cpu_ns();
        let mut changed = 0;
        for event in events {
            changed += usize::from(books.apply(event) == Applied::Changed);
        }
        times[0].push((cpu_ns() - start) / events.len() as f64);
        assert_eq!(changed, events.len(), "every action is of an order that is there");

        let (alone, mut books) = (books.len(), OrderBooks::new());
        let start = cpu_ns();
        books.apply_all(events, |_, _| {});
        times[1].push((cpu_ns() - start) / events.len() as f64);
        assert_eq!(books.len(), alone);
    }
    let [one, batch] = times.map(median);
    println!("L3 update: {one:.2} ns an action, {batch:.2} ns in a batch");
}

/// A decoder, its books, and what they took.
struct Contender {
    itch: Itch,
    instruments: Instruments,
    books: OrderBooks,
    out: Records,
    sequence: u64,
    ns: f64,
    events: u64,
    /// Bytes that the decoder's orders and the books hold.
    held: [i64; 2],
    asked: u64,
}

impl Contender {
    fn new() -> Self {
        Self {
            itch: Itch::new(FeedId::Itch),
            instruments: Instruments::new(),
            books: OrderBooks::new(),
            out: Records::new(),
            sequence: 1,
            ns: 0.0,
            events: 0,
            held: [0; 2],
            asked: 0,
        }
    }

    fn take(&mut self, bytes: &[u8], with_books: bool) {
        let header = BlobHeader { kind: BlobKind::Binary as u8, ..BlobHeader::default() };
        let asked = ASKED.load(Ordering::Relaxed);
        let mut at = 0;
        let start = cpu_ns();
        while at < bytes.len() {
            let run = Run::scan(bytes, at, RUN_MESSAGES, u64::MAX);
            let context = format!("file?name=x&midnight=0&sequence={}", self.sequence);
            let blob = Blob { header, context: context.as_bytes(), body: &bytes[at..run.end] };
            self.out.clear();
            let held = HELD.load(Ordering::Relaxed);
            let taken = self.itch.receive(&blob, &mut self.instruments, &mut self.out);
            assert_eq!(taken.expect("a sound blob").count, 0);
            let after = HELD.load(Ordering::Relaxed);
            self.held[0] += after - held;
            if with_books {
                let orders = self.out.iter().filter_map(|record| record.in_place::<Order>());
                self.books.apply_all(orders, |_, _| self.events += 1);
                self.held[1] += HELD.load(Ordering::Relaxed) - after;
            }
            self.sequence += u64::from(run.count);
            at = run.end;
        }
        self.ns += cpu_ns() - start;
        self.asked = ASKED.load(Ordering::Relaxed) - asked;
    }
}

fn run_session(messages: u64) {
    let mut session = Session::new(11);
    let (mut plain, mut booked) = (Contender::new(), Contender::new());
    let mut bytes = Vec::new();
    session.begin(&mut bytes);
    let mut turn = 0;
    // The first fifth fills the market up, and is not measured.
    let mut from = None;
    while session.count < messages {
        session.go_on(PIECE, &mut bytes);
        // Whichever comes second finds the bytes in the cache.
        if turn % 2 == 0 {
            plain.take(&bytes, false);
        }
        booked.take(&bytes, true);
        if turn % 2 == 1 {
            plain.take(&bytes, false);
        }
        bytes.clear();
        turn += 1;
        if from.is_none() && session.count * 5 >= messages {
            from = Some((session.count, plain.ns, booked.ns, booked.events));
        }
    }
    let (begin, plain_ns, booked_ns, begin_events) = from.expect("a session of some length");
    let count = (session.count - begin) as f64;
    let (decode, books) = (plain.ns - plain_ns, booked.ns - booked_ns);
    let events = (booked.events - begin_events) as f64;
    println!(
        "ITCH of {} messages: {:.2} M messages/s to records, {:.2} M messages/s with books; {:.1} \
         ns an event of a book",
        session.count,
        count / decode * 1e3,
        count / books * 1e3,
        (books - decode) / events,
    );
    let orders = booked.books.len() as f64;
    println!(
        "{orders} orders at rest: {:.0} bytes each in books, {:.0} in the decoder; {} allocations \
         in the last {PIECE} messages",
        booked.held[1] as f64 / orders,
        booked.held[0] as f64 / orders,
        booked.asked,
    );
    check(&session, &booked);
    assert_eq!(plain.itch.open_orders(), booked.itch.open_orders());
}

/// The end state: the orders of the books are those of the session's market.
fn check(session: &Session, side: &Contender) {
    let mut expected = session.orders();
    assert_eq!(side.itch.open_orders(), expected.len());
    assert_eq!(side.books.len(), expected.len());
    for instrument in 1..=STOCKS as u32 {
        for of in [Side::Bid, Side::Ask] {
            for found in side.books.orders(instrument, of) {
                let own = expected.remove(&found.id).expect("an order that rests");
                let own_side = if own.is_bid { Side::Bid } else { Side::Ask };
                let told = (i64::from(own.price) * 100_000, i64::from(own.shares) * 100_000_000);
                assert_eq!((found.price, found.size, of), (told.0, told.1, own_side));
                assert_eq!(u32::from(own.stock), instrument);
            }
        }
    }
    assert!(expected.is_empty());
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

fn load() -> Option<Vec<Order>> {
    let folder = std::env::var_os("PEERS_DATA")?;
    let bytes = std::fs::read(std::path::Path::new(&folder).join("l3.bin")).ok()?;
    let word = |at: &[u8]| i64::from_le_bytes(at.try_into().expect("eight bytes"));
    let action = |number: u8| match number {
        0 => OrderAction::Add,
        1 => OrderAction::Modify,
        _ => OrderAction::Delete,
    };
    let event = |record: &[u8]| Order {
        header: Header { instrument: 1, ..Header::of::<Order>() },
        price: word(&record[16..24]) * 10_000_000,
        size: word(&record[24..32]) * 100_000_000,
        order_id: word(&record[8..16]).unsigned_abs(),
        previous_id: 0,
        match_id: 0,
        order_price: NONE,
        remaining: NONE,
        participant: [0; 8],
        action: action(record[0]) as u8,
        side: record[1] + 1,
        cross: 0,
        printed: 0,
        reserved: [0; 28],
    };
    Some(bytes.chunks_exact(32).map(event).collect())
}
