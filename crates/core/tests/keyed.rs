//! Processors by instrument give what one processor of all instruments gives of each.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tapeworks_core::keyed::{Form, Instances, Output, Plan, Router};
use tapeworks_core::processors::{find, metrics, Batch, Setting, Settings};
use tapeworks_core::protobuf::{Choice, Decoder, EncodedBatch, Encoder};
use tapeworks_core::record::{records, Records};

#[path = "setup/market.rs"]
mod market;
use market::{raw, Chance};

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
    assert!(told.contains("of router in layout 1, got one of router in layout 2"), "{told}");
    let gap = router.deal_batch(records.as_bytes(), 7).unwrap_err().to_string();
    assert!(gap.contains("expected the records from offset"), "{gap}");
}
