"""Pipeline files as a lake takes them, and where their runs go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from raylake.client.overrides import overrides_of
from raylake.config import Loaded, load
from raylake.config.addresses import check_name, normalise_table_address
from raylake.config.findings import Invalid, did_you_mean
from raylake.errors import ConfigError
from raylake.layers.graph import graph_of
from raylake.storage.access import use_stores


def loaded_for(
    lake: str, file: str | Path, values: Mapping[str, str] | None
) -> tuple[Loaded, tuple[str, ...]]:
    """A pipeline file of this lake, and the values above it as arguments.

    Raises:
        ConfigError: With every problem of the file; or its lake is another one.
    """
    pairs = tuple(f"{key}={value}" for key, value in (values or {}).items())
    loaded = load(Path(file), overrides=overrides_of(pairs))
    theirs = normalise_table_address(loaded.config.lake).rstrip("/")
    if theirs != lake:
        raise ConfigError(
            f"{file} is a pipeline of the lake {theirs}, and this is {lake}",
            hint=f"raylake.connect({theirs!r}), or set={{'lake': {lake!r}}}",
        )
    use_stores(loaded.config.stores)
    return loaded, pairs


def require_derived(loaded: Loaded, names: Iterable[str]) -> None:
    """Refuse what is no derived table of a file.

    Raises:
        ConfigError: One is none; names the one that may be meant.
    """
    known = [node.name for node in graph_of(loaded.config).derived]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{name} is no silver or gold table of {loaded.path}",
                hint=did_you_mean(name, known) if known else "the file has none",
            )


def require_pipeline_name(name: str) -> None:
    """Refuse what is no pipeline's name.

    Raises:
        ConfigError: It is none.
    """
    try:
        check_name(name, "a pipeline's name")
    except Invalid as error:
        found = error.findings[0]
        raise ConfigError(found.message, hint=found.hint) from None


def jobs_address(given: str | None) -> str | None:
    """The cluster that runs are submitted to; None: they are processes of this machine.

    Args:
        given: The lake's; without it Ray's own variables count where they name a Jobs API.
    """
    if given is not None:
        return given
    if address := os.environ.get("RAY_API_SERVER_ADDRESS"):
        return address
    address = os.environ.get("RAY_ADDRESS", "")
    return address if address.startswith(("http://", "https://")) else None
