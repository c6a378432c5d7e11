//! The drawings in `docs/formats` say what the code does.

use std::fmt::Write;
use std::path::Path;

use tapeworks_core::record::columns::{Field, Meaning, HEADER, LAYOUTS};
use tapeworks_core::record::{Channel, GapCause, Kind};

const OPENING: &str = "\
<!-- Made by crates/core/tests/formats.rs from crates/core/src/record; to make it anew:
     TAPEWORKS_WRITE=1 cargo test -p tapeworks-core --test formats -->

# Records

A record is one market event: a fixed number of little-endian bytes, a multiple of 64, never changed
once made. It starts with the header; the header says its length, so that a reader skips kinds that
it does not know. Prices are signed units of 1e-9, sizes signed units of 1e-8, turnovers signed
units of 1e-17, times signed nanoseconds since the Unix epoch (UTC); 2^63 - 1 means absent.

Flags, added up: 1 last record of one venue event, 2 part of a snapshot, 4 from the venue's history,
8 out of order, 16 a duplicate was suppressed, 32 the book may be bad, 64 receive time suspect,
128 the venue sent no event time.
";

fn listed(names: &[&str]) -> String {
    let named = names.iter().enumerate().filter(|(_, name)| !name.is_empty());
    named.map(|(number, name)| format!("{number} {name}")).collect::<Vec<_>>().join(", ")
}

fn meaning(field: &Field) -> String {
    match (field.name, field.meaning) {
        ("length", _) => "length of the record in units of 8 bytes".to_owned(),
        ("kind", _) => "kind".to_owned(),
        (_, Meaning::Number) => "number".to_owned(),
        (_, Meaning::Count) => "number, 2^32 - 1 for not known".to_owned(),
        (_, Meaning::Time) => "time".to_owned(),
        (_, Meaning::Price) => "price".to_owned(),
        (_, Meaning::Size) => "size".to_owned(),
        (_, Meaning::Turnover) => "turnover, low half first".to_owned(),
        (_, Meaning::Float) => "IEEE 754, not a number for absent".to_owned(),
        (_, Meaning::Text) => "UTF-8, padded with zeros".to_owned(),
        (_, Meaning::Name(Channel::NAMES)) => "channel".to_owned(),
        (_, Meaning::Name(names)) => listed(names),
        (_, Meaning::Hidden) => "reserved".to_owned(),
    }
}

fn draw(text: &mut String, fields: &[Field]) {
    text.push_str("\n```text\noffset  size  field\n");
    for field in fields {
        let start = format!("{:6}  {:4}  {:<16}  ", field.offset, field.width, field.name);
        let mut line = start;
        for word in meaning(field).split(' ') {
            if line.len() + word.len() > 98 {
                writeln!(text, "{}", line.trim_end()).unwrap();
                line = " ".repeat(32);
            }
            line.push_str(word);
            line.push(' ');
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text.push_str("```\n");
}

fn record_page() -> String {
    let mut text = OPENING.to_owned();
    text.push_str("\n## Channels\n\nThe stream of a venue that a record came on.\n\n```text\n");
    for &channel in Channel::ALL.iter().filter(|channel| !channel.name().is_empty()) {
        writeln!(text, "{:6}  {}", channel as u8, channel.name()).unwrap();
    }
    text.push_str("```\n");
    text.push_str("\n## Header\n");
    draw(&mut text, HEADER);
    let mut drawn: Vec<Kind> = Vec::new();
    for layout in LAYOUTS {
        if drawn.contains(&layout.kind) {
            continue;
        }
        drawn.push(layout.kind);
        let (kind, number, width) = (layout.kind, layout.kind as u8, layout.width);
        writeln!(text, "\n## {kind:?}: kind {number}, {width} bytes").unwrap();
        draw(&mut text, layout.body);
        if layout.kind == Kind::Marker {
            let causes = Field { meaning: Meaning::Name(GapCause::NAMES), ..layout.body[1] };
            text.push_str("\nThe cause of a gap:\n");
            draw(&mut text, &[causes]);
            text.push_str(LOST_ITEMS);
        }
    }
    text
}

/// What a marker says of items that are lost.
const LOST_ITEMS: &str = "
Of causes 6 and 8, `first` to `last` are items of a tape, and `sequence` of the header is the
number of its topic: FNV-1a of the name, 64 bits, 0 if it is not known. `ts_event` is the end of a
gap; absent, it is not known.
";

#[test]
fn the_page_of_records_is_that_of_the_layouts() {
    // Make the page from the layouts and compare it with the one in docs/formats.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/record.md");
    let page = record_page();
    if std::env::var_os("TAPEWORKS_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == page, "docs/formats/record.md is not what the layouts give: make it anew");
}
