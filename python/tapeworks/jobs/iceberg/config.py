"""The settings of the job `iceberg`."""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from tapeworks.addresses import secret_in
from tapeworks.config import check_url, redact
from tapeworks.errors import ConfigError
from tapeworks.jobs.base import WholeSourcesConfig
from tapeworks.lake import TABLES


@dataclass(frozen=True)
class IcebergConfig(WholeSourcesConfig):
    """Where the tables are, what is published, and what is kept of the past."""

    warehouse: str = ""
    """Folder, below that of the data unless it is absolute, or `s3://bucket/prefix`, of the tables;
    none: `iceberg/warehouse`."""
    catalog: str = ""
    """`sqlite:///FILE`, `postgresql://...`, or the `https://...` of a REST catalog; none: SQLite in
    `iceberg/catalog.db` of the data folder."""
    catalog_warehouse: str = ""
    """What a REST catalog calls the warehouse; none: by its address."""
    catalog_token: str = field(default="", metadata={"secret": True}, repr=False)
    """A token that a REST catalog lets in."""
    catalog_credential: str = field(default="", metadata={"secret": True}, repr=False)
    """`client:secret`, for which a REST catalog, or `catalog_oauth_url`, gives a token."""
    catalog_oauth_url: str = ""
    """Where tokens are given; none: the REST catalog gives them itself."""
    catalog_scope: str = ""
    """The scope of the token that is asked for; none: `catalog`."""
    namespace: str = "tapeworks"
    """The namespace of the tables in the catalog."""
    tables: tuple[str, ...] = ()
    """The tables of the lake that are published; none: all."""
    days: tuple[str, ...] = ()
    """Only these days, as 2026-11-20; none: all that are over."""
    partition: Literal["day", "hour"] = "day"
    """What the tables are cut by, as long as they are there: the day of their time, or its hour."""
    period: Literal["", "day", "hour"] = ""
    """What has to be over: a day, or an hour, with which its day is published as far as it is;
    none: what `partition` says."""
    grace_minutes: int = 15
    """A period that is over is waited for so long: the lake is to hold it."""
    now: bool = False
    """Publish all that the lake holds, also of a period that is not over."""
    replace_lost: bool = False
    """Replace what was published by what the lake has also where it lost rows; false: they stay."""
    every_minutes: int = 0
    """Publish again and again, so many minutes after the last time; 0: once, and end."""
    snapshots_days: int = 7
    """Snapshots of before so many days are forgotten; the newest stays."""
    orphans_hours: int = 72
    """Files that no snapshot names are deleted once they are so old."""
    upkeep: bool = True
    """Forget old snapshots and delete files that none names, after what was published."""
    batch_bytes: int = 4 << 30
    """A commit holds about so much: what was published before a crash is not copied again."""

    @property
    def has_rest_catalog(self) -> bool:
        """Whether the catalog is asked by REST."""
        return self.catalog.startswith(("http://", "https://"))

    @property
    def closes(self) -> str:
        """What has to be over."""
        return self.period or self.partition

    @property
    def is_by_hour(self) -> bool:
        """Whether the tables are cut by the hour."""
        return self.partition == "hour"

    def __post_init__(self) -> None:
        super().__post_init__()
        if refused := secret_in(self.warehouse):
            raise ConfigError(f"warehouse: {refused}")
        self._check_catalog()
        for table in self.tables:
            if table not in TABLES:
                raise ConfigError(f"tables: expected any of {', '.join(TABLES)}, got {table!r}")
        for day in self.days:
            try:
                date.fromisoformat(day)
            except ValueError:
                raise ConfigError(f"days: expected days as 2026-11-20, got {day!r}") from None
        bounds = {
            "grace_minutes": (0, 1_440),
            "every_minutes": (0, 10_080),
            "snapshots_days": (0, 36_500),
            "orphans_hours": (1, 87_600),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not self.namespace.isidentifier():
            raise ConfigError(
                f"namespace: expected letters, digits and '_', got {self.namespace!r}"
            )
        if self.batch_bytes < 1:
            raise ConfigError(f"batch_bytes: expected 1 or more, got {self.batch_bytes}")

    def _check_catalog(self) -> None:
        names = ("warehouse", "token", "credential", "oauth_url", "scope")
        given = [f"catalog_{name}" for name in names if getattr(self, f"catalog_{name}")]
        if given and not self.has_rest_catalog:
            raise ConfigError(
                f"{given[0]}: expected the https://... of a REST catalog in `catalog`, got "
                f"{redact(self.catalog) or 'none'}"
            )
        if self.catalog_token and self.catalog_credential:
            raise ConfigError("catalog_token: expected it or catalog_credential, got both")
        if self.catalog_oauth_url:
            check_url("catalog_oauth_url", self.catalog_oauth_url, ("http", "https"))
