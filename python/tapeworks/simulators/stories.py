"""Stories that a simulated venue tells: they follow from a seed, and some are corrected later."""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tapeworks.simulators.source import NS_PER_S

EVERY_NS = 2 * NS_PER_S
"""A story is made so often."""
CORRECTED_NS = 3 * NS_PER_S
"""So long after it was made a story is corrected: the first is, and each third one."""
TOLD = ("beats estimates", "names a new chief", '"recalls" its product', "opens a plant in Zürich")


@dataclass(frozen=True)
class Story:
    """What is told of a story at one time. Times in ns, of whole seconds."""

    number: int
    headline: str
    symbols: tuple[str, ...]
    created: int
    updated: int

    @property
    def url(self) -> str:
        """Where it could be read."""
        return f"https://news.example/{self.number}"

    def is_of(self, symbols: Collection[str]) -> bool:
        """Whether it is about one of `symbols`; about all are those of none."""
        return not symbols or not set(symbols).isdisjoint(self.symbols)


class Stories:
    """All stories of a market that opens at `start_ns`."""

    def __init__(self, symbols: Sequence[str], seed: int, start_ns: int) -> None:
        self._symbols = list(symbols)
        self._seed = seed
        self._start_ns = start_ns - start_ns % NS_PER_S

    def told(self, after: int, until: int) -> list[Story]:
        """Returns all that is told behind `after` and up to `until`, in order."""
        found = [one for one in self._all(until) if after < one.updated <= until]
        return sorted(found, key=lambda one: (one.updated, one.number))

    def latest(self, until: int) -> list[Story]:
        """Returns each story as it was told last at `until`, by the time of that."""
        newest = {one.number: one for one in self.told(0, until)}
        return sorted(newest.values(), key=lambda one: (one.updated, one.number))

    def _all(self, until: int) -> Iterator[Story]:
        number, made = 1, self._start_ns + EVERY_NS
        while made <= until:
            chance = random.Random(self._seed * 1_000_003 + number)
            # Some are about nothing that is traded, some about two.
            symbols = tuple(chance.sample(self._symbols, min(number % 3, len(self._symbols))))
            headline = f"{' and '.join(symbols) or 'The market'} {chance.choice(TOLD)}"
            yield Story(number, headline, symbols, made, made)
            if number % 3 == 0 or number == 1:
                yield Story(number, f"{headline} (corrected)", symbols, made, made + CORRECTED_NS)
            number, made = number + 1, made + EVERY_NS
