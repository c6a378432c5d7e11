"""Catalogs of pyiceberg that several machines share.

Two that start at once make the tables of a SQL catalog once; a REST catalog may be silent: no
request to it waits for longer than one to an object store does.
"""

from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.utils.config import Config
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from tapeworks.jobs.iceberg.config import IcebergConfig
from tapeworks.object_store import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S

CATALOG_NAME = "tapeworks"
TOKENS = "v1/oauth/tokens"


class SharedSqlCatalog(SqlCatalog):
    """A catalog in a database that another process may just be making."""

    def create_tables(self) -> None:
        """Makes the tables of the catalog that are not there."""
        try:
            super().create_tables()
        except (IntegrityError, OperationalError, ProgrammingError):
            # The other one made them since it was looked whether they are there.
            super().create_tables()


class BoundedRestCatalog(RestCatalog):
    """Asks as pyiceberg does, with a limit to each connection and answer."""

    def _config_headers(self, session: Session) -> None:
        # The first that is done to a session: what asks for a token is bounded, too.
        for scheme in ("http://", "https://"):
            session.mount(scheme, _BoundedAdapter())
        super()._config_headers(session)


class _BoundedAdapter(HTTPAdapter):
    def send(self, request: PreparedRequest, *args: Any, **settings: Any) -> Response:
        """Sends a request that ends within the limits."""
        settings["timeout"] = settings.get("timeout") or (CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S)
        return super().send(request, *args, **settings)


def make_catalog(config: IcebergConfig, uri: str, properties: dict[str, str]) -> Catalog:
    """Opens the catalog at `uri`, which the settings name, with `properties` of pyiceberg.

    What pyiceberg's own environment and file say of it holds, unless the settings say otherwise.

    Raises:
        ModuleNotFoundError: a driver is missing.
        OSError and others of pyiceberg: it does not answer.
    """
    known: dict[str, Any] = {
        **(Config().get_catalog_config(CATALOG_NAME) or {}),
        **properties,
        "uri": uri,
    }
    if not config.has_rest_catalog:
        return SharedSqlCatalog(CATALOG_NAME, **known)
    own = {
        "warehouse": config.catalog_warehouse,
        "token": config.catalog_token,
        "credential": config.catalog_credential,
        "scope": config.catalog_scope,
        "oauth2-server-uri": config.catalog_oauth_url,
    }
    known |= {name: value for name, value in own.items() if value}
    known.setdefault("oauth2-server-uri", f"{uri.rstrip('/')}/{TOKENS}")
    return BoundedRestCatalog(CATALOG_NAME, **known)
