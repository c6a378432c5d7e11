//! `latency` and `disk`: what the host measured, and noted on the raw tape.
//!
//! A note is a record of an alert that names its rule. What it says does not follow from the
//! market, but it is on the tape, so that a replay tells of it in the same place.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::table::{positive, Entry, Text};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{unpadded, AlertState};

/// The stages of a record's way.
pub const STAGES: &[&str] = &["receive", "publish", "normalize", "book", "metrics", "sink"];

pub(super) const LATENCY: Entry = Entry {
    numbers: &[positive("above_ms", 50.0, "milliseconds that the stage may take")],
    texts: &[
        Text {
            name: "stage",
            default: "",
            doc: "receive, publish, normalize, book, metrics or sink",
        },
        Text { name: "quantile", default: "p99", doc: "of which durations: p50, p99 or max" },
    ],
    is_of_source: true,
    may_be_of_source: true,
    check: |rule| match (rule.text("stage"), rule.text("quantile")) {
        (stage, "p50" | "p99" | "max") if STAGES.contains(&stage) => Ok(()),
        (stage, quantile) => Err(Error::invalid(format!(
            "expected a stage of {} and a quantile of p50, p99, max, got {stage:?} and \
             {quantile:?}",
            STAGES.join(", ")
        ))),
    },
    unit: "ms",
    ..Entry::new(
        "latency",
        "records took longer than the budget of a stage allows, by the host's clock",
        "subject: the stage; value and threshold: milliseconds; count: records measured",
        |_| Box::new(Noted),
    )
};

pub(super) const DISK: Entry = Entry {
    numbers: &[
        positive("free_gb", 5.0, "gigabytes that must be free"),
        positive("free_share", 0.02, "share of the disk that must be free"),
    ],
    is_of_source: true,
    may_be_of_source: true,
    unit: "GB",
    ..Entry::new(
        "disk",
        "the disk of the data folder has less than `free_gb` and `free_share` left",
        "value and threshold: gigabytes free",
        |_| Box::new(Noted),
    )
};

#[derive(Debug)]
struct Noted;

impl Detector for Noted {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        let Event::Note(note) = event else { return };
        if unpadded(&note.rule) != scope.rule.name {
            return;
        }
        let evidence = Evidence {
            ts_start: note.ts_start,
            ts_end: note.header.ts_event,
            value: f64::from_bits(note.value),
            threshold: f64::from_bits(note.threshold),
            count: note.count,
            subject: unpadded(&note.subject).to_owned(),
            detail: unpadded(&note.detail).to_owned(),
            ..Evidence::at(&scope.at)
        };
        if note.state == AlertState::Closed as u8 {
            scope.end(note.header.ts_event, None);
        } else {
            scope.raise(&evidence);
        }
    }

    fn write(&self, _state: &mut StateWriter<'_>) {}

    fn read(&mut self, _state: &mut StateReader<'_>) -> Result<()> {
        Ok(())
    }
}
