//! Proving a tape: what it holds, whether all of it is whole, and one hash of its items.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Reader;
use crate::error::Result;

/// SHA-256 over the bytes of all items, in order. Frames do not matter: two tapes with the same
/// items have the same hash.
///
/// # Errors
/// As for [`Reader::read`].
pub fn hash(path: &Path) -> Result<[u8; 32]> {
    let mut reader = Reader::open(path)?;
    let mut hasher = Sha256::new();
    while let Some(batch) = reader.read(usize::MAX)? {
        hasher.update(batch.bytes);
    }
    Ok(hasher.finalize().into())
}
