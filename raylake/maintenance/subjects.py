"""The tables that upkeep is about, each with its policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raylake.client.lake import Lake, connect, table_at
from raylake.config import Pipeline, load
from raylake.config.addresses import normalise_table_address
from raylake.delta.tables_there import is_table
from raylake.errors import ConfigError
from raylake.maintenance.kept_state import kept_at
from raylake.maintenance.policy import Policy, policy_of
from raylake.near import did_you_mean
from raylake.storage.place import Place, place
from raylake.tables.versions import missing


@dataclass(frozen=True, slots=True)
class Subject:
    """A table that is looked after.

    Attributes:
        name: ``layer.name``.
        address: Where it lies.
        policy: What is due when, and how much it may take.
        at: Where its state is kept; None: a table outside of a lake leaves nothing behind.
        lake: The lake's address, where its history is kept; empty: it is in none.
    """

    name: str
    address: str
    policy: Policy
    at: Place | None
    lake: str = ""


def of_target(target: str) -> list[Subject]:
    """The tables that a command line means: a pipeline file's, a lake's, or one by its address.

    Raises:
        ConfigError: The pipeline file is wrong.
        TableMissing: There is no table.
    """
    if Path(target).is_file():
        return of_file(Path(target))
    single = table_at(target)
    if is_table(single.address):
        return [Subject(single.name, single.address, Policy(), None)]
    lake = connect(target)
    found = _of_lake(lake)
    if not found:
        raise missing(single.address)
    return found


def of_file(file: Path) -> list[Subject]:
    """The tables of a pipeline file that are there, by its policies.

    Raises:
        ConfigError: The file is wrong.
    """
    return of_pipeline(load(file).config)


def of_pipeline(config: Pipeline) -> list[Subject]:
    """The tables of a pipeline that are there, by its policies."""
    where = normalise_table_address(config.lake).rstrip("/")
    found = []
    for one in _of_lake(Lake(where, None, config.stores, config)):
        layer, _, short = one.name.partition(".")
        section: Mapping[str, Any] = getattr(config, layer, {})
        if short in section or (layer == "bronze" and _fans_out(config)):
            columns = getattr(section.get(short), "zorder_by", ())
            policy = policy_of(config.maintenance, one.name, tuple(columns))
            found.append(replace(one, policy=policy))
    return found


def chosen(
    subjects: list[Subject], target: str, table: str | None, zorder: str | None
) -> list[Subject]:
    """Those that a command line names among them.

    Args:
        subjects: All of them.
        target: For messages.
        table: ``layer.name``; None: all.
        zorder: Columns of the one table's Z-order, with commas between; None: its policy's.

    Raises:
        ConfigError: There is no such table, or ``zorder`` is for several.
    """
    if table is not None:
        names = [one.name for one in subjects]
        if table not in names:
            raise ConfigError(f"{target} has no table {table}", hint=did_you_mean(table, names))
        subjects = [one for one in subjects if one.name == table]
    if zorder is not None:
        if len(subjects) != 1:
            raise ConfigError("--zorder is for one table", hint="name it: --table layer.name")
        columns = tuple(name.strip() for name in zorder.split(","))
        subjects = [replace(subjects[0], policy=replace(subjects[0].policy, zorder=columns))]
    return subjects


def _of_lake(lake: Lake) -> list[Subject]:
    return [
        Subject(one.name, one.address, Policy(), kept_at(place(lake.where), one.name), lake.where)
        for one in lake.tables()
    ]


def _fans_out(config: Pipeline) -> bool:
    return any(one.fans_out for one in config.bronze.values())
