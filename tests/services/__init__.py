"""Real servers for tests, campaigns and benchmarks: `base.py` says what holds of each."""

from .base import Service, ServiceUnavailable
from .kafka import KafkaService
from .postgres import PostgresService
from .redis import RedisService

__all__ = [
    "SERVICES",
    "KafkaService",
    "PostgresService",
    "RedisService",
    "Service",
    "ServiceUnavailable",
]

SERVICES: dict[str, type[Service]] = {
    service.NAME: service for service in (KafkaService, PostgresService, RedisService)
}
