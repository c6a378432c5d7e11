//! The one error type of the core.
//!
//! Every variant names what was expected, what was got, and where. Callers act on the variant,
//! never on the text: `Error::kind` is the stable name that the bindings map to an exception.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::numbered;

/// Shorthand for results of the core.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in the core.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. `doing` says what was attempted.
    Io {
        /// What the operating system said.
        source: std::io::Error,
        /// What was attempted, such as "opening segment 7".
        doing: String,
    },
    /// Bytes of a venue break its format. Keep the bytes, count, go on.
    Decode {
        /// What was expected and what was got.
        reason: DecodeReason,
        /// Byte in the frame at which decoding stopped.
        byte: usize,
    },
    /// A number does not fit its fixed-point field.
    DoesNotFit {
        /// The field, such as "price".
        field: &'static str,
        /// Byte in the frame at which the number starts.
        byte: usize,
    },
    /// Stored bytes are wrong before the tail: a checksum, a length, a version. Stop.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Byte in the file.
        byte: u64,
        /// What was expected and what was got.
        reason: String,
    },
    /// A file was written by a newer version.
    FutureVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// Another process is writing this folder: a tape, a lake, a state.
    Locked {
        /// The folder.
        path: PathBuf,
        /// Process id of the writer, if it could be read.
        holder: Option<u32>,
    },
    /// What stands at a place is not what was there before: a tape or a folder was replaced,
    /// restored from a copy, or rewritten.
    Replaced {
        /// The folder.
        path: PathBuf,
        /// What was expected there.
        expected: String,
        /// What was found.
        found: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The wanted offset is no longer, or not yet, on the tape.
    OutOfRange {
        /// The wanted offset.
        wanted: u64,
        /// First offset that is kept.
        first: u64,
        /// Offset after the last one that is published.
        end: u64,
    },
    /// The disk is full: nothing of this batch was published, and all before it is kept.
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// An argument or setting is wrong.
    Invalid {
        /// What was expected and what was got.
        reason: String,
    },
}

numbered! {
    /// Why a frame could not be decoded. The number is stored in dead-letter markers.
    pub enum DecodeReason {
        /// The bytes are not JSON.
        NotJson = 1, "not_json";
        /// The frame ends in the middle of a value.
        Truncated = 2, "truncated";
        /// A key that the message needs is missing.
        MissingField = 3, "missing_field";
        /// A value has another type than the venue documents.
        WrongType = 4, "wrong_type";
        /// A decimal or an integer could not be read.
        BadNumber = 5, "bad_number";
        /// A number has more digits than the fixed-point field holds.
        DoesNotFit = 6, "does_not_fit";
        /// The event type is not known.
        UnknownEvent = 7, "unknown_event";
        /// A raw payload carries no symbol and its stream name is not known.
        UnknownStream = 8, "unknown_stream";
        /// The bytes are not UTF-8.
        NotUtf8 = 9, "not_utf8";
        /// A symbol or a text is longer than its field.
        TooLong = 10, "too_long";
        /// Bytes follow the end of the message.
        TrailingBytes = 11, "trailing_bytes";
        /// The venue answered with an error object.
        VenueError = 12, "venue_error";
        /// A decoder in Python raised an error that names no reason of this list.
        Raised = 13, "raised";
        /// Its time is far from that of its receipt, and from that of the event before it.
        ImplausibleTime = 14, "implausible_time";
        /// Its sequence does not go with those before it, nor with those behind it.
        ImplausibleSequence = 15, "implausible_sequence";
        /// Another event of the same sequence said something else.
        Contradiction = 16, "contradiction";
    }
}

impl Error {
    /// Wraps an operating-system error with what was attempted.
    pub fn io(source: std::io::Error, doing: impl Into<String>) -> Self {
        Self::Io { source, doing: doing.into() }
    }

    /// A venue frame that cannot be decoded, at `byte`.
    pub const fn decode(reason: DecodeReason, byte: usize) -> Self {
        Self::Decode { reason, byte }
    }

    /// Stored bytes that are wrong at `byte` of `path`.
    pub fn corrupt(path: &Path, byte: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), byte, reason: reason.into() }
    }

    /// A wrong argument or setting.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// Why a frame could not be decoded, and at which byte; `None` for all other errors.
    pub const fn of_frame(&self) -> Option<(DecodeReason, usize)> {
        match self {
            Self::Decode { reason, byte } => Some((*reason, *byte)),
            Self::DoesNotFit { byte, .. } => Some((DecodeReason::DoesNotFit, *byte)),
            _ => None,
        }
    }

    /// The stable name of the variant.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Decode { .. } => "decode",
            Self::DoesNotFit { .. } => "does_not_fit",
            Self::Corrupt { .. } => "corrupt",
            Self::FutureVersion { .. } => "future_version",
            Self::Locked { .. } => "locked",
            Self::Replaced { .. } => "replaced",
            Self::OutOfRange { .. } => "out_of_range",
            Self::DiskFull { .. } => "disk_full",
            Self::Invalid { .. } => "invalid",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { source, doing } => write!(f, "{doing}: {source}"),
            Self::Decode { reason, byte } => {
                write!(f, "cannot decode the frame at byte {byte}: {}", reason.name())
            }
            Self::DoesNotFit { field, byte } => {
                write!(f, "{field} at byte {byte} does not fit its fixed-point field")
            }
            Self::Corrupt { path, byte, reason } => {
                write!(f, "{} is corrupt at byte {byte}: {reason}", path.display())
            }
            Self::FutureVersion { path, found, supported } => write!(
                f,
                "{} was written in format version {found}; this build reads up to {supported}: \
                 update Tapeworks to read it",
                path.display()
            ),
            Self::Locked { path, holder: Some(pid) } => {
                write!(f, "{} is being written by process {pid}: stop it first", path.display())
            }
            Self::Locked { path, holder: None } => {
                write!(f, "{} is being written by another process: stop it first", path.display())
            }
            Self::Replaced { path, expected, found, advice } => {
                write!(f, "{}: expected {expected}, got {found}: {advice}", path.display())
            }
            Self::OutOfRange { wanted, first, end } => {
                write!(f, "offset {wanted} is not on the tape, which holds {first} up to {end}")
            }
            Self::DiskFull { path } => write!(
                f,
                "no space left for {}: nothing of this batch was published; free space",
                path.display()
            ),
            Self::Invalid { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
