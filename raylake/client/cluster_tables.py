"""Tables under the slots of their owners, on a Ray cluster that is joined when it is needed.

What does the work lies in ``actors``, which this package does not import: it is found by its name
when it is first asked for, in an installation, a source tree and the package of a submitted job
alike (docs/adr/0035).
"""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from raylake.client.cluster import join
from raylake.config.spark import Spark
from raylake.errors import ConfigError
from raylake.tables.alongside import Alongside
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult
from raylake.tables.routing import EngineChoice, Route
from raylake.tables.service import DirectTables, TableService

SERVICE: Final = "actors.table_connection"
"""The module whose ``on_cluster`` makes the service."""


class ClusterTables(DirectTables):
    """:class:`~raylake.tables.service.TableService` that reads here and writes on a cluster.

    Args:
        address: The cluster, as ``ray.init`` takes it; None: that of ``RAY_ADDRESS``, or an
            embedded one.
        spark: What its Spark host is started with, where there is none yet.
    """

    def __init__(self, address: str | None, spark: Spark | None = None) -> None:
        super().__init__()
        self._address = address
        self._spark = spark or Spark()
        self._service: TableService | None = None
        self._making = threading.Lock()

    def execute(
        self,
        table: str,
        operation: Write,
        *,
        engine: EngineChoice = "auto",
        alongside: Alongside | None = None,
    ) -> OperationResult:
        """See :meth:`~raylake.tables.service.TableService.execute`.

        Raises:
            ConfigError: The address is no driver's, or this installation lacks what does it.
            DependencyUnreachable: No Ray cluster answers.
        """
        service = self._joined()
        return service.execute(table, operation, engine=engine, alongside=alongside)

    def explain(self, table: str, operation: Write, *, engine: EngineChoice = "auto") -> Route:
        """See :meth:`~raylake.tables.service.TableService.explain`; raises as :meth:`execute`."""
        return self._joined().explain(table, operation, engine=engine)

    def _joined(self) -> TableService:
        with self._making:
            join(self._address)
            if self._service is None:
                self._service = load_actors(SERVICE).on_cluster(self._spark)
            return self._service


def load_actors(module: str) -> Any:
    """A module of the package ``actors``, by its name.

    Raises:
        ConfigError: This installation lacks it.
    """
    with suppress(ImportError):
        # Before `actors`, which otherwise lets pyarrow find no pandas: this is the user's process.
        import_module("pandas")
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this installation cannot work with tables on a Ray cluster: {error}",
            hint="install RayLake whole (`pip install raylake`): the package `actors` comes with "
            "it; without an address this process works with tables itself",
        ) from error
