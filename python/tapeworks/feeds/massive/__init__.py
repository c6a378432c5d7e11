"""Massive, formerly Polygon.io: stocks, options, crypto, forex, indices and futures."""

from tapeworks.feeds.massive.config import MassiveConfig

__all__ = ["MassiveConfig"]
