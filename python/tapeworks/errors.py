"""The exceptions of Tapeworks.

    TapeworksError
      ConfigError            a setting is wrong or missing        stop before starting
      FeedError
        DecodeError          bytes break the venue's format       keep the bytes, count, go on
        GapError             sequence numbers jumped              resynchronise
        VenueError           the venue refused                    retry after `retry_after_ms`
      TapeError
        CorruptTapeError     a checksum fails before the tail     stop
        TapeVersionError     a newer version wrote it             stop, update
        TapeLockedError      another process writes it            stop
        TapeReplacedError    replaced, restored or rewritten      stop, say what to do
        TapeRangeError       the offset is not on the tape        say what is, go on or stop
        DiskFullError        no space left                        keep what fits, shed, go on
      ProcessorError         a processor in Python raised        it stops alone
      SinkError
        SinkUnavailable      may work later                       retry from the saved offset
        SinkRejected         this batch never will                dead-letter, count, go on
      LakeError              files and commits do not agree        stop, `tape lake rebuild`
        LakeVersionError     a newer version wrote it             stop, update
      QueryError             the question cannot be answered      say why
        ArgumentError        a time, name or kind is wrong        say what there is

The right column is part of the meaning: the pipeline acts on types, never on messages.
"""


class TapeworksError(Exception):
    """Base of all errors that Tapeworks raises on purpose."""


class ConfigError(TapeworksError):
    """Says which setting is wrong, what was expected and what was got."""


class FeedError(TapeworksError):
    """Something is wrong between a venue and us."""


class DecodeError(FeedError):
    """Bytes of a venue break its format at byte `byte`."""

    reason: str = "unknown"
    byte: int = 0


class GapError(FeedError):
    """Sequence numbers jumped."""


class VenueError(FeedError):
    """The venue refused a request; `status` is its HTTP status, 0 if there was none."""

    def __init__(self, message: str, *, status: int = 0, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_ms = retry_after_ms


class TapeError(TapeworksError):
    """Something is wrong with a tape."""


class CorruptTapeError(TapeError):
    """Stored bytes are wrong before the tail, at byte `byte` of `path`."""

    path: str = ""
    byte: int = 0


class TapeVersionError(TapeError):
    """A newer version of Tapeworks wrote this tape."""


class TapeLockedError(TapeError):
    """Another process, `holder`, is writing the folder `path`."""

    path: str = ""
    holder: int | None = None


class TapeReplacedError(TapeError):
    """What stands at `path` is not what was there: replaced, restored from a copy, or rewritten."""

    path: str = ""


class TapeRangeError(TapeError):
    """The `wanted` offset is not on the tape, which holds `first` up to `end`."""

    wanted: int = 0
    first: int = 0
    end: int = 0


class DiskFullError(TapeError):
    """No space left; all that was published is kept."""


class ProcessorError(TapeworksError):
    """A processor in Python raised; the message names it and the input offset."""


class SinkError(TapeworksError):
    """Something is wrong with a sink."""


class SinkUnavailable(SinkError):
    """May work later: retry from the saved offset after `retry_after_ms`.

    With `lacks_input`, once more has come on a tape: where nothing is to come, no time helps.
    """

    def __init__(
        self, message: str, *, retry_after_ms: int = 1000, lacks_input: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.lacks_input = lacks_input


class SinkRejected(SinkError):
    """This batch will never be taken: keep what is refused aside, count it, go on.

    `offset` is that of a record that is refused, if it is known; else it is searched for.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class LakeError(TapeworksError):
    """Files of the lake are missing, damaged or do not agree with its commits."""


class LakeVersionError(LakeError):
    """A newer version of Tapeworks wrote this file of the lake."""


class QueryError(TapeworksError):
    """The question cannot be answered; the message says why and what would help."""


class ArgumentError(QueryError):
    """What a question names is wrong: a time that cannot be read, a symbol that is not there."""
