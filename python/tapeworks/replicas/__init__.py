"""Topics of Kafka and streams of Redis, read as tapes on another machine."""
