"""A lake in a notebook or a program: ``raylake.connect(…)`` and its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from raylake.client.cluster_tables import ClusterTables
from raylake.client.held_rows import HELD_COLUMNS, HeldRows
from raylake.client.lake_runs import LakeRuns
from raylake.client.lake_table import Table
from raylake.client.letters_of_lake import DeadLetters, dead_letters_of
from raylake.client.quality import Line, found_in, histories
from raylake.client.quarantine import Asked, Held, Replayed, Service, held_rows, replay_rows
from raylake.client.rows import Source
from raylake.client.shown import Listing
from raylake.config import Pipeline, load
from raylake.config.addresses import check_name, normalise_table_address, table_path
from raylake.config.findings import Invalid, did_you_mean
from raylake.config.spark import Spark
from raylake.config.stores import StoreAccess, Stores, check_stores
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError
from raylake.storage.access import also_use_stores
from raylake.storage.place import folders, place
from raylake.tables.errors import TableMissing
from raylake.tables.held_versions import HeldVersion
from raylake.tables.service import DirectTables, EngineChoice, TableService

READERS: Final = "_raylake/readers"
_OURS: Final = re.compile(r"[_.]")
"""What begins like this in a lake is no layer."""


def connect(
    lake: str | Path,
    address: str | None = None,
    *,
    storage: Mapping[str, Mapping[str, Any]] | None = None,
    engine: EngineChoice = "auto",
    spark: Mapping[str, Any] | None = None,
    tables: TableService | None = None,
    hot_bytes: int | None = None,
) -> Lake:
    """A lake and its tables. Nothing is written, and nothing is asked of a cluster yet.

    Args:
        lake: The lake's folder or address: ``./lake``, ``s3://bucket/folder``.
        address: A Ray cluster, as ``ray.init`` takes it (``auto``, ``head:6379``), which this
            process joins when it first needs it. Tables are written there, under their owners'
            slots, and ``to_ray()`` reads there. None: this process writes itself, and tables that
            have an owner are left to it; ``to_ray()`` takes the cluster that this process is
            connected to, that of ``RAY_ADDRESS``, or an embedded one.
        storage: How object stores are reached, as the section ``stores`` of a pipeline file; keys
            are references (``env:NAME``, ``file:/path``, ``profile:NAME``).
        engine: What writes: ``delta-rs``, ``spark``, or ``auto``, which decides for each operation.
        spark: Executors and memory of Spark on the cluster, as the section ``spark`` of a pipeline
            file; a Spark host that is there keeps its own.
        tables: Another service that reads and writes tables; None: as ``address`` says.
        hot_bytes: How much of the cluster's object store versions of this lake's tables may take
            (:meth:`Table.hold`), from this client's next ``hold`` on; None: what it was, or a
            quarter of a node's store.

    Raises:
        ConfigError: The address is none, ``storage`` does not fit it, or ``spark`` or ``hot_bytes``
            is wrong.
    """
    if hot_bytes is not None and hot_bytes < 1:
        raise ConfigError(f"hot_bytes: {hot_bytes} is no size", hint="give bytes: 2 * 1024**3")
    if tables is None and address is not None:
        tables = ClusterTables(address, _spark(spark or {}))
    try:
        where = normalise_table_address(str(lake)).rstrip("/")
        stores = check_stores(
            {name: StoreAccess.model_validate(dict(one)) for name, one in (storage or {}).items()}
        )
    except Invalid as error:
        found = error.findings[0]
        raise ConfigError(f"{lake}: {found.message}", hint=found.hint) from None
    except ValidationError as error:
        # The whole error would print what was given: a key in clear, where it should be named.
        first = error.errors(include_input=False, include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"storage: {at}: {first['msg']}", hint="see `stores` in the README"
        ) from None
    return Lake(where, address, stores, tables=tables, engine=engine, hot_bytes=hot_bytes)


def _spark(settings: Mapping[str, Any]) -> Spark:
    try:
        return Spark.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        at = ".".join(("spark", *(str(part) for part in first["loc"])))
        raise ConfigError(f"{at}: {first['msg']}", hint="see `spark` in the README") from None


def table_at(address: str | Path) -> Table:
    """A table by its address alone; whether it is there is asked when it is used.

    Raises:
        ConfigError: The address is none.
    """
    try:
        root = place(normalise_table_address(str(address)))
    except Invalid as error:
        found = error.findings[0]
        raise ConfigError(f"{address}: {found.message}", hint=found.hint) from None
    name = f"{root.parent.name}.{root.name}"
    readers = root.parent.parent / "_raylake" / "readers" / name
    return Table(Source(name, str(root), DirectTables()), readers)


class Lake(LakeRuns):
    """A lake: the tables that lie below one address. See :func:`connect`.

    Args:
        where: Its normalised address.
        address: The Ray cluster; None: none is used for tables.
        stores: How object stores are reached.
        pipeline: Where tables lie that a pipeline file puts elsewhere, and its Spark.
        tables: What reads and writes them; None: as ``address`` says.
        engine: The engine that writes, or ``auto``.
        hot_bytes: As for :func:`connect`.
    """

    def __init__(
        self,
        where: str,
        address: str | None = None,
        stores: Stores | None = None,
        pipeline: Pipeline | None = None,
        tables: TableService | None = None,
        engine: EngineChoice = "auto",
        hot_bytes: int | None = None,
    ) -> None:
        also_use_stores(stores or {})
        super().__init__(where, address)
        self._pipeline = pipeline
        self._tables: TableService = tables or _service(address, pipeline)
        self._engine: EngineChoice = engine
        self._held = HeldRows(where, address, hot_bytes)

    @classmethod
    def from_pipeline(cls, file: str | Path, address: str | None = None) -> Lake:
        """The lake of a pipeline file, reached as its ``stores`` say, by its ``engine``.

        Args:
            file: The pipeline file.
            address: As for :func:`connect`.

        Raises:
            ConfigError: With every problem of the file.
        """
        config = load(Path(file)).config
        where = normalise_table_address(config.lake).rstrip("/")
        return cls(where, address, config.stores, config, engine=config.engine)

    def table(self, name: str) -> Table:
        """A table by its name; whether it is there is asked when it is used.

        Args:
            name: ``layer.name``, such as ``silver.orders``.

        Raises:
            ConfigError: It is no table's name.
        """
        try:
            _check(name)
        except Invalid as error:
            found = error.findings[0]
            raise ConfigError(found.message, hint=found.hint) from None
        source = Source(
            name, self._address_of(name), self._tables, self._engine, self._ray_address, self._held
        )
        return Table(source, place(f"{self.where}/{READERS}/{name}"))

    def tables(self, layer: str | None = None) -> Listing[Table]:
        """The tables that are there, by name.

        Args:
            layer: Only this layer's.
        """
        found = {}
        for folder in folders(place(self.where)):
            if _OURS.match(folder.name) or layer not in (None, folder.name):
                continue
            for one in folders(folder):
                if is_table(str(one)):
                    found[f"{folder.name}.{one.name}"] = str(one)
        for name in self._declared():
            path = self._address_of(name)
            if layer in (None, name.partition(".")[0]) and is_table(path):
                found[name] = path
        names = sorted(name for name in found if _is_name(name))
        return Listing(f"tables of {self.where}", map(self.table, names), ("name", "address"))

    def require(self, name: str) -> Table:
        """A table that is there.

        Raises:
            TableMissing: It is not; names the one that may be meant.
            ConfigError: It is no table's name.
        """
        found = self.table(name)
        if not is_table(found.address):
            known = [one.name for one in self.tables()]
            raise TableMissing(
                f"there is no table {name} in {self.where}",
                hint=did_you_mean(name, known) if known else "the lake has no table yet",
                path=found.address,
            )
        return found

    def quality(self, table: str | None = None, *, last: int = 1) -> Listing[Line]:
        """What rules and categories found of derived tables: what failed, then what passed.

        Args:
            table: Of this table (``layer.name``) only.
            last: Of each rule and category so many results, the newest ones.
        """
        return found_in(histories(self.where), table, last)

    def quarantine(self, table: str | None = None, where: str | None = None) -> Listing[Held]:
        """Rows that are open in the quarantine of the pipeline, the newest first.

        Args:
            table: Of this table (``layer.name``) only.
            where: A condition on the quarantine's columns, such as ``rule = 'range(amount)'``.

        Raises:
            ConfigError: The lake is not a pipeline file's.
            TableError: It is no condition on these columns.
        """
        return held_rows(self._of_a_file(), table, where)

    def replay(self, table: str, where: str | None = None, *, preview: bool = False) -> Replayed:
        """Quarantined rows once more through today's rules into their table, once.

        Beside a run that brings the table up to date, that one does it.

        Args:
            table: ``layer.name``.
            where: A condition on the quarantine's columns; None: all that is open of the table.
            preview: Only say what would happen; nothing is changed.

        Raises:
            ConfigError: The lake is not a pipeline file's, or has no such table.
            RayLakeError: Why it cannot be done.
        """
        by = Service(self._ray_address, self._tables if self._ray_address else None)
        return replay_rows(self._of_a_file(), table, Asked(where, preview), by)

    def _of_a_file(self) -> Pipeline:
        if self._pipeline is None:
            raise ConfigError(
                "a quarantine is a pipeline's, and this lake was opened without its file",
                hint="Lake.from_pipeline('orders.yaml')",
            )
        return self._pipeline

    def dead_letters(self, pipeline: str | Path) -> DeadLetters:
        """The dead letters of a pipeline, to be counted, read, previewed and replayed.

        Args:
            pipeline: Its file; or its name, and then the file that its newest run was started with.

        Raises:
            ConfigError: There is no such file, or no run of that name has been in this lake.
        """
        return dead_letters_of(place(self.where), pipeline)

    def held(self) -> Listing[HeldVersion]:
        """What the cluster holds in its object store, the least recently used first.

        Raises:
            HoldingNeedsCluster: The lake has no cluster.
            DependencyUnreachable: It does not answer.
        """
        found = self._held.held()
        return Listing(f"held versions of {self.where}", found, HELD_COLUMNS)

    def release_all(self) -> None:
        """Let go of all that is held of this lake, whoever holds it; raises as :meth:`held`."""
        self._held.end()

    def __repr__(self) -> str:
        return f"<lake {self.where}>"

    def __rich__(self) -> Any:
        """The tables, for a terminal."""
        return self.tables().__rich__()

    def _repr_html_(self) -> str:
        return self.tables()._repr_html_()

    def _declared(self) -> list[str]:
        config = self._pipeline
        if config is None:
            return []
        bronze = [f"bronze.{key}" for key, one in config.bronze.items() if not one.fans_out]
        silver = [f"silver.{key}" for key in config.silver]
        return [*bronze, *silver, *(f"gold.{key}" for key in config.gold)]

    def _address_of(self, name: str) -> str:
        if self._pipeline is not None and name in self._declared():
            return table_path(self._pipeline, name)
        layer, _, short = name.partition(".")
        return f"{self.where}/{layer}/{short}"


def _service(address: str | None, pipeline: Pipeline | None) -> TableService:
    if address is None:
        return DirectTables()
    return ClusterTables(address, None if pipeline is None else pipeline.spark)


def _check(name: str) -> None:
    """Refuse what is no table's name.

    Raises:
        Invalid: It is none.
    """
    layer, dot, short = name.partition(".")
    if not dot:
        raise Invalid(f"{name!r} is not a table's name", "write layer.name: silver.orders")
    check_name(layer, "a layer's name")
    check_name(short, "a table's name")
    if _OURS.match(layer):
        raise Invalid(f"{layer!r} is not a layer", "bronze, silver, gold, …")


def _is_name(name: str) -> bool:
    try:
        _check(name)
    except Invalid:
        return False
    return True
