//! A strict JSON scanner that builds nothing.
//!
//! It walks the bytes once, checks them against RFC 8259 and answers with spans: where a value
//! starts and ends. What Python's `json` refuses is refused here too. The bytes must be UTF-8
//! already; a span never reaches outside of them.

use crate::error::{DecodeReason, Error, Result};

/// Containers inside one another, at most. No venue comes near; a hostile frame stops here.
const DEPTH_MAX: usize = 512;

/// Where a value stands in the frame: from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last one. 0 means that there is no such value.
    pub end: u32,
}

impl Span {
    /// Whether there is a value at all.
    pub const fn is_some(self) -> bool {
        self.end != 0
    }

    /// The bytes of the value, with the quotes of a string.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// A place in the bytes of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Whether a container goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Member,
    End,
}

impl<'a> Scanner<'a> {
    /// A scanner of `bytes` from `at` on.
    pub const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The scanner of a value that was scanned before.
    pub const fn inside(bytes: &'a [u8], span: Span) -> Self {
        Self::new(bytes, span.start as usize)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The error that fits this place: the end of the frame, or a byte that may not stand here.
    fn wrong(&self) -> Error {
        let reason = match self.peek() {
            None => DecodeReason::Truncated,
            Some(_) => DecodeReason::NotJson,
        };
        Error::decode(reason, self.at)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.wrong())
    }

    /// The first byte of the next value, which tells its type.
    pub fn peek_value(&mut self) -> Result<u8> {
        self.skip_space();
        self.peek().ok_or_else(|| self.wrong())
    }

    /// Goes to the next value, which must start with `open`, and gives its first byte's place.
    ///
    /// # Errors
    /// `Error::Decode` (`WrongType`): it is of another type.
    pub fn at_value(&mut self, open: u8) -> Result<usize> {
        if self.peek_value()? != open {
            return Err(Error::decode(DecodeReason::WrongType, self.at));
        }
        Ok(self.at)
    }

    /// Checks that `bytes` are one JSON value in UTF-8.
    ///
    /// # Errors
    /// `Error::Decode`.
    pub fn check(bytes: &'a [u8]) -> Result<()> {
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(Error::decode(DecodeReason::NotUtf8, error.valid_up_to()));
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::decode(DecodeReason::TooLong, 0));
        }
        let mut scanner = Self::new(bytes, 0);
        scanner.value()?;
        scanner.finish()
    }

    /// Checks that only white space follows.
    ///
    /// # Errors
    /// `Error::Decode` (`TrailingBytes`).
    pub fn finish(mut self) -> Result<()> {
        self.skip_space();
        if self.at < self.bytes.len() {
            return Err(Error::decode(DecodeReason::TrailingBytes, self.at));
        }
        Ok(())
    }

    /// Calls `member` with the span of each key of the object here, and the scanner at its value,
    /// which `member` must consume.
    ///
    /// # Errors
    /// `Error::Decode`: what stands here is no object, and what `member` gives.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Span) -> Result<()>) -> Result<()> {
        self.skip_space();
        self.expect(b'{')?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            if self.next(b'}')? == Next::End {
                return Ok(());
            }
        }
    }

    /// Calls `element` with the scanner at each value of the array here, which `element` must
    /// consume.
    ///
    /// # Errors
    /// `Error::Decode`: what stands here is no array, and what `element` gives.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.skip_space();
        self.expect(b'[')?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if self.next(b']')? == Next::End {
                return Ok(());
            }
        }
    }

    fn key(&mut self) -> Result<Span> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.wrong());
        }
        let key = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        Ok(key)
    }

    fn next(&mut self, close: u8) -> Result<Next> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(Next::Member)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(Next::End)
            }
            _ => Err(self.wrong()),
        }
    }

    /// Checks the value here, of any type, and gives its span.
    ///
    /// # Errors
    /// `Error::Decode`: it is not JSON.
    pub fn value(&mut self) -> Result<Span> {
        self.skip_space();
        let start = self.at;
        match self.peek() {
            Some(b'{' | b'[') => self.container()?,
            _ => self.scalar()?,
        }
        Ok(Span { start: start as u32, end: self.at as u32 })
    }

    fn scalar(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.wrong()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<()> {
        word.iter().try_for_each(|&byte| self.expect(byte))
    }

    /// Walks a container without recursion: `kinds` holds one bit a level, set for an object.
    fn container(&mut self) -> Result<()> {
        let mut kinds = [0u64; DEPTH_MAX / 64];
        let mut depth = 0;
        loop {
            // Here a value is due.
            self.skip_space();
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                if depth == DEPTH_MAX {
                    return Err(Error::decode(DecodeReason::NotJson, self.at));
                }
                self.at += 1;
                let bit = 1 << (depth % 64);
                kinds[depth / 64] &= !bit;
                kinds[depth / 64] |= if open == b'{' { bit } else { 0 };
                depth += 1;
                self.skip_space();
                // An ASCII closing bracket stands two after its opening one.
                if self.peek() != Some(open + 2) {
                    if open == b'{' {
                        self.key()?;
                    }
                    continue;
                }
                self.at += 1;
                depth -= 1;
            } else {
                self.scalar()?;
            }
            // Here a value was closed.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let is_object = kinds[(depth - 1) / 64] >> ((depth - 1) % 64) & 1 == 1;
                match self.next(if is_object { b'}' } else { b']' })? {
                    Next::End => depth -= 1,
                    Next::Member if is_object => break self.key().map(drop)?,
                    Next::Member => break,
                }
            }
        }
    }

    /// Checks the string here and gives its span, quotes included.
    fn string(&mut self) -> Result<Span> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                None | Some(..=0x1f) => return Err(self.wrong()),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(Span { start: start as u32, end: self.at as u32 })
    }

    fn escape(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.wrong());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.wrong());
        }
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }
}

/// Appends the text of the string whose bytes, quotes included and checked before, are `raw`.
///
/// # Errors
/// `Error::Decode` (`NotUtf8`) at `byte`: an escape names half a surrogate pair.
pub fn unescape(raw: &[u8], byte: usize, out: &mut Vec<u8>) -> Result<()> {
    let text = &raw[1..raw.len() - 1];
    let mut at = 0;
    while at < text.len() {
        if text[at] != b'\\' {
            out.push(text[at]);
            at += 1;
            continue;
        }
        at += 2;
        match text[at - 1] {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (letter, length) =
                    unicode(&text[at..]).ok_or(Error::decode(DecodeReason::NotUtf8, byte))?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                at += length;
            }
            other => out.push(other),
        }
    }
    Ok(())
}

/// The character whose escape starts with the four digits of `text`, and the bytes it takes.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let first = hexadecimal(text)?;
    if let Some(letter) = char::from_u32(first) {
        return Some((letter, 4));
    }
    let second = text.get(4..6).filter(|mark| mark == b"\\u").and(hexadecimal(text.get(6..)?))?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let letter = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((letter, 10))
}

fn hexadecimal(text: &[u8]) -> Option<u32> {
    text.get(..4)?
        .iter()
        .try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<()> {
        let mut scanner = Scanner::new(text.as_bytes(), 0);
        scanner.value()?;
        scanner.finish()
    }

    #[test]
    fn json_is_taken_whole() {
        for text in [
            "0",
            "-0.5e+10",
            " [ ] ",
            "{}",
            r#"{"a":{"b":[1,2,{"c":null}],"d":""},"e":true}"#,
            r#"["\"\\\/\b\f\n\r\t\u00e9\ud83d", "é", false]"#,
            "\t\r\n [ [ ] , { } ] \n",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_reason() {
        use DecodeReason::{NotJson, TrailingBytes, Truncated};
        for (text, wanted) in [
            ("", Truncated),
            ("[1,", Truncated),
            ("{\"a\"", Truncated),
            ("\"abc", Truncated),
            ("tru", Truncated),
            ("-", Truncated),
            ("1.", Truncated),
            ("[1,]", NotJson),
            ("{\"a\":1,}", NotJson),
            ("{a:1}", NotJson),
            ("{\"a\" 1}", NotJson),
            ("[1}", NotJson),
            ("{\"a\":1]", NotJson),
            ("+1", NotJson),
            (".5", NotJson),
            ("1.e5", NotJson),
            ("NaN", NotJson),
            ("\"\n\"", NotJson),
            ("\"\\x\"", NotJson),
            ("\"\\u12g4\"", NotJson),
            ("\u{feff}1", NotJson),
            ("01", TrailingBytes),
            ("{} {}", TrailingBytes),
            ("1,", TrailingBytes),
        ] {
            let found = check(text);
            assert!(
                matches!(found, Err(Error::Decode { reason, .. }) if reason == wanted),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(&nested(DEPTH_MAX)).is_ok());
        assert!(check(&nested(DEPTH_MAX + 1)).is_err());
    }

    #[test]
    fn escapes_are_resolved() {
        let mut text = Vec::new();
        unescape(br#""a\u0041\ud83d\ude00\n\/""#, 0, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "aA😀\n/");
        for half in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83dA""#] {
            assert!(unescape(half.as_bytes(), 0, &mut Vec::new()).is_err());
        }
    }
}
