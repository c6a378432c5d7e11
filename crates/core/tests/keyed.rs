//! Processors by instrument give what one processor of all instruments gives of each.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tapeworks_core::keyed::{Form, Instances, Output, Plan, Router};
use tapeworks_core::processors::{find, metrics, Batch, Setting, Settings};
use tapeworks_core::protobuf::{Choice, Decoder, EncodedBatch, Encoder};
use tapeworks_core::record::{
    records, Channel, GapState, Header, Marker, MarkerCode, Records, Trade, FLAG_HISTORICAL,
    FLAG_LAST, FLAG_OUT_OF_ORDER,
};

#[path = "setup/market.rs"]
mod market;
#[path = "setup/order_days.rs"]
mod order_days;
use market::{raw, Chance};
use order_days::{OrderDays, SYMBOLS};

const SOURCE: &str = "binance-spot";
const SHARDS: u32 = 8;
/// By processor and instrument, all records.
type Given = BTreeMap<(usize, u32), Vec<u8>>;

type Steps = Vec<(String, Settings)>;

fn plan() -> Steps {
    plan_with(1_000)
}

/// With a sample each so many ms, or with each record for 0.
fn plan_with(interval_ms: i64) -> Steps {
    let sets: Vec<_> = metrics::sets().map(|(name, _)| name).collect();
    // Windows of trades end by silence as well, on a grid that the router tells of.
    let windows = "tumbling 10ms, session 25ms, count 7";
    let metrics = Settings::new()
        .with("sets", Setting::Text(sets.join(",")))
        .with("interval_ms", Setting::Number(interval_ms))
        .with("trade_windows", Setting::Text(windows.to_owned()))
        .with("window_delay_ms", Setting::Number(5));
    // What comes late is common in these records: it is closed by the time, not by the next one.
    let bars = Settings::new().with("grace_ms", Setting::Number(30));
    vec![
        ("books".to_owned(), Settings::new()),
        ("bars".to_owned(), bars),
        ("ticks".to_owned(), Settings::new()),
        ("metrics".to_owned(), metrics),
        ("gaps".to_owned(), Settings::new()),
    ]
}

/// The records of a source in the order of its tape.
fn normalized(seed: u64) -> Records {
    let blobs = raw(seed, 4_000);
    let settings = Settings::new().with("feed", Setting::Text(SOURCE.to_owned()));
    let mut normalizer = find("normalize").unwrap().build(&settings).unwrap();
    let mut out = Records::new();
    let batch = Batch { first_offset: 0, count: blobs.len(), bytes: blobs.as_bytes() };
    normalizer.process(batch, &mut out).unwrap();
    out
}

fn together(records: &Records, plan: &Steps) -> Given {
    let mut given = Given::new();
    for (step, (name, settings)) in plan.iter().enumerate() {
        let mut processor = find(name).unwrap().build(settings).unwrap();
        let mut out = Records::new();
        let batch = Batch { first_offset: 0, count: records.len(), bytes: records.as_bytes() };
        processor.process(batch, &mut out).unwrap();
        for record in &out {
            let place = (step, record.header().instrument);
            given.entry(place).or_default().extend_from_slice(record.bytes());
        }
    }
    given
}

/// Some workers, each with the shards of its part, which are stopped and shared out anew.
struct Workers {
    plan: Plan,
    form: Form,
    workers: Vec<Instances>,
    stored: BTreeMap<String, (u32, Vec<u8>)>,
    given: Given,
    counts: BTreeMap<(usize, Vec<u8>), u64>,
}

impl Workers {
    fn new(form: Form, steps: &Steps) -> Self {
        let plan = Plan::new(steps).unwrap();
        let workers = vec![Instances::new(&plan, form)];
        let (stored, given, counts) = (BTreeMap::new(), Given::new(), BTreeMap::new());
        Self { plan, form, workers, stored, given, counts }
    }

    fn process(&mut self, router: &mut Router) {
        let Self { form, workers, given, counts, .. } = self;
        let count = workers.len();
        let taken: Result<(), Infallible> = router.take(|shard, frame| {
            let mut put = |output: Output<'_>| {
                let mut own = Records::new();
                if *form == Form::Records {
                    own = Records::from_bytes(output.body).unwrap();
                } else {
                    let origin = Decoder.decode(output.body, &mut own).unwrap();
                    let before = counts.entry((output.step, output.key.to_vec())).or_default();
                    assert_eq!(origin.offset, *before);
                    *before += 1;
                }
                for record in &own {
                    let place = (output.step, record.header().instrument);
                    given.entry(place).or_default().extend_from_slice(record.bytes());
                }
            };
            workers[shard as usize % count].process(SOURCE, shard, frame, &mut put).unwrap();
            Ok(())
        });
        let Ok(()) = taken;
    }

    /// Stores what changed, and goes on with another number of workers from what is stored.
    fn share_out(&mut self, count: usize) {
        for worker in &mut self.workers {
            let stored: Result<(), Infallible> = worker.changed(|shard, name, state| {
                self.stored.insert(name.to_owned(), (shard, state.to_vec()));
                Ok(())
            });
            let Ok(()) = stored;
        }
        self.workers = (0..count).map(|_| Instances::new(&self.plan, self.form)).collect();
        for (shard, state) in self.stored.values() {
            self.workers[*shard as usize % count].restore(*shard, state).unwrap();
        }
    }
}

fn restart(router: &mut Router, plan: &Plan) {
    let mut state = Vec::new();
    router.snapshot(&mut state).unwrap();
    *router = Router::restore(plan, SHARDS, &state).unwrap();
}

fn compare(expected: &Given, found: &Given, told: &str) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{told}");
    for (place, bytes) in expected {
        let pairs = records::iterate(bytes).zip(records::iterate(&found[place])).enumerate();
        for (index, (wanted, got)) in pairs {
            assert_eq!(
                wanted.bytes(),
                got.bytes(),
                "{told}: {place:?}, record {index}: {wanted:?} {got:?}"
            );
        }
        assert_eq!(bytes.len(), found[place].len(), "{told}: {place:?}");
    }
}

#[test]
fn each_instrument_has_the_output_of_one_processor_of_all() {
    // Batches of any size, with stops and another number of workers at random places.
    for seed in 1..7 {
        let records = normalized(seed);
        let steps = plan_with([1_000, 0][seed as usize % 2]);
        let expected = together(&records, &steps);
        assert!(expected.len() >= 9, "{:?}", expected.keys());
        for size in [1, 7, 4096] {
            let mut chance = Chance(seed * 31 + size as u64);
            let mut workers = Workers::new(Form::Records, &steps);
            let mut router = Router::new(&workers.plan, SOURCE, SHARDS).unwrap();
            let mut start = 0;
            while start < records.len() {
                let end = (start + size).min(records.len());
                let batch = records.part(start, end).unwrap();
                router.deal_batch(batch.as_bytes(), start as u64).unwrap();
                workers.process(&mut router);
                start = end;
                if chance.below(1 + 2_000 / size as u64) == 0 {
                    workers.share_out(1 + chance.below(4) as usize);
                    restart(&mut router, &workers.plan);
                }
            }
            compare(&expected, &workers.given, &format!("seed {seed}, batches of {size}"));
        }
    }
}

/// Trades of three instruments, two of which are silent for long: then they come in order, late or
/// from history, with gaps between that are told at once or later. The host's clock is ahead of the
/// venue's, by another time in the second half.
fn sparse_trades(seed: u64) -> Records {
    const MS: i64 = 1_000_000;
    let mut chance = Chance(seed * 7_919);
    let mut out = Records::new();
    let mut now = 1_700_000_000_000 * MS;
    let clocks = [0, 3_100, 3_600_000];
    for number in 0..6_000 {
        let ahead = clocks[(seed as usize + number / 3_000) % clocks.len()];
        let most = [60, 9_000][usize::from(chance.below(100) == 0)];
        now += chance.below(most) as i64 * MS;
        let instrument = if chance.below(12) > 1 { 3 } else { 1 + chance.below(2) as u32 };
        let odd = chance.below(4);
        let late = [0, chance.below(40), chance.below(4_000), chance.below(16_000)][odd as usize];
        let flags = [0, 0, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER][odd as usize];
        let ts_event = now - (ahead + late as i64) * MS;
        let flags = FLAG_LAST | flags;
        let at = |header| Header { instrument, flags, ts_event, ts_recv: now, ..header };
        if chance.below(200) == 0 {
            out.push(&Marker {
                header: at(Header::of::<Marker>()),
                code: MarkerCode::Gap as u8,
                cause: 1,
                state: GapState::Closed as u8,
                channel: Channel::Trade as u8,
                count: 1,
                first: 1,
                last: 1,
                ts_start: ts_event - chance.below(5_000) as i64 * MS,
            });
            continue;
        }
        out.push(&Trade {
            header: at(Header::of::<Trade>()),
            price: (100 + chance.below(9) as i64) * 1_000_000_000,
            size: (1 + chance.below(9) as i64) * 100_000_000,
            trade_id: 0,
            count: 1,
            side: 1 + chance.below(2) as u8,
            channel: Channel::Trade as u8,
            conditions: [0; 2],
        });
    }
    out
}

#[test]
fn windows_of_trades_that_come_late_are_those_of_one_processor_of_all() {
    // What ends a window that a late trade opened is the receipt of others: each instance is told
    // the time alone, and must make it final by the same record.
    let windows = "tumbling 10ms, sliding 200ms 50ms, session 25ms, session 3s, count 3";
    for (interval, partial) in [(0, 0), (1_000, 1), (0, 1), (1_000, 0)] {
        let metrics = Settings::new()
            .with("sets", Setting::Text("l1".to_owned()))
            .with("interval_ms", Setting::Number(interval))
            .with("partial", Setting::Number(partial))
            .with("trade_windows", Setting::Text(windows.to_owned()));
        let steps = vec![("metrics".to_owned(), metrics)];
        for seed in 1..4 {
            let records = sparse_trades(seed);
            let expected = together(&records, &steps);
            let mut chance = Chance(seed);
            let mut workers = Workers::new(Form::Records, &steps);
            let mut router = Router::new(&workers.plan, SOURCE, SHARDS).unwrap();
            for start in (0..records.len()).step_by(50) {
                let batch = records.part(start, (start + 50).min(records.len())).unwrap();
                router.deal_batch(batch.as_bytes(), start as u64).unwrap();
                workers.process(&mut router);
                if chance.below(20) == 0 {
                    workers.share_out(1 + chance.below(3) as usize);
                    restart(&mut router, &workers.plan);
                }
            }
            compare(&expected, &workers.given, &format!("seed {seed}, interval {interval}"));
        }
    }
}

#[test]
fn orders_that_a_venue_numbers_anew_begin_anew_for_every_instrument() {
    // The first order of a day is of another instrument than most, or of one that is not measured,
    // or is not taken in; the number of an instrument's own first one is often above its last one.
    for seed in 1..7 {
        let records = OrderDays::of(seed);
        let mut steps = plan_with([1_000, 0][seed as usize % 2]);
        if seed > 3 {
            let settings = steps[3].1.clone();
            steps[3].1 = settings.with("symbols", Setting::Text(SYMBOLS[1..].join(",")));
        }
        let expected = together(&records, &steps);
        assert!(expected.keys().filter(|(step, _)| *step == 3).count() >= 3);
        for size in [1, 64] {
            let mut chance = Chance(seed * 17 + size as u64);
            let mut workers = Workers::new(Form::Records, &steps);
            let mut router = Router::new(&workers.plan, SOURCE, SHARDS).unwrap();
            for start in (0..records.len()).step_by(size) {
                let batch = records.part(start, (start + size).min(records.len())).unwrap();
                router.deal_batch(batch.as_bytes(), start as u64).unwrap();
                workers.process(&mut router);
                if chance.below(1 + 200 / size as u64) == 0 {
                    workers.share_out(1 + chance.below(4) as usize);
                    restart(&mut router, &workers.plan);
                }
            }
            compare(&expected, &workers.given, &format!("seed {seed}, batches of {size}"));
        }
    }
}

#[test]
fn messages_on_several_lines_are_put_in_the_order_of_the_tape() {
    // Each instrument has a line; lines run ahead of each other, and some messages come twice.
    for seed in 1..4 {
        let records = normalized(seed);
        let expected = together(&records, &plan());
        let (mut encoder, mut messages) = (Encoder::new(SOURCE, &[]).unwrap(), EncodedBatch::new());
        encoder.encode(records.as_bytes(), 0, &Choice::default(), &mut messages).unwrap();
        let mut lines = vec![Vec::new(); 3];
        for (index, instrument) in messages.instruments().iter().enumerate() {
            lines[*instrument as usize % 3].push(index);
        }
        let mut chance = Chance(seed);
        let mut workers = Workers::new(Form::Messages, &plan());
        let mut router = Router::new(&workers.plan, SOURCE, SHARDS).unwrap();
        let mut at = [0; 3];
        while (0..3).any(|line| at[line] < lines[line].len()) {
            let line = chance.below(3) as usize;
            let end = (at[line] + chance.below(400) as usize).min(lines[line].len());
            for &index in &lines[line][at[line]..end] {
                router.deal_message(line as u32, messages.message(index)).unwrap();
            }
            // An at-least-once writer tells the last ones again.
            at[line] = end - if end < lines[line].len() { end.min(3) } else { 0 };
            workers.process(&mut router);
            if chance.below(40) == 0 {
                workers.share_out(1 + chance.below(4) as usize);
                restart(&mut router, &workers.plan);
            }
        }
        assert_eq!(router.next(), Some(records.len() as u64));
        assert_eq!(router.waiting().0, 0);
        assert!(router.repeated() > 0);
        compare(&expected, &workers.given, &format!("seed {seed}"));
    }
}

#[test]
fn states_that_do_not_fit_are_refused_with_the_reason() {
    let records = normalized(3);
    let mut workers = Workers::new(Form::Records, &plan());
    let mut router = Router::new(&workers.plan, SOURCE, SHARDS).unwrap();
    router.deal_batch(records.as_bytes(), 0).unwrap();
    workers.process(&mut router);
    workers.share_out(2);
    let mut state = Vec::new();
    router.snapshot(&mut state).unwrap();
    let refusal = |plan: &Plan, shards, state: &[u8]| {
        Router::restore(plan, shards, state).err().expect("it is refused").to_string()
    };
    let (_, own) = workers.stored.values().next().unwrap();
    for cut in (0..own.len()).step_by(97) {
        assert!(Instances::new(&workers.plan, Form::Records).restore(0, &own[..cut]).is_err());
    }
    assert!(refusal(&workers.plan, 16, &state).contains("state is of 8 shards, and 16 are set"));
    let other = Plan::new(&plan()[1..]).unwrap();
    assert!(refusal(&other, SHARDS, &state).contains("other processors or settings"));
    let version = state.iter().position(|&byte| byte == b'r').unwrap() + "router".len();
    state[version] += 1;
    let told = refusal(&workers.plan, SHARDS, &state);
    assert!(told.contains("of router in layout 2, got one of router in layout 3"), "{told}");
    let gap = router.deal_batch(records.as_bytes(), 7).unwrap_err().to_string();
    assert!(gap.contains("expected the records from offset"), "{gap}");
}
