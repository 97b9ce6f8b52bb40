"""The account of a pipeline, asked by its file or by what its status document names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylake.client.tables import pipeline_tables
from raylake.config import Pipeline, dead_letter_path
from raylake.delta.tables_there import is_table
from raylake.delta.verify import PipelineReport, TableToVerify, VerifyOptions, verify_pipeline
from raylake.errors import ConfigError
from raylake.kafka.client import Cluster


def report_of(config: Pipeline, level: str) -> PipelineReport:
    """The report of all tables of a pipeline.

    Args:
        config: The pipeline.
        level: ``log``, ``data``, ``broker`` or ``all``.

    Raises:
        ConfigError: The pipeline has no table yet.
        DependencyUnreachable: No broker answers.
    """
    kafka = config.kafka
    tables = pipeline_tables(config)
    letters = dead_letter_path(config)
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        options = VerifyOptions(level, cluster if level in ("broker", "all") else None)
        return verify_pipeline(tables, letters, config.pipeline, options)


def report_by_status(document: Mapping[str, Any], level: str) -> PipelineReport:
    """The report of the tables that a run's status document names.

    Raises:
        ConfigError: It names none yet, or the level needs the pipeline file.
    """
    pipeline = str(document.get("pipeline"))
    if level in ("broker", "all"):
        raise ConfigError(
            f"level {level} asks the broker, which the status document of {pipeline!r} does not "
            "name",
            hint="`raylake verify FILE` knows it, and so does the handle that submit() returned",
        )
    found = {
        str(one["path"]): name
        for name, one in (document.get("tables") or {}).items()
        if "path" in one and is_table(str(one["path"]))
    }
    letters = document.get("dead_letters")
    if not found or letters is None:
        raise ConfigError(
            f"pipeline {pipeline!r} has no table yet, as its status document tells",
            hint="`raylake verify FILE` looks at the lake by the pipeline file",
        )
    tables = [TableToVerify(path, name) for path, name in sorted(found.items())]
    return verify_pipeline(tables, str(letters), pipeline, VerifyOptions(level, None))
