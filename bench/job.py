"""What a benchmark job is made of: figures, who works for them, and what we promise of each."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """One figure of a job. `target` is ours; None where we promise nothing."""

    name: str
    label: str
    unit: str
    higher: bool = True
    target: float | None = None


def waits(name: str, parts: str) -> tuple[Metric, ...]:
    """Returns the metrics `<name>_<part>_ms`, of which less is better."""
    return tuple(
        Metric(f"{name}_{part}_ms", f"{name}, {part}", "ms", higher=False) for part in parts.split()
    )


@dataclass(frozen=True)
class Contender:
    """A command that prints one line of JSON. Its words may use {python} {peers} {data} {scale}."""

    name: str
    command: tuple[str, ...]
    ours: bool = False


@dataclass(frozen=True)
class Ratio:
    """How many times as good as a peer's figure ours has to be."""

    metric: str
    peer: str
    least: float


@dataclass(frozen=True)
class Job:
    """Contenders that do the same work on the same input. `setup` runs once, before them."""

    name: str
    about: str
    metrics: tuple[Metric, ...]
    contenders: tuple[Contender, ...]
    ratios: tuple[Ratio, ...] = ()
    setup: tuple[str, ...] = ()
    seconds: int = 600
    rounds_max: int = 99

    def ours_only(self) -> "Job":
        """The job without peers and without targets: does it run?"""
        metrics = tuple(replace(metric, target=None) for metric in self.metrics)
        ours = tuple(c for c in self.contenders if c.ours)
        return replace(self, contenders=ours, metrics=metrics, ratios=())
