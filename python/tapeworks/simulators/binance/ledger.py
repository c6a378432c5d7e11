"""From the oracle's report to what a perfect recorder's gap ledger holds.

A recorder sees a loss only through ids: the last one it was given before, and the first one after.
So neighbouring losses of one stream are one gap, whatever caused each. A loss at the very end of a
run has no "after": no recorder can know of it yet, and none is expected to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CHANNELS = {"trade": "trade", "aggTrade": "agg_trade", "depth": "depth"}


@dataclass(frozen=True)
class ExpectedGap:
    """A range of ids of one stream that nobody was given."""

    symbol: str
    channel: str
    """By the core's name."""
    first: int
    """The id after the last one that was given before."""
    last: int
    """The last missing id: a recorder reads it from the next event."""
    frames: int
    """How many frames were withheld; 0 where the venue skipped ids."""
    causes: tuple[str, ...]
    ts_first: int
    ts_last: int


@dataclass(frozen=True)
class Outage:
    """A time in which no connection carried a stream, by the simulated clock."""

    stream: str
    begin_ns: int
    end_ns: int | None


def channel_of(stream: str) -> str | None:
    """Returns the core's name of a stream's channel, if losses on it show in its ids."""
    return CHANNELS.get(stream.partition("@")[2].partition("@")[0])


def expected_gaps(report: Mapping[str, Any]) -> list[ExpectedGap]:
    """Returns the sequence gaps that the ledger holds after a run, in order of time."""
    runs: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for loss in report["losses"]:
        if channel_of(loss["stream"]) and loss["before"] is not None:
            runs.setdefault((loss["stream"], loss["before"]), []).append(loss)
    gaps = [_merge(stream, before, losses) for (stream, before), losses in runs.items()]
    return sorted((gap for gap in gaps if gap), key=lambda gap: (gap.ts_first, gap.channel))


def _merge(stream: str, before: int, losses: list[Mapping[str, Any]]) -> ExpectedGap | None:
    after = losses[-1]["after"]
    channel = channel_of(stream)
    if after is None or channel is None:
        return None
    # Ids of futures books jump: the event after names the last one of the event before.
    last = losses[-1]["last"] if channel == "depth" else after - 1
    return ExpectedGap(
        symbol=stream.partition("@")[0].upper(),
        channel=channel,
        first=before + 1,
        last=last,
        frames=sum(loss["count"] for loss in losses if loss["cause"] != "skipped"),
        causes=tuple(dict.fromkeys(loss["cause"] for loss in losses)),
        ts_first=losses[0]["ts_first"],
        ts_last=losses[-1]["ts_last"],
    )


def outages(report: Mapping[str, Any]) -> list[Outage]:
    """Returns when streams were carried by no connection, after each had been once."""
    times: dict[str, list[tuple[int, int | None]]] = {}
    for link in report["connections"]:
        for stream in link["streams"]:
            times.setdefault(stream, []).append((link["opened_ns"], link["closed_ns"]))
    return sorted(
        (outage for stream, spans in times.items() for outage in _holes(stream, spans)),
        key=lambda outage: (outage.begin_ns, outage.stream),
    )


def _holes(stream: str, spans: Iterable[tuple[int, int | None]]) -> Iterable[Outage]:
    reach: int | None = 0
    for opened, closed in sorted(spans, key=lambda span: span[0]):
        if reach is None:
            return
        if reach and opened >= reach:
            yield Outage(stream, reach, opened)
        reach = None if closed is None else max(reach, closed)
    if reach is not None:
        yield Outage(stream, reach, None)
