//! One suite over the table of processors: batch sizes do not matter, a restored snapshot goes on
//! exactly, and a stage that is killed anywhere writes each output item once.

use std::path::Path;

use tapeworks_core::feeds::FeedId;
use tapeworks_core::processors::alerts::detectors;
use tapeworks_core::processors::{
    find, metrics, Entry, Setting, Settings, Stage, StageConfig, PROCESSORS,
};
use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{
    records, Bar, Blobs, Header, Plain, Quote, Records, Tick, Trade, FLAG_HISTORICAL, FLAG_LAST,
    FLAG_MAYBE_BAD, NONE,
};
use tapeworks_core::tape::{hash, Batch, Durability, Reader, Tape, TapeConfig, TapeKind, NO_INPUT};
use tapeworks_core::Processor;

#[path = "setup/market.rs"]
mod market;
#[path = "setup/tapes.rs"]
mod tapes;
use market::{head, raw, Chance};
use tapes::Folder;

/// Frames of a feed that tells news: stories, some of them twice or broken, and trades.
fn stories(seed: u64, steps: u64) -> Blobs {
    let mut chance = Chance(seed);
    let mut blobs = Blobs::new();
    let mut ts = 1_700_000_000_000_000_000i64;
    for id in 0..steps {
        ts += chance.below(40_000_000) as i64;
        let story = |id| {
            format!(
                "{{\"T\":\"n\",\"id\":{id},\"headline\":\"of {id} \\u00e9\",\"symbols\":[\"AAPL\"],\
                 \"created_at\":\"2026-01-02T03:04:05Z\"}}"
            )
        };
        let text = match chance.below(4) {
            0 => format!("[{},{{\"T\":\"n\",\"id\":1}},{}]", story(id), story(id + 1)),
            1 => format!("[{}]", story(id)),
            2 => "[{\"T\":\"n\",\"id\":".to_owned(),
            _ => format!(
                "[{{\"T\":\"t\",\"S\":\"AAPL\",\"i\":{id},\"x\":\"V\",\"p\":1.5,\"s\":1,\"c\":[],\
                 \"z\":\"C\",\"t\":\"2026-01-02T03:04:05Z\"}}]"
            ),
        };
        let header = BlobHeader { feed: FeedId::Alpaca as u8, ts_recv: ts, ..head() };
        blobs.push(header, b"", text.as_bytes()).unwrap();
    }
    blobs
}

fn settings(entry: &Entry, folder: &Folder) -> Settings {
    match entry.name {
        "normalize" => Settings::new().with("feed", Setting::Text("binance-spot".to_owned())),
        "dead_letters" | "news" => Settings::new()
            .with("raw", Setting::Text(folder.join("raw").to_string_lossy().into_owned())),
        "metrics" => {
            let sets: Vec<_> = metrics::sets().map(|(name, _)| name).collect();
            Settings::new().with("sets", Setting::Text(sets.join(",")))
        }
        "alerts" => Settings::new()
            .with("rules", Setting::Text(RULES.to_owned()))
            .with("sets", Setting::Text("l1,volatility".to_owned()))
            .with("partial", Setting::Number(1)),
        _ => Settings::new(),
    }
}

/// Rules that the input breaks now and then.
const RULES: &str = "\
    quiet\tstale\twarning\t\t\tafter_ms=300\tkinds=trade\n\
    silent\tstale\tcritical\tsource\t\tafter_ms=200\n\
    late\tlag\twarning\t\t\trecords=5\tfactor=1.2\tleast_ms=0\n\
    lost\tgap\twarning\t\t\n\
    complete\tsla\tcritical\t\t\twindow_h=0.01\ttarget=0.99\n\
    busy\trate\tinfo\t\t\tabove=30\tbelow=5\n\
    wide\tspread\twarning\t\tBTCUSDT\tabove_bps=0.01\tfor_ms=50\n\
    price\tmetric\twarning\t\t\tmetric=mid\tabove=60050\tdeviations=3\n\
    moves\tvolatility\twarning\t\t\tabove=1e-6\tmetric=rv_10s\n\
    far\tprice_spike\twarning\t\t\tprints=10\tdeviations=1\n\
    flicker\tquote_flicker\twarning\t\t\tchanges=2\twindow_ms=2000\n\
    ignited\tmomentum_ignition_like\twarning\t\t\tdeviations=0.5\tfactor=0.5\n\
    close\tmarking_close_like\twarning\t\t\thours=00:00-22:14\t\
    deviations=0.1\tshare=0.4\tleast=1\twindow_ms=1000\n\
    fat\tfat_finger\twarning\t\t\tleast=10\tquantile=0.5\tfactor=1.2\taway=0.0001\n\
    locked\tlocked\twarning\t\t\n\
    crossed\tcrossed\twarning\t\t\n\
    stuffed\tstuffing\twarning\t\t\n\
    layered\tlayering_like\twarning\t\t\n\
    washed\twash_like\twarning\t\t\n\
    slow\tlatency\twarning\t\t\tstage=sink\n\
    full\tdisk\twarning\t\t\n";

fn config(kind: TapeKind) -> TapeConfig {
    TapeConfig { durability: Durability::Never, ..TapeConfig::new(kind) }
}

/// Items of either kind, one byte slice each.
fn items(kind: TapeKind, bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut items = Vec::new();
    while let Some(length) = kind.item_length(rest) {
        let (item, after) = rest.split_at(length);
        items.push(item);
        rest = after;
    }
    assert!(rest.is_empty());
    items
}

/// Feeds `bytes` in batches of `size` and gives all output bytes.
fn run(processor: &mut dyn Processor, bytes: &[u8], size: usize, offset: u64) -> Vec<u8> {
    let items = items(processor.input_kind(), bytes);
    let mut output = Vec::new();
    let mut first_offset = offset;
    for chunk in items.chunks(size) {
        let bytes = chunk.concat();
        let batch = Batch { first_offset, count: chunk.len(), bytes: &bytes };
        first_offset += chunk.len() as u64;
        output.extend_from_slice(&process(processor, batch));
    }
    output
}

fn process(processor: &mut dyn Processor, batch: Batch<'_>) -> Vec<u8> {
    if processor.output_kind() == TapeKind::Blobs {
        let mut out = Blobs::new();
        processor.process_to_blobs(batch, &mut out).unwrap();
        return out.as_bytes().to_vec();
    }
    let mut out = Records::new();
    processor.process(batch, &mut out).unwrap();
    out.as_bytes().to_vec()
}

/// The raw tape and the input of `entry`, as bytes; the raw tape is also on disk.
fn input(entry: &Entry, seed: u64, steps: u64, folder: &Folder) -> Vec<u8> {
    let is_news = entry.name == "news";
    let blobs = if is_news { stories(seed, steps) } else { raw(seed, steps) };
    write(&folder.join("raw"), TapeKind::Blobs, blobs.as_bytes(), 5);
    if entry.input == "market-data.raw" {
        return blobs.as_bytes().to_vec();
    }
    let normalize = find("normalize").unwrap();
    let feed = if is_news { FeedId::Alpaca } else { FeedId::BinanceSpot };
    let named = Settings::new().with("feed", Setting::Text(feed.name().to_owned()));
    let mut processor = normalize.build(&named).unwrap();
    run(&mut *processor, blobs.as_bytes(), 64, 0)
}

fn write(path: &Path, kind: TapeKind, bytes: &[u8], frame_items: usize) {
    let mut tape = Tape::open(path, config(kind)).unwrap();
    for chunk in items(kind, bytes).chunks(frame_items) {
        tape.append(&chunk.concat(), chunk.len() as u32, NO_INPUT, 1).unwrap();
    }
}

#[test]
fn every_rule_of_alerts_is_under_this_suite() {
    // Those of single orders find nothing in this input; test_surveillance.py has theirs.
    let known: Vec<_> = RULES.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    for entry in detectors() {
        assert!(known.contains(&entry.name), "{}", entry.name);
    }
}

#[test]
fn a_count_is_a_whole_number() {
    let alerts = find("alerts").unwrap();
    let build = |records: &str| {
        let rule = format!("late\tlag\tinfo\t\t\trecords={records}");
        alerts.build(&Settings::new().with("rules", Setting::Text(rule))).map(|_| ())
    };
    build("100000").unwrap();
    for wrong in ["2.5", "0", "100001", "NaN"] {
        let told = build(wrong).unwrap_err().to_string();
        assert!(told.contains("records: expected a whole number from 1 to 100000"), "{told}");
    }
}

#[test]
fn output_does_not_depend_on_batch_sizes() {
    // Each processor of the table, the same input in batches of 1, 7 and 4096.
    for entry in PROCESSORS {
        let folder = Folder::new(&format!("sizes-{}", entry.name));
        let bytes = input(entry, 11, 3000, &folder);
        let outputs: Vec<_> = [1, 7, 4096]
            .into_iter()
            .map(|size| {
                let mut processor = entry.build(&settings(entry, &folder)).unwrap();
                run(&mut *processor, &bytes, size, 0)
            })
            .collect();
        assert!(!outputs[0].is_empty(), "{}", entry.name);
        assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "{}", entry.name);
    }
}

#[test]
fn restored_snapshot_equals_a_straight_run() {
    // Cut the input at many places; restore into a fresh processor there, and compare the rest and
    // the state at the end.
    for entry in PROCESSORS {
        let folder = Folder::new(&format!("restore-{}", entry.name));
        let bytes = input(entry, 5, 1200, &folder);
        let build = || entry.build(&settings(entry, &folder)).unwrap();
        let mut straight = build();
        let kind = straight.input_kind();
        let all = run(&mut *straight, &bytes, 64, 0);
        let mut end = Vec::new();
        straight.snapshot(&mut end);
        let whole = items(kind, &bytes);
        for cut in (0..whole.len()).step_by(whole.len() / 37) {
            let mut first = build();
            let mut output = run(&mut *first, &whole[..cut].concat(), 64, 0);
            let mut state = Vec::new();
            first.snapshot(&mut state);
            let mut second = build();
            second.restore(&state).unwrap();
            output.extend(run(&mut *second, &whole[cut..].concat(), 64, cut as u64));
            let mut state = Vec::new();
            second.snapshot(&mut state);
            assert!(output == all, "{} cut at {cut}", entry.name);
            assert!(state == end, "{} cut at {cut}: states differ", entry.name);
        }
    }
}

#[test]
fn torn_or_foreign_snapshot_is_refused() {
    // Every prefix of a snapshot, one byte too many, and nothing.
    for entry in PROCESSORS {
        let folder = Folder::new(&format!("torn-{}", entry.name));
        let bytes = input(entry, 5, 100, &folder);
        let mut processor = entry.build(&settings(entry, &folder)).unwrap();
        run(&mut *processor, &bytes, 64, 0);
        let mut state = Vec::new();
        processor.snapshot(&mut state);
        for length in (0..state.len()).step_by(1 + state.len() / 500) {
            assert!(processor.restore(&state[..length]).is_err(), "{} {length}", entry.name);
        }
        let mut after = Vec::new();
        processor.snapshot(&mut after);
        assert!(after == state, "{}: a refused snapshot changed the state", entry.name);
        state.push(0);
        assert!(processor.restore(&state).is_err(), "{}", entry.name);
    }
}

#[test]
fn killed_stage_writes_each_item_once() {
    // Drop the stage at random places without saving, reopen, go on; sometimes break or remove a
    // state. The output's hash equals that of a run without a stop.
    for entry in PROCESSORS {
        let folder = Folder::new(&format!("kill-{}", entry.name));
        let bytes = input(entry, 23, 4000, &folder);
        let straight = entry.build(&settings(entry, &folder)).unwrap();
        let in_path = folder.join("in");
        write(&in_path, straight.input_kind(), &bytes, 13);
        let open = |out: &str, save_items: u64| {
            let processor = entry.build(&settings(entry, &folder)).unwrap();
            let config = StageConfig { save_items, ..StageConfig::default() };
            let state = folder.join(&format!("{out}-state"));
            Stage::open(&in_path, &folder.join(out), &state, processor, config).unwrap()
        };
        open("straight", 1 << 40).run_until_idle(4096).unwrap();
        let mut chance = Chance(7);
        loop {
            let mut stage = open("killed", 100);
            let mut steps = chance.below(30);
            while steps > 0 && stage.step(1 + chance.below(40) as usize).unwrap() > 0 {
                steps -= 1;
            }
            if steps > 0 {
                assert_eq!(stage.lag().unwrap(), 0);
                break;
            }
            drop(stage);
            break_a_state(&folder.join("killed-state"), &mut chance);
        }
        let hashes = ["straight", "killed"].map(|name| hash(&folder.join(name)).unwrap());
        assert_eq!(hashes[0], hashes[1], "{}", entry.name);
    }
}

fn break_a_state(folder: &Path, chance: &mut Chance) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match chance.below(8) {
            0 => std::fs::remove_file(path).unwrap(),
            1 => {
                let mut bytes = std::fs::read(&path).unwrap();
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn unknown_settings_are_named() {
    // A misspelt setting must not pass in silence.
    let entry = find("normalize").unwrap();
    let settings = Settings::new()
        .with("feed", Setting::Text("binance-spot".to_owned()))
        .with("hold", Setting::Number(3));
    let error = entry.build(&settings).err().unwrap().to_string();
    assert!(error.contains("hold is not known") && error.contains("hold_ms"), "{error}");
    assert!(find("nothing").err().unwrap().to_string().contains("normalize"));
}

#[test]
fn place_of_the_raw_tape_is_no_setting() {
    // A data folder that was moved, or is named by another path, has the states that it had.
    let raw = |path: &str| Settings::new().with("raw", Setting::Text(path.to_owned()));
    assert_eq!(raw("data/raw").fingerprint(), raw("/mnt/data/raw").fingerprint());
    let other = raw("data/raw").with("feed", Setting::Text("binance-spot".to_owned()));
    assert_ne!(raw("data/raw").fingerprint(), other.fingerprint());
}

#[test]
fn stage_behind_retention_declares_its_loss() {
    // Remove the input's oldest segments under a stage that has read a little, as retention does:
    // once while it is closed, once more while it is open.
    let folder = Folder::new("retention");
    let entry = find("ticks").unwrap();
    let bytes = input(entry, 3, 9000, &folder);
    let path = folder.join("in");
    let mut tape =
        Tape::open(&path, TapeConfig { segment_bytes: 64 << 10, ..config(TapeKind::Records) })
            .unwrap();
    for chunk in items(TapeKind::Records, &bytes).chunks(20) {
        tape.append(&chunk.concat(), chunk.len() as u32, NO_INPUT, 1).unwrap();
    }
    let open = || {
        let processor = entry.build(&Settings::new()).unwrap();
        let config = StageConfig { durability: Durability::Never, ..StageConfig::default() };
        Stage::open(&path, &folder.join("out"), &folder.join("state"), processor, config).unwrap()
    };
    let first = || Reader::open(&path).unwrap().first().unwrap();
    let mut stage = open();
    stage.step(20).unwrap();
    let begun = stage.covered();
    drop(stage);
    remove_segments(&path, 2);
    let mut stage = open();
    let lost = [(begun, first() - 1)];
    stage.step(20).unwrap();
    let (read, now) = (stage.covered(), first());
    assert!(read > now);
    drop(stage);
    remove_segments(&path, 2);
    let mut stage = open();
    stage.run_until_idle(64).unwrap();
    assert_eq!(stage.lag().unwrap(), 0);
    let lost = [lost[0], (read, first() - 1)];
    drop(stage);
    let mut reader = Reader::open(&folder.join("out")).unwrap();
    let mut declared = Vec::new();
    while let Some(batch) = reader.read(usize::MAX).unwrap() {
        let markers = records::iterate(batch.bytes).filter_map(|record| record.as_marker());
        declared.extend(markers.map(|marker| (marker.first, marker.last)));
    }
    assert_eq!(declared, lost);
}

fn remove_segments(path: &Path, count: usize) {
    let mut files: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::metadata(path).unwrap().len() > 32 << 10)
        .collect();
    files.sort();
    assert!(files.len() > count + 1, "{files:?}");
    files.iter().take(count).for_each(|file| std::fs::remove_file(file).unwrap());
}

/// Trades of these sizes in one second, one more than five minutes later.
fn trades_of(sizes: &[i64]) -> Vec<u8> {
    let mut out = Records::new();
    for (number, &size) in (1u64..).zip(sizes.iter().chain(&[100])) {
        let is_after = number as usize > sizes.len();
        let ts = 1_795_000_000_000_000_000 + if is_after { 600_000_000_000 } else { number as i64 };
        let header = Header {
            instrument: 1,
            ts_event: ts,
            ts_recv: ts,
            sequence: number,
            ..Header::of::<Trade>()
        };
        out.push(&Trade {
            header,
            price: 8_000,
            size,
            trade_id: number,
            count: 1,
            side: 1,
            channel: 1,
            conditions: [0; 2],
        });
    }
    out.as_bytes().to_vec()
}

#[test]
fn a_volume_that_does_not_fit_is_absent_and_flagged() {
    // Sums up to the largest size, just beyond it, far beyond it, and back by nothing: exact, or
    // absent and flagged. The turnover is exact each time.
    let cases: [(&[i64], i64); 4] = [
        (&[NONE - 1], NONE - 1),
        (&[NONE - 2, 1], NONE - 1),
        (&[NONE - 1, 1], NONE),
        (&[5_000_000_000 * 100_000_000; 100], NONE),
    ];
    for (sizes, volume) in cases {
        let five_minutes = Settings::new().with("intervals_ms", Setting::Number(300_000));
        let mut bars = find("bars").unwrap().build(&five_minutes).unwrap();
        let bytes = run(&mut *bars, &trades_of(sizes), usize::MAX, 0);
        let bar: Bar = records::iterate(&bytes).find_map(|record| record.as_bar()).unwrap();
        assert_eq!((bar.volume, bar.buy_volume), (volume, volume), "{sizes:?}");
        let turnover: i128 = sizes.iter().map(|&size| i128::from(size) * 8_000).sum();
        assert_eq!(i128::from(bar.turnover), turnover);
        assert_eq!(bar.header.flags & FLAG_MAYBE_BAD != 0, volume == NONE);
        let second = Settings::new().with("interval_ms", Setting::Number(1_000));
        let mut ticks = find("ticks").unwrap().build(&second).unwrap();
        // The first trade makes a tick of its own; the others are folded into the last.
        let sizes: Vec<i64> = [1].iter().chain(sizes).copied().collect();
        let bytes = run(&mut *ticks, &trades_of(&sizes), usize::MAX, 0);
        let tick: Tick =
            records::iterate(&bytes).filter_map(|record| record.as_tick()).last().unwrap();
        let all = sizes[1..].iter().map(|&size| i128::from(size)).sum::<i128>() + 100;
        let expected = i64::try_from(all).unwrap_or(NONE);
        assert_eq!(tick.volume, expected, "{sizes:?}");
        assert_eq!(tick.header.flags & FLAG_MAYBE_BAD != 0, expected == NONE);
    }
}

/// The settings of the processors that follow the best prices.
fn followers() -> [(&'static str, Settings); 3] {
    let text = |value: &str| Setting::Text(value.to_owned());
    let rules = "wide\tspread\twarning\t\t\tabove_bps=100\tfor_ms=0\n\
                 crossed\tcrossed\twarning\t\t\n\
                 far\tmetric\twarning\t\t\tmetric=spread_bps\tabove=100";
    let sets = Settings::new().with("sets", text("l1,ofi,latency"));
    [
        ("ticks", Settings::new().with("interval_ms", Setting::Number(500))),
        ("metrics", sets),
        ("alerts", Settings::new().with("rules", text(rules)).with("sets", text("l1"))),
    ]
}

#[test]
fn history_that_comes_late_never_sets_the_best_prices() {
    // Of each instrument one quote a second, then what fills a gap: quotes of another price level
    // from before the last one, at any place between. In their place stands what changes nothing,
    // a trade from history: the output is the same to the byte, with a restart in the middle too.
    let quote = |second: i64, (bid, ask): (i64, i64), flags: u8, instrument: u32| Quote {
        header: Header {
            instrument,
            flags: FLAG_LAST | flags,
            ts_event: second * 1_000_000_000,
            ts_recv: 40_000_000_000,
            ..Header::of::<Quote>()
        },
        bid_price: bid * 1_000_000_000,
        ask_price: ask * 1_000_000_000,
        bid_size: 100_000_000,
        ask_size: 100_000_000,
    };
    let mut expected = Records::new();
    let mut given = Records::new();
    for second in 1..=30 {
        for instrument in [1, 2] {
            let mut live = quote(second, (200, 201), 0, instrument);
            live.header.ts_recv = second * 1_000_000_000 + 1_000_000;
            live.bid_size += second;
            expected.push(&live);
            given.push(&live);
            if second % 3 == 0 {
                let late = quote(second - 2, (150, 190), FLAG_HISTORICAL, instrument);
                let late = Quote {
                    header: Header { ts_recv: live.header.ts_recv, ..late.header },
                    ..late
                };
                let header = Header { flags: FLAG_HISTORICAL, ..Header::of::<Trade>() };
                let header = Header { instrument, ts_recv: live.header.ts_recv, ..header };
                given.push(&late);
                expected.push(&Trade { header, channel: 1, ..Trade::read_from(&[0; 64]).unwrap() });
            }
        }
    }
    // What comes of an instrument whose newest event it is counts: a day of quotes from files.
    let mut told = 0;
    for (name, settings) in followers() {
        let build = || find(name).unwrap().build(&settings).unwrap();
        let whole = run(&mut *build(), expected.as_bytes(), usize::MAX, 0);
        let parts = items(TapeKind::Records, given.as_bytes());
        let (mut first, mut second) = (build(), build());
        let mut made = run(&mut *first, &parts[..41].concat(), 7, 0);
        let mut state = Vec::new();
        first.snapshot(&mut state);
        second.restore(&state).unwrap();
        made.extend(run(&mut *second, &parts[41..].concat(), 7, 41));
        assert!(made == whole, "{name}");
        told += usize::from(!whole.is_empty());
        let wide = quote(35, (150, 190), FLAG_HISTORICAL, 1);
        let after = quote(36, (200, 201), FLAG_HISTORICAL, 1);
        let mut newer = Records::new();
        newer.push(&wide);
        newer.push(&after);
        assert!(!run(&mut *second, newer.as_bytes(), 1, 100).is_empty(), "{name}");
    }
    // There is nothing to alert of.
    assert_eq!(told, 2);
}

#[test]
fn ticks_go_on_from_a_state_that_does_not_know_the_newest_event() {
    // A state of the earlier layout: 40 bytes an instrument behind the head, in place of 48.
    let mut ticks = find("ticks").unwrap().build(&Settings::new()).unwrap();
    run(&mut *ticks, &trades_of(&[1, 2, 3]), usize::MAX, 0);
    let mut state = Vec::new();
    ticks.snapshot(&mut state);
    let head = 8 + "ticks".len();
    let mut earlier = [&state[..head], &1u32.to_le_bytes(), &state[head + 4..head + 12]].concat();
    for instrument in state[head + 12..].chunks(48) {
        earlier.extend_from_slice(&instrument[..40]);
    }
    let mut restored = find("ticks").unwrap().build(&Settings::new()).unwrap();
    restored.restore(&earlier).unwrap();
    let mut again = Vec::new();
    restored.snapshot(&mut again);
    // The newest event made the last tick.
    assert_eq!(again, state);
}
