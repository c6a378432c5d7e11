"""Real servers for tests, campaigns and benchmarks: `base.py` says what holds of each."""

from .base import Service, ServiceUnavailable
from .clickhouse import ClickHouseService
from .iceberg_rest import IcebergRestService
from .kafka import KafkaService
from .postgres import PostgresService
from .questdb import QuestDBService
from .redis import RedisService
from .registry import RegistryService
from .s3 import S3Service

__all__ = [
    "SERVICES",
    "ClickHouseService",
    "IcebergRestService",
    "KafkaService",
    "PostgresService",
    "QuestDBService",
    "RedisService",
    "RegistryService",
    "S3Service",
    "Service",
    "ServiceUnavailable",
]

SERVICES: dict[str, type[Service]] = {
    service.NAME: service
    for service in (
        *(ClickHouseService, IcebergRestService, KafkaService, PostgresService),
        *(QuestDBService, RedisService, RegistryService, S3Service),
    )
}
