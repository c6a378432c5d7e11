"""Scores the rules of surveillance on a stream of orders whose episodes are known."""
