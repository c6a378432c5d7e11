"""LOBSTER: message files of a stock and day, rebuilt from NASDAQ ITCH."""
