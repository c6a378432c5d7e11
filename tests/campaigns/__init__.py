"""Campaigns: long random runs against an oracle, one file each, run by `scripts/campaign`."""
