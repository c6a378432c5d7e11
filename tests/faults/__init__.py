"""Faults of every venue, and what the recorder made of them."""
