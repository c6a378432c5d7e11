"""The job of Flink against the local workers: what `scripts/flink` runs."""
