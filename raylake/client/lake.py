"""A lake in a notebook or a program: ``raylake.connect(…)`` and its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from raylake.client.lake_table import Table
from raylake.client.rows import Source
from raylake.client.shown import Listing
from raylake.client.tables import is_table
from raylake.config import Pipeline, load
from raylake.config.addresses import check_name, normalise_table_address, table_path
from raylake.config.findings import Invalid, did_you_mean
from raylake.config.stores import StoreAccess, Stores, check_stores
from raylake.errors import ConfigError
from raylake.storage.access import also_use_stores
from raylake.storage.place import folders, place
from raylake.tables.errors import TableMissing
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
    tables: TableService | None = None,
) -> Lake:
    """A lake and its tables. Nothing is written, and nothing is asked of a cluster.

    Args:
        lake: The lake's folder or address: ``./lake``, ``s3://bucket/folder``.
        address: The Ray cluster that ``to_ray()`` uses, as ``ray.init`` takes it; None: the one
            that this process is connected to, that of ``RAY_ADDRESS``, or an embedded one.
        storage: How object stores are reached, as the section ``stores`` of a pipeline file; keys
            are references (``env:NAME``, ``file:/path``, ``profile:NAME``).
        engine: What writes: ``delta-rs``, ``spark``, or ``auto``, which decides for each operation.
        tables: What reads and writes tables; None: this process does, and tables that have an owner
            are left to it. On a Ray cluster ``actors.table_service.RayTables()`` works under the
            owners' slots.

    Raises:
        ConfigError: The address is none, or ``storage`` does not fit it.
    """
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
    return Lake(where, address, stores, tables=tables, engine=engine)


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


class Lake:
    """A lake: the tables that lie below one address. See :func:`connect`.

    Args:
        where: Its normalised address.
        address: The Ray cluster.
        stores: How object stores are reached.
        pipeline: Where tables lie that a pipeline file puts elsewhere.
        tables: What reads and writes them.
        engine: The engine that writes, or ``auto``.
    """

    def __init__(
        self,
        where: str,
        address: str | None = None,
        stores: Stores | None = None,
        pipeline: Pipeline | None = None,
        tables: TableService | None = None,
        engine: EngineChoice = "auto",
    ) -> None:
        also_use_stores(stores or {})
        self.where = where
        self._ray_address = address
        self._pipeline = pipeline
        self._tables: TableService = tables or DirectTables()
        self._engine: EngineChoice = engine

    @classmethod
    def from_pipeline(cls, file: str | Path, address: str | None = None) -> Lake:
        """The lake of a pipeline file, reached as its ``stores`` say.

        Args:
            file: The pipeline file.
            address: As for :func:`connect`.

        Raises:
            ConfigError: With every problem of the file.
        """
        config = load(Path(file)).config
        where = normalise_table_address(config.lake).rstrip("/")
        return cls(where, address, config.stores, config)

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
        source = Source(name, self._address_of(name), self._tables, self._engine, self._ray_address)
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
        return [f"bronze.{key}" for key, one in config.bronze.items() if not one.fans_out]

    def _address_of(self, name: str) -> str:
        if self._pipeline is not None and name in self._declared():
            return table_path(self._pipeline, name)
        layer, _, short = name.partition(".")
        return f"{self.where}/{layer}/{short}"


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
