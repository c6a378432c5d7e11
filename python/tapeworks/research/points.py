"""Events as points in time: self-exciting intensities and averaged rates."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeworks import _core
from tapeworks.errors import QueryError
from tapeworks.research.arrays import Floats, floats, rising


@dataclass(frozen=True)
class Hawkes:
    """A Hawkes process with one exponential kernel: `mu + alpha beta S(t)`."""

    mu: float
    """Events a second that no event excites."""
    alpha: float
    """Events that each event excites."""
    beta: float
    """Decay, a second."""

    def intensity(self, times: npt.ArrayLike, probes: npt.ArrayLike) -> Floats:
        """Returns the intensity just before each of `probes`, in events a second."""
        at = floats("probes", probes)
        rising("probes", at)
        found, *_ = _core.hawkes_path(_distinct(times), 0.0, self._parameters, at)
        return np.array(found)

    def log_likelihood(self, times: npt.ArrayLike, end: float) -> float:
        """Returns the log-likelihood of events from 0 to `end`, in nats."""
        return _core.hawkes_path(_distinct(times), end, self._parameters, np.zeros(0))[1]

    def compensator(self, times: npt.ArrayLike, end: float) -> float:
        """Returns the events that were expected from 0 to `end`."""
        return _core.hawkes_path(_distinct(times), end, self._parameters, np.zeros(0))[2]

    def residuals(self, times: npt.ArrayLike) -> Floats:
        """Returns what was expected between events: exponential, mean 1, if the model is right."""
        return np.array(_core.hawkes_path(_distinct(times), 0.0, self._parameters, np.zeros(0))[3])

    @property
    def _parameters(self) -> tuple[float, float, float]:
        return self.mu, self.alpha, self.beta


def hawkes(times: npt.ArrayLike, end: float) -> Hawkes:
    """Returns the process of the largest likelihood; times are seconds since the start.

    Raises:
        QueryError: fewer than 10 events, times that do not rise, or an end before the last.
    """
    found = _core.hawkes_fit(_distinct(times), end)
    if found is None:
        raise QueryError("expected 10 events or more, and an end behind the last")
    return Hawkes(*found)


def ewma_rate(times: npt.ArrayLike, tau: float, probes: npt.ArrayLike) -> Floats:
    """Returns the rate of events, averaged exponentially over `tau` seconds, at each probe."""
    events, at = floats("times", times), floats("probes", probes)
    rising("times", events)
    rising("probes", at)
    return np.array(_core.ewma_rate(events, tau, at))


def _distinct(times: npt.ArrayLike) -> Floats:
    found = floats("times", times)
    rising("times", found, strictly=True)
    return found
