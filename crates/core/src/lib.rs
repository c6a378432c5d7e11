//! The core of Tapeworks: what happens per record.
//!
//! Pure Rust: no sockets, no Python, no async runtime. Modules stand in the order of the flow;
//! each may use those above it (see ARCHITECTURE.md for the exact lines).

#![deny(missing_docs)]

pub mod numbered;

pub mod error;

pub mod clock;

pub mod scheduling;

pub mod latency;

pub mod record;

pub mod decimal;

pub mod id_table;

pub mod sequencing;

pub mod instrument;

pub mod codec;

pub mod websocket;

pub mod feeds;

pub mod tape;

pub mod book;

pub mod protobuf;

pub mod estimators;

pub mod processors;

pub mod ingest;

pub mod keyed;

pub mod simulator;

pub use error::{DecodeReason, Error, Result};
pub use feeds::{Descriptor, Feed, FeedId};
pub use instrument::Instruments;
pub use processors::{Batch, Processor};
pub use record::{Kind, Record, RecordRef, Records};
pub use tape::{Durability, Reader, Tape, TapeConfig, TapeKind};
