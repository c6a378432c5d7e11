"""Binance: spot and USD-M futures."""

from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.binance.session import BinanceFeed

__all__ = ["BinanceConfig", "BinanceFeed"]
