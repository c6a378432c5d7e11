"""Kills at random instants, and what must still hold after them."""
