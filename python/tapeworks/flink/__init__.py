"""The processors as a job of Apache Flink: its settings, its jar, and a local cluster."""
