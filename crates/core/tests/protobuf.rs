//! Records to messages and back, against the schema in `proto/`.

use std::collections::BTreeMap;
use std::path::Path;

use tapeworks_core::protobuf::table::{number, EVENTS};
use tapeworks_core::protobuf::{Choice, Decoder, EncodedBatch, Encoder};
use tapeworks_core::record::columns::{Field, Layout, Meaning, Only, LAYOUTS};
use tapeworks_core::record::rows::Symbols;
use tapeworks_core::record::{Definition, Header, Kind, MarkerCode, Plain, Records, NONE};

const SEED: u64 = 0x7A9E_0001;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Small ones and zeros are where varints and presence differ.
        match self.0 % 8 {
            0 => 0,
            1 => self.0 >> 57,
            2 => self.0 >> 32,
            3 => NONE as u64,
            _ => self.0,
        }
    }
}

fn fill(field: &Field, random: &mut Random, record: &mut [u8]) {
    let at = &mut record[field.offset..field.offset + field.width];
    match field.meaning {
        Meaning::Hidden => {}
        Meaning::Text => {
            let length = random.next() as usize % (field.width + 1);
            at[..length].iter_mut().for_each(|byte| *byte = b'a' + (random.next() % 26) as u8);
        }
        _ => at.chunks_mut(8).for_each(|part| {
            let length = part.len();
            part.copy_from_slice(&random.next().to_le_bytes()[..length]);
        }),
    }
}

fn record(layout: &Layout, random: &mut Random) -> Vec<u8> {
    let mut record = vec![0; layout.width];
    layout.fields().for_each(|field| fill(field, random, &mut record));
    record[0] = (layout.width / 8) as u8;
    record[1] = layout.kind as u8;
    record[4..8].copy_from_slice(&1_u32.to_le_bytes());
    match layout.only {
        Only::Code(code) => record[32] = code as u8,
        // A gap has a message of its own, whose code is not written.
        Only::All if layout.kind == Kind::Marker => record[32] = MarkerCode::Heartbeat as u8,
        _ => {}
    }
    record
}

fn symbols() -> Symbols {
    let mut definition = Definition::read_from(&[0; 192]).unwrap();
    definition.header = Header { instrument: 1, ..Header::of::<Definition>() };
    definition.symbol[..7].copy_from_slice(b"BTCUSDT");
    let mut records = Records::new();
    records.push(&definition);
    let mut symbols = Symbols::default();
    symbols.load(records.as_bytes());
    symbols
}

fn encoder(frame: &[u8]) -> Encoder {
    let mut encoder = Encoder::new("spot", frame).unwrap();
    encoder.load(&symbols());
    encoder
}

fn all_kinds(rounds: usize) -> Records {
    let mut random = Random(SEED);
    let mut records = Records::new();
    for _ in 0..rounds {
        for layout in LAYOUTS.iter().filter(|l| EVENTS.iter().any(|e| e.layout == l.name)) {
            records.extend_from_bytes(&record(layout, &mut random)).unwrap();
        }
    }
    records
}

#[test]
fn every_kind_comes_back_as_it_was() {
    // Random bodies of every kind, with and without the header of a schema registry: the record,
    // its source, symbol and offset are what was written, to the last byte.
    for frame in [&b""[..], &[0, 0, 0, 1, 2, 0]] {
        let (records, mut batch) = (all_kinds(400), EncodedBatch::new());
        encoder(frame).encode(records.as_bytes(), 70, &Choice::default(), &mut batch).unwrap();
        assert_eq!(batch.len(), records.len());
        let mut back = Records::new();
        for index in 0..batch.len() {
            let origin = Decoder.decode(batch.message(index), &mut back).unwrap();
            assert_eq!((origin.source, origin.offset), ("spot", 70 + index as u64));
        }
        for (one, (want, got)) in records.iter().zip(back.iter()).enumerate() {
            assert_eq!(want.bytes(), got.bytes(), "record {one}, seed {SEED:#x}");
        }
        assert_eq!(records.as_bytes().len(), back.as_bytes().len());
    }
}

#[test]
fn every_kind_has_a_message() {
    // One that had none would stop a sink for good.
    for &kind in Kind::ALL {
        let known = EVENTS.iter().filter_map(|event| Layout::named(event.layout).ok());
        assert!(known.into_iter().any(|layout| layout.kind == kind), "{kind:?}");
    }
}

#[test]
fn only_what_is_chosen_becomes_messages_at_its_own_offset() {
    // By offset, by layout and by instrument: what is left keeps the offset of its record.
    let (records, mut batch) = (all_kinds(1), EncodedBatch::new());
    let from = Choice { from: 13, ..Choice::default() };
    encoder(b"").encode(records.as_bytes(), 10, &from, &mut batch).unwrap();
    assert_eq!(batch.offsets()[0], 13);
    assert_eq!(batch.len(), records.len() - 3);
    let layouts = vec![Layout::named("gap").unwrap(), Layout::named("quote").unwrap()];
    let choice = Choice { layouts, ..Choice::default() };
    batch.clear();
    encoder(b"").encode(records.as_bytes(), 0, &choice, &mut batch).unwrap();
    let chosen = records
        .iter()
        .enumerate()
        .filter(|(_, record)| choice.layouts.iter().any(|layout| layout.matches(record.bytes())));
    assert_eq!(batch.offsets(), chosen.map(|(at, _)| at as u64).collect::<Vec<_>>());
    assert_eq!(batch.len(), 2);
    for (instruments, count) in [(vec![1], records.len()), (vec![2], 0)] {
        let choice = Choice { instruments: Some(instruments), ..Choice::default() };
        batch.clear();
        encoder(b"").encode(records.as_bytes(), 0, &choice, &mut batch).unwrap();
        assert_eq!(batch.len(), count);
    }
}

#[test]
fn an_instrument_without_a_symbol_is_named() {
    let mut encoder = Encoder::new("spot", b"").unwrap();
    let record = record(Layout::named("trade").unwrap(), &mut Random(SEED));
    let error =
        encoder.encode(&record, 5, &Choice::default(), &mut EncodedBatch::new()).unwrap_err();
    assert!(error.to_string().contains("offset 5: instrument 1"), "{error}");
    assert_eq!(encoder.key(0), b"spot");
    encoder.load(&symbols());
    assert_eq!(encoder.key(1), b"spot/BTCUSDT");
}

#[test]
fn damaged_messages_are_errors_and_append_nothing() {
    // Each message cut at every byte, and with every byte changed: an error or a whole record.
    let (records, mut batch) = (all_kinds(2), EncodedBatch::new());
    encoder(b"").encode(records.as_bytes(), 0, &Choice::default(), &mut batch).unwrap();
    let mut random = Random(SEED);
    for index in 0..batch.len() {
        let message = batch.message(index);
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= random.next() as u8 | 1;
            for bytes in [&message[..at], &changed] {
                let mut out = Records::new();
                let decoded = Decoder.decode(bytes, &mut out);
                assert_eq!(decoded.is_ok(), out.len() == 1, "message {index}, byte {at}");
            }
        }
    }
}

#[test]
fn fields_of_the_future_are_passed_over() {
    // A newer writer adds fields of every wire type, and an event that this build does not know.
    let (records, mut batch) = (all_kinds(1), EncodedBatch::new());
    encoder(b"").encode(records.as_bytes(), 0, &Choice::default(), &mut batch).unwrap();
    let future = [
        &[0xA0, 0x06, 0x05][..],
        &[0xA9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xB2, 0x06, 0x02, 0xFF, 0xFF],
        &[0xBD, 0x06, 1, 2, 3, 4],
    ];
    for (index, want) in records.iter().enumerate() {
        let mut message = batch.message(index).to_vec();
        future.iter().for_each(|field| message.extend_from_slice(field));
        let mut out = Records::new();
        Decoder.decode(&message, &mut out).unwrap();
        assert_eq!(out.iter().next().unwrap().bytes(), want.bytes());
    }
}

/// Fields of each message of a schema: name -> (type, number).
fn messages(schema: &str) -> BTreeMap<String, BTreeMap<String, (String, u32)>> {
    let mut messages = BTreeMap::<_, BTreeMap<_, _>>::new();
    let mut current = String::new();
    for line in schema.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            current = name.trim_end_matches(" {").to_owned();
        } else if line.starts_with("enum ") {
            current.clear();
        } else if let Some((left, right)) = line.trim_end_matches(';').split_once(" = ") {
            let mut words = left.rsplit(' ');
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            if let (false, Ok(number)) = (current.is_empty(), right.parse()) {
                let fields = messages.entry(current.clone()).or_default();
                fields.insert(name.to_owned(), (kind.to_owned(), number));
            }
        }
    }
    messages
}

#[test]
fn the_table_is_that_of_the_schema() {
    // Every field of the table stands in the schema by its name, and the other way round, with
    // the number and the type that its meaning asks for.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/tapeworks/v1");
    let schema = std::fs::read_to_string(path.join("market_data.proto")).unwrap();
    let messages = messages(&schema);
    let market = &messages["MarketData"];
    for (name, at) in [("bid", number::BID), ("last_price", number::LAST_PRICE)] {
        assert_eq!(market[name].1, at);
    }
    for event in EVENTS.iter().filter(|event| event.number != 0) {
        let (message, at) = &market[event.layout];
        assert_eq!(*at, event.number, "{}", event.layout);
        let layout = Layout::named(event.layout).unwrap();
        let mut known = messages[message].clone();
        for &(number, name) in event.fields {
            let field = layout.body.iter().find(|field| field.name == name).unwrap();
            if field.meaning == Meaning::Turnover {
                let low = known.remove(&format!("{name}_low")).unwrap();
                assert_eq!(low, ("fixed64".to_owned(), number), "{name}");
                let high = known.remove(&format!("{name}_high")).unwrap();
                assert_eq!(high, ("sfixed64".to_owned(), number + 1), "{name}");
                continue;
            }
            let (kind, at) = known.remove(name).unwrap();
            assert_eq!(at, number, "{message}.{name}");
            let wanted = match (field.meaning, field.width) {
                (Meaning::Price | Meaning::Size, _) => "sint64",
                (Meaning::Time, _) => "sfixed64",
                (Meaning::Text, _) => "string",
                (Meaning::Float, _) => "double",
                (Meaning::Name(_), _) => {
                    assert!(schema.contains(&format!("enum {kind} {{")), "{message}.{name}");
                    continue;
                }
                (_, 8) => "uint64",
                _ => "uint32",
            };
            assert_eq!(kind, wanted, "{message}.{name}");
        }
        assert!(known.is_empty(), "{message}: not in the table: {known:?}");
    }
}

#[test]
fn names_of_numbers_are_those_of_the_schema() {
    // An enum value of the schema is the name of the record's number, spelt as protobuf wants.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/tapeworks/v1");
    let schema = std::fs::read_to_string(path.join("market_data.proto")).unwrap();
    let messages = messages(&schema);
    for event in EVENTS.iter().filter(|event| event.number != 0) {
        let layout = Layout::named(event.layout).unwrap();
        for field in layout.body {
            let Meaning::Name(names) = field.meaning else { continue };
            let kind = &messages[&messages["MarketData"][event.layout].0][field.name].0;
            let mut prefix = String::new();
            for (index, letter) in kind.chars().enumerate() {
                if letter.is_uppercase() && index > 0 {
                    prefix.push('_');
                }
                prefix.push(letter.to_ascii_uppercase());
            }
            for (number, name) in names.iter().enumerate() {
                // Sides of takers are called after what they do.
                let name = match *name {
                    "" => "unspecified",
                    "buy" => "bid",
                    "sell" => "ask",
                    name => name,
                };
                let line = format!("  {prefix}_{} = {number};", name.to_uppercase());
                assert!(schema.contains(&line), "{}: expected {line}", event.layout);
            }
        }
    }
}
