"""A table that upkeep is about, with its policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raylake.errors import ConfigError
from raylake.maintenance.policy import Policy
from raylake.near import did_you_mean
from raylake.storage.place import Place


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
        policy = replace(subjects[0].policy, zorder=columns, zorder_may_wait=False)
        subjects = [replace(subjects[0], policy=policy)]
    return subjects
