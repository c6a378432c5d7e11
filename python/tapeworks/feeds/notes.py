"""What others leave for the recorder to put on the raw tape, and what it tells of its times."""

from collections.abc import Callable
from pathlib import Path

from tapeworks._core import Ingest
from tapeworks.alert_notes import left_notes
from tapeworks.stage_times import Told
from tapeworks.tape import noted_losses

_NONE = float("nan")


def take_notes(
    data: Path, source: str, ingest: Ingest, now: Callable[[], int], flush: Callable[[], None]
) -> None:
    """Puts on the raw tape what readers of derived tapes lost, and notes of alerts."""
    for path, loss in noted_losses(data, source):
        received = (loss.ts_start, loss.ts_end)
        ingest.lost((loss.first, loss.last), received, now(), loss.cause, loss.topic)
        flush()
        # Noted twice, if this process ends here, is one gap: the latest word on it counts.
        ingest.sync()
        path.unlink()
    for path, note in left_notes(data, source):
        taken = ingest.note_alert(
            note.rule,
            note.state,
            now(),
            id=note.id,
            ts_start=note.ts_start,
            value=_NONE if note.value is None else note.value,
            threshold=_NONE if note.threshold is None else note.threshold,
            count=note.count,
            subject=note.subject,
            detail=note.detail,
        )
        if not taken:
            return
        flush()
        # Told twice, if this process ends here, is told once: a rule is open or it is not.
        ingest.sync()
        path.unlink(missing_ok=True)


def times_of(ingest: Ingest) -> dict[str, tuple[Told, Told]]:
    """Returns how long frames took from their receipt to the raw tape, and their records."""
    published, normalized = ingest.take_times()
    return {"publish": published, "normalize": normalized}
