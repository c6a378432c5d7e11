//! Python bindings of the core. They convert and release the GIL, and decide nothing.

use pyo3::prelude::*;

mod book;
mod copy;
mod errors;
mod estimators;
mod feeds;
mod foreign;
mod ilp;
mod ingest;
mod instrument;
mod latency;
mod lock;
mod mold;
mod numbered;
mod offsets;
mod orders;
mod processors;
mod protobuf;
mod record;
mod released;
mod scheduling;
mod simulator;
mod socket;
mod tape;
mod turns;
mod verify;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    record::register(module)?;
    copy::register(module)?;
    protobuf::register(module)?;
    lock::register(module)?;
    tape::register(module)?;
    orders::register(module)?;
    offsets::register(module)?;
    verify::register(module)?;
    feeds::register(module)?;
    foreign::register(module)?;
    ilp::register(module)?;
    ingest::register(module)?;
    instrument::register(module)?;
    latency::register(module)?;
    socket::register(module)?;
    mold::register(module)?;
    numbered::register(module)?;
    book::register(module)?;
    processors::register(module)?;
    scheduling::register(module)?;
    estimators::register(module)?;
    simulator::register(module)?;
    Ok(())
}
