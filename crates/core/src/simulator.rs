//! A seeded market whose events any feed can encode.
