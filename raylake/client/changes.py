"""What differs between the configuration of a run and a pipeline file, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, Literal

from raylake.client.shown import Listing
from raylake.errors import Refused

Class = Literal["after a drain", "refused"]

COLUMNS: Final = ("key", "before", "after", "takes")
_REFUSED: Final = re.compile(
    r"(lake|dead_letters\.path"
    r"|bronze\.[^.\[]+\.(topics|path|partition_by)"
    r"|(silver|gold)\.[^.\[]+\.(from|mode|keys|path|partition_by))(\.|\[|$)"
)
"""What a table is: to change it is to make another table."""
_LIST: Final = re.compile(r"\[\d+\]$")
_SCHEMA_FILE: Final = re.compile(r"bronze\.[^.\[]+\.schema\.path$")


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs.

    Attributes:
        key: Dotted, as in the pipeline file; a list as a whole.
        before: The run's; None: it has none.
        after: The file's.
        takes: ``after a drain``; ``refused``: the tables were made with it.
    """

    key: str
    before: Any
    after: Any
    takes: Class


class ConfigurationChanged(Refused):
    """A pipeline runs with another configuration than the one that is submitted."""

    code = "configuration_changed"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Listing[Change]:
    """What differs, by key.

    Args:
        before: The run's values by their dotted keys (:meth:`raylake.config.Loaded.values`).
        after: The file's.
    """
    old, new = _whole_lists(before), _whole_lists(after)
    tables = {_table_of(key) for key in old} & {_table_of(key) for key in new}
    found = [
        Change(key, old.get(key), new.get(key), _takes(key, old, new, tables))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not _same_file(key, old, new)
    ]
    return Listing("the configuration differs", found, COLUMNS)


def refuse_changed(pipeline: str, where: str, found: Iterable[Change] | None) -> None:
    """Say that a pipeline runs with another configuration.

    Args:
        pipeline: Its name.
        where: Its run, for the message.
        found: What differs; None: it cannot be told.

    Raises:
        ConfigurationChanged: Always, save where nothing differs.
    """
    if found is None:
        raise ConfigurationChanged(
            f"pipeline {pipeline!r} runs with another configuration ({where}); what differs cannot "
            "be told: the run has not written its status, or the lake cannot be read from here",
            hint="--replace (replace=True) drains it and submits this file",
        )
    told = list(found)
    refused = [one for one in told if one.takes == "refused"]
    if not told:
        return
    said = "".join(
        f"\n  {one.key}: {_text(one.before)} -> {_text(one.after)} ({one.takes})" for one in told
    )
    hint = "--replace (replace=True) drains it and submits this file"
    if refused:
        hint = (
            f"{refused[0].key} is what the tables were made with: name another table for it, or "
            "take the change back"
        )
    raise ConfigurationChanged(
        f"pipeline {pipeline!r} runs with another configuration ({where}):{said}",
        hint=hint,
        refused=[one.key for one in refused],
        changes=[[one.key, one.before, one.after, one.takes] for one in told],
    )


def _takes(
    key: str, old: Mapping[str, Any], new: Mapping[str, Any], both: set[str | None]
) -> Class:
    table = _table_of(key)
    if not _REFUSED.match(key) or (table is not None and table not in both):
        return "after a drain"
    before, after = old.get(key), new.get(key)
    more_topics = (
        key.endswith(".topics")
        and isinstance(before, tuple)
        and isinstance(after, tuple)
        and set(before) < set(after)
    )
    return "after a drain" if more_topics else "refused"


def _table_of(key: str) -> str | None:
    layer, _, rest = key.partition(".")
    return f"{layer}.{rest.partition('.')[0]}" if layer in ("bronze", "silver", "gold") else None


def _whole_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of scalars as one value each."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if _LIST.search(key):
            at = _LIST.sub("", key)
            found[at] = (*found.get(at, ()), value)
        else:
            found[key] = tuple(value) if isinstance(value, list) else value
    return found


def _same_file(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether it is a schema file that lies in another folder on the cluster."""
    if not _SCHEMA_FILE.match(key) or None in (old.get(key), new.get(key)):
        return False
    return PurePath(str(old[key])).name == PurePath(str(new[key])).name


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
