//! What frames show of themselves before they are decoded.

/// What one frame is, at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance<'a> {
    /// Market data of the stream of that name.
    Stream(&'a [u8]),
    /// Market data, perhaps of many streams: its events tell of which.
    Events,
    /// A sign of life of the connection. Nobody has to look at it.
    Heartbeat,
    /// For the session to read.
    Control,
}

/// How the frames of a feed are told apart, and what says which streams they are of.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    /// A data frame is of one stream, and starts with its name.
    Named(Envelope),
    /// A data frame may hold events of many instruments and channels. A stream has spoken when an
    /// event of its instrument and channel was decoded. The function tells data from the rest.
    Events(fn(&[u8]) -> Glance<'_>),
    /// The session reads every frame, and says of which streams it is.
    Session,
}

/// How frames name the stream that they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Frames that start so are market data, and the name of their stream follows up to the next
    /// quote; all others are shown to the session.
    pub data_prefix: &'static [u8],
    /// Exceptions from `data_prefix`; none if empty.
    pub control_prefix: &'static [u8],
}

impl Envelope {
    /// The name of the stream that a data frame carries; none for other frames.
    #[inline]
    pub fn stream_name<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        let rest = body.strip_prefix(self.data_prefix)?;
        if !self.control_prefix.is_empty() && body.starts_with(self.control_prefix) {
            return None;
        }
        let end = rest.iter().position(|&byte| byte == b'"').unwrap_or(rest.len());
        Some(&rest[..end])
    }
}

impl Framing {
    /// What a frame is.
    #[inline]
    pub fn glance<'a>(&self, body: &'a [u8]) -> Glance<'a> {
        match self {
            Self::Named(envelope) => {
                envelope.stream_name(body).map_or(Glance::Control, Glance::Stream)
            }
            Self::Events(look) => look(body),
            Self::Session => Glance::Control,
        }
    }

    /// Whether decoded events tell which streams spoke.
    pub const fn counts_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_framing_tells_its_frames_apart() {
        // Named streams with an exception; arrays whose first bytes tell; a session that reads all.
        let envelope = Envelope { data_prefix: b"{s:\"", control_prefix: b"{s:\"!down" };
        let named = Framing::Named(envelope);
        assert_eq!(named.glance(b"{s:\"a@trade\",d:1}"), Glance::Stream(b"a@trade"));
        assert_eq!(named.glance(b"{s:\"!down\"}"), Glance::Control);
        assert_eq!(named.glance(b"{id:1}"), Glance::Control);
        let arrays = Framing::Events(|body| match body {
            [] => Glance::Heartbeat,
            [b'[', b'T' | b'Q', ..] => Glance::Events,
            _ => Glance::Control,
        });
        let glances = [b"".as_slice(), b"[T", b"[S"].map(|body| arrays.glance(body));
        assert_eq!(glances, [Glance::Heartbeat, Glance::Events, Glance::Control]);
        assert_eq!(Framing::Session.glance(b"[T"), Glance::Control);
        assert!(arrays.counts_events() && !named.counts_events());
    }
}
