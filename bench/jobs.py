"""The table of benchmark jobs: what is measured, against whom, and what we promise."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """One figure of a job. `target` is ours; None where we promise nothing."""

    name: str
    label: str
    unit: str
    higher: bool = True
    target: float | None = None


@dataclass(frozen=True)
class Contender:
    """A command that prints one line of JSON. Its words may use {python} {peers} {data} {built}."""

    name: str
    command: tuple[str, ...]
    ours: bool = False


@dataclass(frozen=True)
class Job:
    """Contenders that do the same work on the same input."""

    name: str
    about: str
    metrics: tuple[Metric, ...]
    contenders: tuple[Contender, ...]
    seconds: int = 300

    def ours_only(self) -> "Job":
        """The job without peers and without targets: does it run?"""
        metrics = tuple(replace(metric, target=None) for metric in self.metrics)
        ours = tuple(c for c in self.contenders if c.ours)
        return replace(self, contenders=ours, metrics=metrics)


def _ours(name: str, *command: str) -> Contender:
    return Contender(name, command, ours=True)


def _decode(name: str, about: str, file: str, target: float) -> Job:
    frames = "{data}/" + file
    return Job(
        name,
        about,
        (Metric("value", "decode", "msg/s", target=target),),
        (
            _ours("tapeworks", "{python}", "ours/decode.py", frames),
            Contender("simdjson, parsing only", ("peers/parse_simdjson", frames)),
            Contender("msgspec, exact", ("{peers}", "peers/decode_msgspec.py", frames, "exact")),
            Contender("msgspec, float", ("{peers}", "peers/decode_msgspec.py", frames, "float")),
            Contender("orjson, exact", ("{peers}", "peers/decode_orjson.py", frames)),
            Contender(
                "cryptofeed, with its books",
                (
                    "{peers}",
                    "peers/decode_cryptofeed.py",
                    frames,
                    "{data}/binance_snapshots.json",
                ),
            ),
        ),
    )


JOBS = (
    _decode("decode", "Binance mix, bytes to records, one core", "binance.jsonl", 3e6),
    _decode("depth", "Binance depthUpdate alone, one core", "depth.jsonl", 1e6),
    Job(
        "book",
        "L2 updates at 5,000 levels a side, and the top 10 of both sides",
        (
            Metric("update_ns", "a level", "ns", higher=False, target=12),
            Metric("top10_ns", "top 10", "ns", higher=False, target=100),
        ),
        (
            _ours("tapeworks", "{python}", "ours/book.py", "{data}/book_5000.bin"),
            *(
                Contender(name, ("{peers}", f"peers/book_{name}.py", "{data}/book_5000.bin"))
                for name in ("hftbacktest", "nautilus", "order_book", "sorted_dict")
            ),
        ),
    ),
)
