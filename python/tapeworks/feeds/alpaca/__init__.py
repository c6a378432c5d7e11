"""Alpaca: US stocks, options, crypto with its books, and news."""

from tapeworks.feeds.alpaca.config import AlpacaConfig

__all__ = ["AlpacaConfig"]
