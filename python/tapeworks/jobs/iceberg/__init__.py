"""Publishing the lake to Apache Iceberg tables."""
