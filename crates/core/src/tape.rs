//! The append-only spine.
