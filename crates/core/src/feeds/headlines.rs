//! Headlines: what venues tell as news, in one form for all.
//!
//! Records are of fixed size, and a story is not: what a venue told of one becomes a blob of the
//! news tape, a JSON object. Texts stand in it as the venue wrote them, and `raw` is all that the
//! venue told.
//! ```text
//! {"id": "24919710", "headline": "...", "summary": "...", "author": "...", "source": "...",
//!  "url": "...", "symbols": ["AAPL"], "raw": {...}}
//! ```
//! What the venue did not tell is left out.

use super::fields::{long_keys, unfit, Fields, Slot, Values};
use super::rfc3339;
use super::scan::{Scanner, Span};
use super::Rejected;
use crate::error::{DecodeReason, Error, Result};
use crate::record::number_of;

long_keys! {
    ID "id", HEADLINE "headline", TITLE "title", SUMMARY "summary", DESCRIPTION "description",
    AUTHOR "author", SOURCE "source", PUBLISHER "publisher", NAME "name", URL "url",
    ARTICLE_URL "article_url", SYMBOLS "symbols", TICKERS "tickers", CREATED "created_at",
    UPDATED "updated_at", PUBLISHED "published_utc",
}

/// Keys of the text, and where venues have their value: the first that is told counts.
const TEXTS: [(&str, [Slot; 2]); 5] = [
    ("headline", [slot::HEADLINE, slot::TITLE]),
    ("summary", [slot::SUMMARY, slot::DESCRIPTION]),
    ("author", [slot::AUTHOR, slot::AUTHOR]),
    ("source", [slot::SOURCE, slot::PUBLISHER]),
    ("url", [slot::URL, slot::ARTICLE_URL]),
];

/// Members of a story, by slot.
type Story = Fields<{ slot::COUNT }>;

/// What reads the headlines of a frame or an answer: none of one that is of something else.
pub type Read = fn(&crate::record::Blob<'_>, &mut Vec<Headline>) -> Result<Rejected>;

/// What a venue told of one story at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// The venue's id of the story where that is a number, or else a digest of it.
    pub id: u64,
    /// When the story was made, in ns.
    pub ts_created: i64,
    /// When it was last changed, in ns.
    pub ts_updated: i64,
    /// The object that is stored.
    pub text: Vec<u8>,
}

/// Appends the stories of `list`, an array in `bytes`, to `out`. Where `kind` is given, those of
/// that type (`T`) alone are stories, and what else there is the decoder of the feed reads.
///
/// # Errors
/// `Error::Decode`: it is no array. Stories that cannot be read are told by what is returned.
pub fn read_list(
    bytes: &[u8],
    list: Span,
    kind: Option<&[u8]>,
    out: &mut Vec<Headline>,
) -> Result<Rejected> {
    let (mut rejected, mut others, mut scratch) = (Rejected::NONE, Rejected::NONE, Vec::new());
    let mut scanner = Scanner::inside(bytes, list);
    scanner.at_value(b'[')?;
    scanner.array(|scanner| {
        let no_story = if kind.is_some() { &mut others } else { &mut rejected };
        if no_story.passes_over(scanner, b'{')? {
            return Ok(());
        }
        let start = scanner.at_value(b'{')?;
        let mut rest = *scanner;
        let whole = rest.value()?;
        let story = Story::collect(bytes, scanner, &mut scratch, slot::of)?;
        debug_assert_eq!(start, whole.start as usize);
        let mut values = Values { bytes, scratch: &mut scratch };
        match headline(&mut values, &story, whole, kind) {
            Ok(found) => out.extend(found),
            Err(error) => rejected.add(error)?,
        }
        Ok(())
    })?;
    Ok(rejected)
}

fn headline(
    values: &mut Values<'_>,
    story: &Story,
    whole: Span,
    kind: Option<&[u8]>,
) -> Result<Option<Headline>> {
    if let Some(kind) = kind {
        let told = story.find(values.bytes, b'T').map(|span| values.text(span));
        if !matches!(told, Some(Ok(told)) if told == kind) {
            return Ok(None);
        }
    }
    let bytes = values.bytes;
    let missing = || Error::decode(DecodeReason::MissingField, story.start());
    let mut text = b"{\"id\":".to_vec();
    let id = story.find(bytes, slot::ID).ok_or_else(missing)?;
    let number = identify(values, id, &mut text)?;
    for (key, slots) in TEXTS {
        let found = slots.into_iter().find_map(|slot| story.find(bytes, slot));
        let found = match found {
            Some(span) if span.of(bytes)[0] == b'{' => name_of(values, span)?,
            found => found,
        };
        let Some(span) = found else {
            // A headline may be empty, and must be told.
            if key == "headline" {
                let span = slots.into_iter().find_map(|slot| story.need(slot).ok());
                values.text(span.ok_or_else(missing)?)?;
            }
            continue;
        };
        values.text(span)?;
        text.extend_from_slice(b",\"");
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b"\":");
        text.extend_from_slice(span.of(bytes));
    }
    let symbols = [slot::SYMBOLS, slot::TICKERS].into_iter().find_map(|s| story.find(bytes, s));
    if let Some(symbols) = symbols {
        Scanner::inside(bytes, symbols).array(|scanner| {
            let symbol = scanner.value()?;
            values.text(symbol).map(drop)
        })?;
        text.extend_from_slice(b",\"symbols\":");
        text.extend_from_slice(symbols.of(bytes));
    }
    text.extend_from_slice(b",\"raw\":");
    text.extend_from_slice(whole.of(bytes));
    text.push(b'}');
    let created = [slot::CREATED, slot::PUBLISHED, slot::UPDATED];
    let created = created.into_iter().find_map(|slot| story.find(bytes, slot));
    let ts_created = moment(values, created.ok_or_else(missing)?)?;
    let updated = story.find(bytes, slot::UPDATED);
    let ts_updated = updated.map_or(Ok(ts_created), |span| moment(values, span))?;
    Ok(Some(Headline { id: number, ts_created, ts_updated, text }))
}

/// Writes the id at `span`, a text or a number, as a text; returns the number that stands for it.
fn identify(values: &mut Values<'_>, span: Span, text: &mut Vec<u8>) -> Result<u64> {
    let raw = span.of(values.bytes);
    if raw[0] == b'"' {
        text.extend_from_slice(raw);
        let id = values.text(span)?;
        let number = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        return Ok(number.unwrap_or_else(|| number_of(id)));
    }
    let number = values.wide_id(span, "id")?;
    text.extend_from_slice(format!("\"{number}\"").as_bytes());
    Ok(number)
}

/// The name of the publisher at `span`, an object.
fn name_of(values: &mut Values<'_>, span: Span) -> Result<Option<Span>> {
    let mut scanner = Scanner::inside(values.bytes, span);
    let publisher = Story::collect(values.bytes, &mut scanner, values.scratch, slot::of)?;
    Ok(publisher.find(values.bytes, slot::NAME))
}

/// A time as text, or as a number of ns.
fn moment(values: &mut Values<'_>, span: Span) -> Result<i64> {
    let (byte, raw) = (span.start as usize, span.of(values.bytes));
    let ts = if raw[0] == b'"' {
        rfc3339::parse(values.text(span)?).map_err(|why| unfit(why, "ts_event", byte))?
    } else {
        values.time_in(span, "ts_event", &[(0, 1)])?
    };
    if ts < 0 {
        return Err(Error::decode(DecodeReason::BadNumber, byte));
    }
    Ok(ts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Option<&[u8]>) -> (Vec<Headline>, Rejected) {
        let mut scanner = Scanner::new(text.as_bytes(), 0);
        let list = scanner.value().unwrap();
        let mut found = Vec::new();
        let rejected = read_list(text.as_bytes(), list, kind, &mut found).unwrap();
        (found, rejected)
    }

    #[test]
    fn stories_of_both_vocabularies_have_one_form() {
        // The keys of either venue, texts with escapes, a number and a text as the id.
        let (found, rejected) = read(
            r#"[{"T":"n","id":24918784,"headline":"A \"B\" é","summary":"","symbols":[],
                 "created_at":"2022-01-05T22:00:37Z","updated_at":"2022-01-05T22:00:38Z"},
                {"id":"8ec6","title":"T","publisher":{"name":"P","x":{"name":"Q"}},
                 "tickers":["UBS","BRK.A"],"published_utc":"2024-06-24T18:33:53Z",
                 "article_url":"https://x.test/a","description":"D","author":"A"}]"#,
            None,
        );
        assert_eq!(rejected, Rejected::NONE);
        let texts = found.iter().map(|story| String::from_utf8(story.text.clone()).unwrap());
        let heads: Vec<_> =
            texts.map(|text| text.split_once(",\"raw\":{").unwrap().0.to_owned()).collect();
        assert_eq!(heads[0], r#"{"id":"24918784","headline":"A \"B\" é","symbols":[]"#);
        let wanted = [
            r#"{"id":"8ec6","headline":"T","summary":"D","author":"A","source":"P","#,
            r#""url":"https://x.test/a","symbols":["UBS","BRK.A"]"#,
        ];
        assert_eq!(heads[1], wanted.concat());
        assert_eq!((found[0].id, found[1].id), (24_918_784, number_of(b"8ec6")));
        assert_eq!(found[0].ts_updated - found[0].ts_created, 1_000_000_000);
        assert_eq!(found[1].ts_updated, found[1].ts_created);
        for story in &found {
            assert!(Scanner::check(&story.text).is_ok());
        }
    }

    #[test]
    fn one_that_cannot_be_read_takes_no_other_with_it() {
        let good = r#"{"T":"n","id":1,"headline":"","created_at":1}"#;
        for (bad, reason) in [
            (r#"{"T":"n","id":1,"created_at":1}"#, DecodeReason::MissingField),
            (r#"{"T":"n","headline":"x","created_at":1}"#, DecodeReason::MissingField),
            (r#"{"T":"n","id":1,"headline":"x"}"#, DecodeReason::MissingField),
            (r#"{"T":"n","id":1,"headline":7,"created_at":1}"#, DecodeReason::WrongType),
            (r#"{"T":"n","id":1,"headline":"\ud800","created_at":1}"#, DecodeReason::NotUtf8),
            (r#"{"T":"n","id":-1,"headline":"x","created_at":1}"#, DecodeReason::BadNumber),
            (r#"{"T":"n","id":1,"headline":"x","created_at":"now"}"#, DecodeReason::BadNumber),
            (
                r#"{"T":"n","id":1,"headline":"","created_at":1,"symbols":[1]}"#,
                DecodeReason::WrongType,
            ),
        ] {
            let (found, rejected) = read(&format!("[{good},{bad},{good}]"), Some(b"n"));
            assert_eq!((found.len(), rejected.count), (2, 1), "{bad}");
            assert_eq!(rejected.first.map(|(reason, _)| reason), Some(reason), "{bad}");
        }
        // What is of another type, or of none, is no story, and no failure of one; where all are
        // stories it is.
        let (found, rejected) = read(&format!("[{{\"T\":\"t\"}},7,{good}]"), Some(b"n"));
        assert_eq!((found.len(), rejected), (1, Rejected::NONE));
        let (found, rejected) = read(&format!("[7,{good}]"), None);
        assert_eq!((found.len(), rejected), (1, Rejected::one(DecodeReason::WrongType, 1)));
    }
}
