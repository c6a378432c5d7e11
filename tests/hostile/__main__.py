"""Runs the hostile venue in one mode: `python -m tests.hostile MODE SEED`."""

import asyncio
import sys

from tests.hostile.array_venue import ArrayVenue
from tests.hostile.modes import MODES
from tests.hostile.venue import Venue, serve

mode, seed = MODES[sys.argv[1]], int(sys.argv[2])
asyncio.run(serve((ArrayVenue if mode.dialect else Venue)(mode, seed)))
