"""Which tables a pipeline has filled, fan-outs and patterns included."""

from __future__ import annotations

from raylake.client.runs import status_document
from raylake.config import Pipeline
from raylake.config.addresses import normalise_table_address, status_path, table_path
from raylake.delta.ledger import PREFIX
from raylake.delta.log_reader import LogReader
from raylake.delta.tables_there import is_table
from raylake.delta.verify import TableToVerify
from raylake.errors import ConfigError, RayLakeError
from raylake.storage.place import Place, folders, place


def pipeline_tables(config: Pipeline) -> list[TableToVerify]:
    """The tables, by name.

    Those that the file names, those of the status document, and those of the lake's bronze folder
    whose ledger names this pipeline. A table that is declared and not there yet is left out.

    Raises:
        ConfigError: There is none: the pipeline has not run with this lake.
    """
    found: dict[str, str] = {}
    for key, table in config.bronze.items():
        if not table.fans_out:
            path = table_path(config, f"bronze.{key}")
            if is_table(path):
                found[path] = f"bronze.{table.target_name(key)}"
    for name, path in _reported(config).items():
        found.setdefault(path, name)
    for path in _in_the_lake(config):
        found.setdefault(path, f"bronze.{place(path).name}")
    if not found:
        raise ConfigError(
            f"pipeline {config.pipeline!r} has no table in {config.lake} yet",
            hint="`raylake run FILE` writes there; is `lake` the right folder?",
        )
    return [TableToVerify(path, name) for path, name in sorted(found.items(), key=lambda i: i[1])]


def _reported(config: Pipeline) -> dict[str, str]:
    try:
        document = status_document(place(status_path(config)))
    except RayLakeError:
        return {}
    tables = document.get("tables", {})
    return {str(name): str(table["path"]) for name, table in tables.items() if "path" in table}


def _in_the_lake(config: Pipeline) -> list[str]:
    layer = place(normalise_table_address(config.lake)) / "bronze"
    return [str(path) for path in folders(layer) if _feeds(path, config.pipeline)]


def _feeds(path: Place, pipeline: str) -> bool:
    if not is_table(str(path)):
        return False
    try:
        txns = LogReader(str(path)).snapshot().txns
    except RayLakeError:
        return False
    return any(app.startswith(f"{PREFIX}{pipeline}/") for app in txns)
