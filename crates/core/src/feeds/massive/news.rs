//! News, which the REST interface alone tells.

use super::keys::{slot, Fields};
use crate::error::Result;
use crate::feeds::headlines::{read_list, Headline};
use crate::feeds::scan::Scanner;
use crate::feeds::Rejected;
use crate::record::{Blob, BlobKind};

/// The path of requests for news.
const PATH: &[u8] = b"/v2/reference/news";

/// Whether `context` is a request for news.
pub fn is_asked(context: &[u8]) -> bool {
    matches!(context.strip_prefix(PATH), Some([] | [b'?', ..]))
}

/// Appends the headlines of an answer to `out`.
///
/// # Errors
/// `Error::Decode`: it is not whole.
pub fn read(blob: &Blob<'_>, out: &mut Vec<Headline>) -> Result<Rejected> {
    if blob.header.kind != BlobKind::Rest as u8 || !is_asked(blob.context) {
        return Ok(Rejected::NONE);
    }
    let mut scanner = Scanner::new(blob.body, 0);
    let fields = Fields::collect(blob.body, &mut scanner, &mut Vec::new(), slot::of)?;
    // No stories are no list.
    let Some(list) = fields.find(blob.body, slot::RESULTS) else { return Ok(Rejected::NONE) };
    read_list(blob.body, list, None, out)
}
