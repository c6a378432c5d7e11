"""Rules of alerts over a tape as it is, with nothing written: what they would have told.

They see what they would have seen had they run from the start of the tape on.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeworks._core import Records, TapeReader
from tapeworks.processors.alerts import AlertRule, CoreSettings
from tapeworks.processors.base import Ending
from tapeworks.processors.own_alerts import ALERT, AlertsProcessor


def try_rules(
    settings: CoreSettings,
    own: Sequence[AlertRule],
    tape: Path,
    definitions: Records,
    batch_records: int,
    tell: Callable[[int, int], object] = lambda done, all_of_it: None,
    on_ending: Callable[[Ending], object] = lambda ending: None,
) -> Iterator[npt.NDArray[Any]]:
    """Yields the alerts that rules would have told of what `tape` holds now, in order.

    `definitions` are of the source: those at the start of the tape may be gone. A batch has up to
    `batch_records`, as where the rules run: what a call may take is of a batch. `tell` is called
    now and then with how many records were read, and of how many, `on_ending` where a rule of the
    user's own stops: the others go on. All of it is read: what happened
    before some time may have been received at any time since.

    Raises:
        TapeError: the tape cannot be read.
    """
    processor = AlertsProcessor(settings, own)
    reader = TapeReader(tape)
    first, last = reader.first, reader.end
    reader.seek(first)
    if first:
        processor.define(definitions)
    while reader.position < last and (batch := reader.read(batch_records)) is not None:
        made = np.frombuffer(memoryview(processor.process(batch)), ALERT)
        for ending in processor.take_endings():
            on_ending(ending)
        if len(made):
            yield made
        tell(min(reader.position, last) - first, last - first)
