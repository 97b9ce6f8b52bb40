"""What metrics and spans of a pipeline file need here; a run goes on without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from raylake.client.checks import Check
from raylake.config import Pipeline
from raylake.telemetry import tracing


def observer_checks(config: Pipeline, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the libraries are there; nothing is sent."""
    if config.metrics.cloudwatch is not None:
        there = find_spec("boto3") is not None
        fix = "" if there else "pip install 'raylake[cloudwatch]' where the supervisor runs"
        found = "boto3 is installed here" if there else "boto3 is not installed here"
        yield Check("metrics.cloudwatch", "ok" if there else "warn", found, fix)
    if tracing.wanted(config.tracing, environ):
        names = tracing.exporter_names(environ)
        missing = [name for name in names if not tracing.is_installed(name)]
        if missing:
            fix = "pip install 'raylake[tracing]' on every node, or see OTEL_TRACES_EXPORTER"
            yield Check("tracing", "warn", f"no exporter {missing[0]!r} is installed here", fix)
        else:
            yield Check("tracing", "ok", f"spans go to {', '.join(names)}; each node has its own")
