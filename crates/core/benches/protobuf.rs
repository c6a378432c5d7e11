//! Records to messages and back, on one core.
//!
//! Sketch: a trade is 64 bytes and its message some 110, so 8 M messages a second read 0.5 GB/s
//! and write 0.9 GB/s, a tenth of what memory gives. It has 20 fields: at 125 ns a message, 6 ns
//! for each.
//!
//! `cargo bench --bench protobuf` prints medians of several rounds, taken in turns.

use std::hint::black_box;

use tapeworks_core::protobuf::{Choice, Decoder, EncodedBatch, Encoder};
use tapeworks_core::record::{Definition, Header, Plain, Quote, Record, Records, Tick, Trade};

const ROUNDS: usize = 9;
const BATCH: usize = 16_384;
const BATCHES: usize = 64;
const START: i64 = 1_700_000_000_000_000_000;

fn header<R: Record>(at: i64) -> Header {
    Header {
        feed: 1,
        flags: 1,
        instrument: 1 + (at % 50) as u32,
        ts_event: START + at * 137_000,
        ts_recv: START + at * 137_000 + 2_345_678,
        sequence: 4_000_000_000 + at as u64,
        ..Header::of::<R>()
    }
}

fn price(at: i64) -> i64 {
    60_000_000_000_000 + (at * 7919 % 100_000) * 10_000_000
}

fn market() -> [(&'static str, Records); 3] {
    let (mut trades, mut quotes, mut ticks) = (Records::new(), Records::new(), Records::new());
    for at in 0..BATCH as i64 {
        let mut trade = Trade::read_from(&[0; 64]).expect("64 bytes");
        trade.header = header::<Trade>(at);
        (trade.price, trade.size) = (price(at), 1 + at * 104_729 % 500_000_000);
        (trade.trade_id, trade.count, trade.side) = (trade.header.sequence, 1, 1 + (at % 2) as u8);
        trade.channel = 1;
        trades.push(&trade);
        let mut quote = Quote::read_from(&[0; 64]).expect("64 bytes");
        quote.header = header::<Quote>(at);
        (quote.bid_price, quote.ask_price) = (price(at), price(at) + 10_000_000);
        (quote.bid_size, quote.ask_size) = (at * 1_000_003 % 900_000_000, 12_345_678);
        quotes.push(&quote);
        let mut tick = Tick::read_from(&[0; 64]).expect("64 bytes");
        tick.header = header::<Tick>(at);
        (tick.bid, tick.ask, tick.last) = (price(at), price(at) + 10_000_000, price(at));
        tick.volume = trade.size;
        ticks.push(&tick);
    }
    [("trade", trades), ("quote", quotes), ("tick", ticks)]
}

fn encoder() -> Encoder {
    let mut records = Records::new();
    for instrument in 1..=50 {
        let mut definition = Definition::read_from(&[0; 192]).expect("192 bytes");
        definition.header = Header { instrument, ..Header::of::<Definition>() };
        definition.symbol[..7].copy_from_slice(format!("SY{instrument:02}USD").as_bytes());
        records.push(&definition);
    }
    let mut encoder = Encoder::new("binance-spot", b"").expect("short names");
    let mut defined = EncodedBatch::new();
    encoder
        .encode(records.as_bytes(), 0, &Choice::default(), &mut defined)
        .expect("definitions have a message");
    encoder
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = cpu_seconds();
    work();
    cpu_seconds() - start
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let (mut encoder, all) = (encoder(), Choice::default());
    for (name, records) in market() {
        let (mut batch, mut out) = (EncodedBatch::new(), Records::new());
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            times[0].push(timed(|| {
                for round in 0..BATCHES {
                    batch.clear();
                    let first = (round * BATCH) as u64;
                    encoder.encode(records.as_bytes(), first, &all, &mut batch).expect("they fit");
                    black_box(batch.byte_length());
                }
            }));
            times[1].push(timed(|| {
                for _ in 0..BATCHES {
                    out.clear();
                    for index in 0..batch.len() {
                        Decoder.decode(batch.message(index), &mut out).expect("they were encoded");
                    }
                    black_box(out.len());
                }
            }));
        }
        let size = batch.byte_length() / batch.len();
        for (step, seconds) in ["encode", "decode"].iter().zip(&mut times) {
            seconds.sort_by(f64::total_cmp);
            let rate = (BATCH * BATCHES) as f64 / seconds[ROUNDS / 2] / 1e6;
            println!("{name:5} {step}: {rate:6.2} M messages/s ({size} bytes each)");
        }
    }
}
