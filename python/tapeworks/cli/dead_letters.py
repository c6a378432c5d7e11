"""`tape dead-letters`: the frames that could not be decoded, with their bytes."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from tapeworks.cli.command import Application, option
from tapeworks.cli.formats import Format, FormatOption, OutputOption, format_of, is_standard_output
from tapeworks.cli.options import DataOption, SourceOption
from tapeworks.cli.output import write_result, write_table, written
from tapeworks.cli.reading import open_lake
from tapeworks.errors import ConfigError, QueryError
from tapeworks.views.result import Result

SHOWN = ["ts_recv", "venue", "raw_offset", "connection", "reason", "byte", "bytes", "frame"]
FRAME_CHARACTERS = 60

app = Application()

EXAMPLES = """\
Examples:
  tape dead-letters
  tape dead-letters --from 2026-11-20 --format jsonl     # whole frames
  tape dead-letters --raw 4711 > frame.bin               # one frame, exactly as it came
  tape query "select reason, count(*) from dead_letters group by reason"
  tape query "select raw_offset, decode(frame) from dead_letters"

A frame is kept as it came. `byte` is where decoding stopped in it, `raw_offset` its place on the
raw tape. The feed goes on without it; its content is missing, see `tape gaps`. In JSON and CSV a
frame that is no UTF-8 text is \\x and its hexadecimal digits.
"""


@app.command(epilog=EXAMPLES)
def dead_letters(
    start: Annotated[str | None, option("--from", help="Start of receipt, UTC.")] = None,
    end: Annotated[str | None, option("--to", help="End of receipt, UTC.")] = None,
    source: SourceOption = None,
    raw: Annotated[
        int | None, option("--raw", help="Write the bytes of the frame at this raw offset.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    data: DataOption = None,
) -> None:
    """Show every frame that could not be decoded: its bytes, why, where, and when."""
    form = format_of(form, output) if raw is None else form
    found = open_lake(data).dead_letters(start, end, source=source)
    if raw is not None:
        _write_frame(found, raw, output)
    elif form is Format.TABLE and output is None:
        _show(found)
    else:
        write_result(found.to_arrow(), form, output)


def _write_frame(found: Result, raw_offset: int, output: Path | None) -> None:
    letters = found.to_arrow().select(["raw_offset", "frame"]).to_pylist()
    frames = [row["frame"] for row in letters if row["raw_offset"] == raw_offset]
    if len(frames) != 1 or frames[0] is None:
        held = ", ".join(str(row["raw_offset"]) for row in letters[:10]) or "none"
        problem = "is of more than one source: add --source" if len(frames) > 1 else "is not held"
        raise QueryError(f"the frame at raw offset {raw_offset} {problem}; stored are {held}")
    if not (output is None or is_standard_output(output)):
        with written(output) as path:
            path.write_bytes(frames[0])
    elif sys.stdout.isatty():
        raise ConfigError(
            "expected --output FILE or a pipe: the bytes of a frame may control a terminal"
        )
    else:
        sys.stdout.buffer.write(frames[0])
        sys.stdout.flush()


def _show(found: Result) -> None:
    if not len(found):
        print("every frame was decoded")
        return
    rows = []
    for row in found.to_pylist():
        frame = row["frame"]
        assert frame is None or isinstance(frame, bytes)
        row["bytes"] = None if frame is None else len(frame)
        row["frame"] = "(gone)" if frame is None else _excerpt(frame, int(str(row["byte"] or 0)))
        rows.append(tuple(row[name] for name in SHOWN))
    write_table(SHOWN, rows)
    reasons = Counter(str(row[SHOWN.index("reason")]) for row in rows)
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    print(f"{len(rows):,} frames: {told}; whole with --format jsonl or --raw OFFSET")


def _excerpt(frame: bytes, byte: int) -> str:
    """Returns the part of a frame in which decoding stopped, as text."""
    first = max(0, min(byte - FRAME_CHARACTERS // 2, len(frame) - FRAME_CHARACTERS))
    part = frame[first : first + FRAME_CHARACTERS].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in part)
    more = "…" if first + FRAME_CHARACTERS < len(frame) else ""
    return f"{'…' if first else ''}{shown}{more}"
