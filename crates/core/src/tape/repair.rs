//! Making a damaged tape writable again.

/// Name of the file that lists what an interrupted repair has still to do.
pub(crate) const UNFINISHED: &str = "REPAIR";
