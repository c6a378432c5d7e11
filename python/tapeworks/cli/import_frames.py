"""`tape import`: brings captured frames onto the tapes, by the same path as live ones."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tapeworks._core import Decoder, TapeReader, TapeWriter, numbers
from tapeworks.cli.command import Application, argument, ending_with, option
from tapeworks.cli.console import console, problems
from tapeworks.cli.held import Held
from tapeworks.cli.import_files import INCOMING, parts_of
from tapeworks.cli.import_writer import FLUSH_FRAMES, ImportWriter
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.output import amount
from tapeworks.cli.progress import LongProgress
from tapeworks.cli.screen import gaps_text, raw_frames
from tapeworks.cli.settings import load
from tapeworks.config import source_name
from tapeworks.errors import ConfigError, DiskFullError, FeedError, SinkUnavailable
from tapeworks.exits import EXIT_INCOMPLETE
from tapeworks.feeds.capture_channels import ChannelTally, feed_that_decodes, has_events
from tapeworks.feeds.captures import (
    CaptureOptions,
    CaptureReader,
    Captures,
)
from tapeworks.jobs.catch_up import catch_up
from tapeworks.pipeline import Config, lock_sources
from tapeworks.register import registered
from tapeworks.registry import MEMBERS, load_member, present_name
from tapeworks.tape import has_segments
from tapeworks.topics import DEAD, NORMALIZED, RAW
from tapeworks.views.status import Status

LINES = 1_000
"""So many files are lines of different numbers."""
WAIT_S = 60.0
STEPS_SHOWN = 5

app = Application()

EXAMPLES = """\
Examples:
  tape import binance-spot capture.gz --data imported
  tape import binance-usdm day1.gz day2.gz --source usdm-2024
  tape import itch 01302019.NASDAQ_ITCH50.gz
  tape import itch capture.pcap --source nasdaq
  tape import lobster LOBSTER_SampleFile_AMZN_2012-06-21_5.zip
  tape import alpaca alpaca.jsonl
  tape import massive us_stocks_sip/trades_v1/2026/10/2026-10-01.csv.gz
  tape import massive s3://flatfiles/us_stocks_sip/trades_v1/2026/10/

Files of itch hold messages behind their lengths, or packets of MoldUDP64 (pcap); those of lobster
are message files or their archives. They have no times of receipt: those of the events stand for
them. What they do not tell is given by --date and --symbol. A file that ends early is told.

An object of S3 is fetched, imported and removed, one after the other; an address that ends with /
means all below it. Keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment;
AWS_ENDPOINT_URL names another service than AWS, or than the venue's own.

Of binance, a line of a file is one of:
  <receive time ns> <frame>
  <seconds>: <frame>
  <url> -> <seconds>: <answer>
  <frame>                           JSON; its time of receipt is its time of event

A capture is imported once: frames that the source holds already are left out, so that an import
that was stopped goes on when it is run again. Captures of one source come in the order of time,
each file up to a minute before the end of the one before it; an older one is refused.

A receive time that those behind it contradict is not believed, and a clock that was set back is not
followed: what is stored with another time than that of its line is flagged, and told at the end.

Where a tape cannot be written, as the disk is full, the import waits for room, and then fails. All
frames that were stored by then stay; the same command goes on there.

Exits with 3 if no frame, or nearly none of a channel, could be decoded as FEED, or if a file is
cut: it has not the end that the venue gives each. The frames are kept, also as dead letters.
"""


@app.command(epilog=EXAMPLES)
def import_frames(
    feed: Annotated[str, argument(help="The feed, such as binance-spot.")],
    files: Annotated[
        list[str], argument(help="Files in time order, plain or gzip; or s3://BUCKET/KEY.")
    ],
    source: Annotated[str, option(help="Name of the source. [default: that of the feed]")] = "",
    symbol: Annotated[str, option(help="Symbol of what does not tell its own.")] = "",
    stream: Annotated[str, option(help="Stream of frames that do not name theirs.")] = "",
    day: Annotated[str, option("--date", help="The venue's day of files that do not tell.")] = "",
    wait: Annotated[
        float, option(least=0, help="Seconds to wait for room on a full disk.")
    ] = WAIT_S,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Import captured frames to the tapes, derive everything, and store it in the lake."""
    feed = present_name(feed)
    name = source_name(source or feed)
    settings = load(config)
    settings = replace(settings, data=data or settings.data, feeds={name: None})
    options = CaptureOptions(feed, symbol, stream, _day(day))
    reader = _reader_of(feed)
    parts, incoming = parts_of(files, reader.endpoint), settings.data / INCOMING / name
    for part in parts:
        if part.is_here:
            _check([Path(file) for file in part.names], reader(options))
    with registered(settings.data, "import", name), lock_sources(settings.data, [name]):
        _check_feed(settings, name, feed)
        for part in parts:
            with part.present(incoming) as paths:
                if not part.is_here:
                    _check(paths, reader(options))
                writer = ImportWriter(settings, name, feed, wait)
                _import(settings, name, feed, paths, reader(options), writer)


def _import(
    settings: Config,
    name: str,
    feed: str,
    files: list[Path],
    captures: CaptureReader,
    writer: ImportWriter,
) -> None:
    status = Status(settings.data)
    status.mark()
    total = sum(path.stat().st_size for path in files)
    with LongProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    ) as progress:
        task = progress.add_task("importing", total=total, told="")
        frames, undecoded = 0, 0
        tally, held, failure = ChannelTally(feed), _letters(settings, name), None
        # What was there before is not this import's.
        before = 0 if held is None else held.position
        normalized = _normalized(settings, name)
        start = TapeReader(normalized).end if has_segments(normalized) else 0
        try:
            for captured, dead_letters, done in _ingest(
                settings, name, files, captures, tally, writer
            ):
                undecoded = dead_letters
                frames += captured
                progress.update(task, completed=done, told=f"{amount(frames)} frames")
        except (FeedError, ConfigError) as error:
            if isinstance(error, ConfigError) and not frames:
                raise
            failure = error
        progress.remove_task(task)
        progress.add_task("deriving and storing", total=None, told=f"{amount(frames)} frames")
        try:
            catch_up(settings, stalled_s=writer.wait_s)
        except (DiskFullError, SinkUnavailable) as error:
            if isinstance(error, SinkUnavailable) and error.lacks_input:
                raise
            raise type(error)(
                f"{error}; all {frames:,} frames of this import are on the tape of {name}, and not "
                "all is derived and stored: make room and run the same again"
            ) from None
    if failure is not None:
        told = f"{failure}; the {frames:,} frames before it are imported as {name}"
        raise type(failure)(told)
    # All bytes are kept, and of some channel nothing of what they hold is known.
    lost = tally.undecoded(_letters(settings, name, before)) if undecoded else {}
    # A frame of many events counts as undecoded where one of them could not be read.
    is_all = bool(frames) and undecoded >= frames
    is_all = is_all and not has_events(_normalized(settings, name), start)
    with ending_with(EXIT_INCOMPLETE if lost or is_all or captures.cuts else 0):
        _tell_frames(settings, status, name, frames)
        if writer.found:
            problems.print(f"{writer.found:,} frames were there already: left out")
        if writer.repeats:
            told = "events were there already, told by another file or answer: left out"
            problems.print(f"{writer.repeats:,} {told}")
        for told in [*captures.notes, *captures.cuts]:
            problems.print(told, style="red", markup=False, soft_wrap=True)
        _tell_clock(captures.doubts, writer.suspects)
        if undecoded:
            _tell_undecoded(settings, feed, undecoded, lost, is_all=is_all)


def _tell_undecoded(
    settings: Config,
    feed: str,
    undecoded: int,
    lost: Mapping[str, tuple[int, int, list[bytes]]],
    *,
    is_all: bool,
) -> None:
    told = "none of them could" if is_all else f"{undecoded:,} of them could not"
    problems.print(
        f"{told} be decoded as {feed}: see `tape dead-letters --data {settings.data}`",
        style="red",
        markup=False,
        soft_wrap=True,
    )
    for channel, (dead, count, samples) in lost.items():
        told = f"no frame of {count:,}" if dead == count else f"only {count - dead:,} of {count:,}"
        other = feed_that_decodes(samples)
        hint = f": is this a capture of {other}?" if other not in (None, feed) else ""
        problems.print(
            f"{told} of {channel} could be decoded as {feed}{hint}", style="red", soft_wrap=True
        )


def _tell_clock(steps: list[str], suspects: int) -> None:
    """Says which receive times are not those of the lines."""
    for told in steps[:STEPS_SHOWN]:
        problems.print(f"{told}: taken as a step of the clock", markup=False, soft_wrap=True)
    if len(steps) > STEPS_SHOWN:
        problems.print(f"and {len(steps) - STEPS_SHOWN:,} such steps more")
    if suspects:
        problems.print(
            f"frames whose receive time others contradict: {suspects:,}; they are stored with the "
            "time of their neighbours, and flagged as suspect",
            soft_wrap=True,
        )


def _tell_frames(settings: Config, status: Status, name: str, frames: int) -> None:
    plural = "" if frames == 1 else "s"
    told = f"imported {frames:,} frame{plural} into {settings.data} as {name}"
    console.print(told, markup=False)
    [source] = [one for one in status.sample().sources if one.name == name]
    gaps = "1 new gap" if source.new_gaps == 1 else f"{source.new_gaps:,} new gaps"
    told = f"{name}: this import: {gaps}; on tape in all: {raw_frames(source):,} frames"
    console.print(f"{told}, {gaps_text(source)}", markup=False, soft_wrap=True)


def _letters(settings: Config, name: str, offset: int | None = None) -> TapeReader | None:
    """Opens the dead letters of a source at `offset`, or else at their end."""
    tape = settings.data / "tape" / name / DEAD
    if not has_segments(tape):
        return None
    reader = TapeReader(tape)
    reader.seek(reader.end if offset is None else max(offset, reader.first))
    return reader


def _normalized(settings: Config, name: str) -> Path:
    return settings.data / "tape" / name / NORMALIZED


def _reader_of(feed: str) -> type[CaptureReader]:
    """Returns what reads the files of a feed of the core: lines, unless it has a reader of its own.

    Raises:
        ConfigError: there is no such feed; the message lists those that exist.
    """
    try:
        Decoder(feed)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    reader: type[CaptureReader] = Captures
    return load_member("capture", feed) if feed in MEMBERS["capture"] else reader


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ConfigError(f"expected --date as in 2019-01-30, got {text!r}") from None


def _check(files: list[Path], captures: CaptureReader) -> None:
    """Refuses what cannot be imported before there are any tapes of it."""
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise ConfigError(f"expected capture files; not there: {', '.join(missing)}")
    frames = (captured for path in files for captured in captures.read(path))
    try:
        # As many as are put onto the tapes at once: a bad line of theirs leaves no source behind.
        first = list(itertools.islice(frames, FLUSH_FRAMES))
    except FeedError as error:
        raise FeedError(f"{error}; nothing was imported") from None
    if not first:
        raise FeedError(f"expected frames, got none in {', '.join(map(str, files))}")


def _check_feed(settings: Config, name: str, feed: str) -> None:
    """Refuses frames of another feed than those that the source holds."""
    raw = settings.data / "tape" / name / RAW
    blobs = TapeReader(raw).read_blobs() if has_segments(raw) else None
    number = blobs[0].feed if blobs else numbers("feed")[feed]
    if number != numbers("feed")[feed]:
        known = {one: each for each, one in numbers("feed").items() if each != "foreign"}
        held = known.get(number, "a feed of your own")
        raise ConfigError(
            f"{name} in {settings.data} holds frames of {held}, not of {feed}: nothing was "
            "imported; import them as a source of their own (--source NAME), or into another "
            "folder (--data)"
        )


def _ingest(
    settings: Config,
    name: str,
    files: list[Path],
    captures: CaptureReader,
    tally: ChannelTally,
    writer: ImportWriter,
) -> Iterator[tuple[int, int, int]]:
    """Puts all frames onto the tapes.

    Yields now and then how many more, how many of all could not be decoded, and the bytes read.
    """
    raw = settings.data / "tape" / name / RAW
    if has_segments(raw):
        # What a loss of power left of its end is settled first.
        TapeWriter(raw, kind="blobs").close()
    ts, done, found, ts_found = 0, 0, 0, 0
    failure: FeedError | ConfigError | None = None
    with writer:
        try:
            for line, (before, path) in enumerate(_sizes(files)):
                held: Held | None = None
                for captured in captures.read(path):
                    if held is None:
                        # What this file repeats of those before it is found on the tape.
                        writer.flush()
                        held = Held(raw, name, captured.ts_recv)
                    if held.has(captured):
                        found, ts_found = found + 1, captured.ts_recv
                        continue
                    # Receipt never goes back on a tape; captures may overlap a little.
                    ts = max(ts, held.newest, captured.ts_recv)
                    done = before + captured.size
                    writer.receive(captured, ts, line % LINES)
                    tally.add(captured)
                    if writer.is_full:
                        writer.flush()
                    if writer.written:
                        yield writer.take_written(), writer.dead_letters, done
        except (FeedError, ConfigError) as error:
            # What is before it is imported all the same.
            failure = error
        writer.found = found
        if found:
            # What an import that was stopped left of them is normalized also where nothing is new.
            writer.open(ts_found)
        writer.end(ts)
        yield writer.take_written(), writer.dead_letters, done
        if failure is not None:
            raise failure


def _sizes(files: list[Path]) -> Iterator[tuple[int, Path]]:
    """Yields each file, and how many bytes those before it have."""
    before = 0
    for path in files:
        yield before, path
        before += path.stat().st_size
