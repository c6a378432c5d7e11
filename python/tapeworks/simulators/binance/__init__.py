"""Binance on loopback: its WebSocket streams and its REST interface, with faults on demand."""
