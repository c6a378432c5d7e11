"""The topics of a source: each is a tape of its own. They are names of folders and never change."""

import re

TOPIC = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
PREFIX = "market-data."
"""What all of them begin with; a processor of your own is given its topic so."""
RAW = "market-data.raw"
"""Every frame as it was received."""
NORMALIZED = "market-data.normalized"
"""What frames say, as records."""
BOOK = "market-data.book"
BARS = "market-data.bars"
TICKS = "market-data.ticks"
METRICS = "market-data.metrics"
"""What is measured, where the settings ask for it."""
ALERTS = "market-data.alerts"
"""What rules found, where the settings have any."""
GAPS = "market-data.gaps"
"""The ledger of what was lost."""
NEWS = "market-data.news"
"""What venues told of stories."""
DEAD = "market-data.dead"
"""Frames that could not be decoded."""
