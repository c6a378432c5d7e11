//! News: frames of its stream in both encodings, and answers of the REST interface.

use super::msgpack;
use crate::error::Result;
use crate::feeds::fields::{long_keys, Fields};
use crate::feeds::headlines::{read_list, Headline};
use crate::feeds::scan::{Scanner, Span};
use crate::feeds::Rejected;
use crate::record::{Blob, BlobKind};

long_keys! { NEWS "news" }

/// The path of requests for news.
const PATH: &[u8] = b"/v1beta1/news";
/// The type of an event that is a story.
const STORY: &[u8] = b"n";

/// Whether `context` is a request for news.
pub fn is_asked(context: &[u8]) -> bool {
    matches!(context.strip_prefix(PATH), Some([] | [b'?', ..]))
}

/// Appends the headlines of a frame or an answer to `out`.
///
/// # Errors
/// `Error::Decode`: it is not whole.
pub fn read(blob: &Blob<'_>, out: &mut Vec<Headline>) -> Result<Rejected> {
    match BlobKind::try_from(blob.header.kind) {
        Ok(BlobKind::Rest) if is_asked(blob.context) => answer(blob.body, out),
        Ok(BlobKind::Text) => {
            Scanner::check(blob.body)?;
            read_list(blob.body, list_of(blob.body)?, Some(STORY), out)
        }
        Ok(BlobKind::Binary) => {
            let mut text = Vec::new();
            msgpack::to_json(blob.body, &mut text)?;
            let mut rejected = read_list(&text, list_of(&text)?, Some(STORY), out)?;
            // Where it stands in the text says nothing of the frame.
            if let Some((_, byte)) = &mut rejected.first {
                *byte = 0;
            }
            Ok(rejected)
        }
        _ => Ok(Rejected::NONE),
    }
}

fn list_of(text: &[u8]) -> Result<Span> {
    Scanner::new(text, 0).value()
}

fn answer(body: &[u8], out: &mut Vec<Headline>) -> Result<Rejected> {
    let mut scanner = Scanner::new(body, 0);
    let fields: Fields<{ slot::COUNT }> =
        Fields::collect(body, &mut scanner, &mut Vec::new(), slot::of)?;
    // No stories are no list.
    let Some(list) = fields.find(body, slot::NEWS) else { return Ok(Rejected::NONE) };
    read_list(body, list, None, out)
}
