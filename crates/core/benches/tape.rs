//! How fast a tape is written, scanned, and handed over to another process.
//!
//! The sketch: a frame of 1,000 records is 64,040 bytes. Copying and CRC-32C each run at 10 GB/s
//! and more, so that 20 M records/s (1.28 GB/s) take an eighth of a core for each; what is left
//! goes to the page faults of 312 k fresh pages a second. A frame of one record is 104 bytes: 5 M
//! a second leave 200 ns each. A scan at 80 M records/s reads 5.1 GB/s, which memory gives once.
//! A hand-over is a store that another core sees: 100 ns and the copy.
//!
//! `BENCH_SCALE` makes everything smaller by that factor.
//!
//! Arguments: a folder to write in (default: the one for temporary files), and a part of a name.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tapeworks_core::record::{Header, Plain, Trade};
use tapeworks_core::tape::NO_INPUT;
use tapeworks_core::{Durability, Reader, Tape, TapeConfig, TapeKind};

const HAND_OVERS: u64 = 200_000;

/// `count`, or as much of it as `BENCH_SCALE` says.
fn scaled(count: u64) -> u64 {
    let scale = std::env::var("BENCH_SCALE").ok().and_then(|text| text.parse().ok());
    ((count as f64 * scale.unwrap_or(1.0)) as u64).max(100)
}

type Bench = fn(&Path);

fn main() {
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|each| !each.starts_with("--")).collect();
    if arguments.first().is_some_and(|first| first == "reader") {
        return hand_over_reader(Path::new(&arguments[1]));
    }
    let name = arguments.pop().filter(|last| !Path::new(last).is_dir()).unwrap_or_default();
    let root = arguments.pop().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = root.join(format!("tapeworks-bench-{}", std::process::id()));
    let benches: [(&str, Bench); 5] = [
        ("append_batches", append_batches),
        ("append_single", append_single),
        ("append_paced", append_paced),
        ("scan", scan),
        ("hand_over", hand_over),
    ];
    for (_, bench) in benches.iter().filter(|(each, _)| each.contains(&name)) {
        drop(std::fs::remove_dir_all(&folder));
        bench(&folder);
    }
    drop(std::fs::remove_dir_all(&folder));
}

fn config(durability: Durability) -> TapeConfig {
    TapeConfig { durability, ..TapeConfig::new(TapeKind::Records) }
}

fn records(count: usize) -> Vec<u8> {
    let mut header = Header::of::<Trade>();
    header.ts_recv = 1;
    let trade = Trade {
        header,
        price: 3,
        size: 7,
        trade_id: 1,
        count: 1,
        side: 1,
        channel: 1,
        conditions: [0; 2],
    };
    trade.as_bytes().repeat(count)
}

fn report(name: &str, records: usize, took: Duration) {
    let rate = records as f64 / took.as_secs_f64() / 1e6;
    println!("{name}: {rate:.1} M records/s, {:.1} ns each", 1e3 / rate);
}

/// Time on a processor, to the nanosecond: of this thread (`CLOCK_THREAD_CPUTIME_ID`), or of all
/// (`CLOCK_PROCESS_CPUTIME_ID`), of which the others sync, and hash closed segments.
fn processor_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain structure of integers that the call fills.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Runs `once` three times and reports the fastest: the first touches memory that the machine
/// itself may still have to find, and others may want the processor.
fn report_best(name: &str, records: usize, mut once: impl FnMut()) {
    let clocks = [libc::CLOCK_THREAD_CPUTIME_ID, libc::CLOCK_PROCESS_CPUTIME_ID];
    let (mut best, mut best_used) = (Duration::MAX, [Duration::MAX; 2]);
    for _ in 0..3 {
        let (start, used) = (Instant::now(), clocks.map(processor_time));
        once();
        best = best.min(start.elapsed());
        for (index, &clock) in clocks.iter().enumerate() {
            best_used[index] = best_used[index].min(processor_time(clock) - used[index]);
        }
    }
    report(name, records, best);
    report("  by processor time of the appending thread", records, best_used[0]);
    report("  by processor time of all threads", records, best_used[1]);
}

fn append_batches(folder: &Path) {
    let batch = records(1000);
    let count = scaled(10_000);
    let records = count as usize * 1000;
    for (name, durability) in
        [("never", Durability::Never), ("every 50 ms", Durability::IntervalMs(50))]
    {
        drop(std::fs::remove_dir_all(folder));
        let mut tape = Tape::open(folder, config(durability)).expect("a tape can be made");
        report_best(&format!("append 1000 at once, durable {name}"), records, || {
            for _ in 0..count {
                tape.append(&batch, 1000, NO_INPUT, 1).expect("there is room");
            }
        });
    }
    append_beside_file(folder, &batch, count);
}

/// The same bytes appended to a tape and written to a plain file, in turns, so that what disturbs
/// the machine disturbs both. Each turn has a new file; making and removing it is not timed.
fn append_beside_file(folder: &Path, batch: &[u8], count: u64) {
    drop(std::fs::remove_dir_all(folder));
    let mut tape = Tape::open(folder, config(Durability::Never)).expect("a tape can be made");
    let path = folder.with_extension("plain");
    let timed = |write: &mut dyn FnMut()| {
        let start = processor_time(libc::CLOCK_THREAD_CPUTIME_ID);
        (0..count).for_each(|_| write());
        (processor_time(libc::CLOCK_THREAD_CPUTIME_ID) - start).as_secs_f64()
    };
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let appended = timed(&mut || {
            tape.append(batch, 1000, NO_INPUT, 1).expect("there is room");
        });
        let mut file = File::create(&path).expect("a file can be made");
        let written = timed(&mut || file.write_all(batch).expect("there is room"));
        drop(std::fs::remove_file(&path));
        ratios.push(written / appended);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let [least, .., most] = ratios[..] else { return };
    let (name, median) = ("append beside a plain file of the same bytes", ratios[2]);
    println!("{name}, median of 5: {median:.2} x ({least:.2} .. {most:.2})");
}

fn append_single(folder: &Path) {
    let one = records(1);
    let mut tape = Tape::open(folder, config(Durability::IntervalMs(50))).expect("can be made");
    let count = scaled(5_000_000);
    report_best("append one by one, durable every 50 ms", count as usize, || {
        for _ in 0..count {
            tape.append(&one, 1, NO_INPUT, 1).expect("there is room");
        }
    });
}

/// What one append takes at 20,000 a second, with the disk being synced beside it.
fn append_paced(folder: &Path) {
    let one = records(4);
    let mut tape = Tape::open(folder, config(Durability::IntervalMs(50))).expect("can be made");
    let mut took = Vec::with_capacity(60_000);
    let mut due = now_ns();
    for _ in 0..scaled(60_000) {
        while now_ns() < due {
            std::hint::spin_loop();
        }
        let start = now_ns();
        tape.append(&one, 4, NO_INPUT, 1).expect("there is room");
        took.push(now_ns() - start);
        due += 50_000;
    }
    report_spread("append of 256 bytes, 20 k/s, durable every 50 ms", took);
}

fn report_spread(name: &str, mut each: Vec<i64>) {
    each.sort_unstable();
    let at = |share: f64| each[(each.len() as f64 * share) as usize];
    println!(
        "{name}: p50 {} ns, p99 {} ns, p99.9 {} ns, longest {} ns",
        at(0.5),
        at(0.99),
        at(0.999),
        each[each.len() - 1]
    );
}

fn scan(folder: &Path) {
    let batch = records(1000);
    let mut tape = Tape::open(folder, config(Durability::Never)).expect("a tape can be made");
    for _ in 0..scaled(16_000) {
        tape.append(&batch, 1000, NO_INPUT, 1).expect("there is room");
    }
    tape.sync().expect("the disk takes it");
    for (name, verify) in [("checksums verified", true), ("not verified", false)] {
        let mut best = Duration::MAX;
        let mut count = 0;
        for _ in 0..5 {
            let mut reader = Reader::open(folder).expect("the tape can be read");
            reader.set_verify(verify);
            let start = Instant::now();
            count = 0;
            let mut sum = 0u64;
            while let Some(batch) = reader.read(usize::MAX).expect("the tape is whole") {
                // Each record is touched, as whoever reads does.
                for record in batch.bytes.chunks_exact(64) {
                    sum = sum.wrapping_add(u64::from(record[1]));
                }
                count += batch.count;
            }
            black_box(sum);
            best = best.min(start.elapsed());
        }
        report(&format!("scan, {name}, best of 5"), count, best);
    }
}

fn now_ns() -> i64 {
    // SAFETY: a plain structure of integers that the call fills.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Writes records at a steady pace, each with its time; another process reads them.
fn hand_over(folder: &Path) {
    let mut tape = Tape::open(folder, config(Durability::Never)).expect("a tape can be made");
    let this = std::env::current_exe().expect("this program has a path");
    let mut reader = Command::new(this)
        .arg("reader")
        .arg(folder)
        .stdout(Stdio::inherit())
        .spawn()
        .expect("this program can be run");
    std::thread::sleep(Duration::from_millis(300));
    let mut record = records(1);
    for _ in 0..scaled(HAND_OVERS) {
        let now = now_ns();
        record[16..24].copy_from_slice(&now.to_le_bytes());
        tape.append(&record, 1, NO_INPUT, 1).expect("there is room");
        while now_ns() < now + 5_000 {
            std::hint::spin_loop();
        }
    }
    reader.wait().expect("the reader ends");
}

fn hand_over_reader(folder: &Path) {
    let mut reader = Reader::open(folder).expect("the tape can be read");
    reader.set_spin(Duration::from_secs(10));
    let count = scaled(HAND_OVERS) as usize;
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        reader.wait(Duration::from_secs(10));
        while let Some(batch) = reader.read(1).expect("the tape is whole") {
            let now = now_ns();
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&batch.bytes[16..24]);
            delays.push(now - i64::from_le_bytes(bytes));
        }
    }
    report_spread("hand-over to another process, 200 k/s", delays);
}
