"""The Datadog Agent's file names every metric as the Agent reads it from ``/metrics``."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from raylake.telemetry.prometheus import PrometheusMetrics
from raylake.telemetry.spec import METRICS

EXAMPLE = Path(__file__).parents[3] / "examples" / "datadog" / "openmetrics.yaml"


def served() -> dict[str, str]:
    """Each metric as it is served, with its kind."""
    metrics = PrometheusMetrics()
    for spec in METRICS:
        record = {"counter": metrics.add, "gauge": metrics.set, "histogram": metrics.observe}
        record[spec.kind](spec.name, 1, dict.fromkeys(spec.labels, "x"))
    text = generate_latest(metrics.registry).decode()
    families = {one.name: one.type for one in text_string_to_metric_families(text)}
    return {name: kind for name, kind in families.items() if not name.endswith("_created")}


def test_each_metric_is_asked_for_by_its_name_and_renamed_below_the_namespace() -> None:
    (instance,) = yaml.safe_load(EXAMPLE.read_text())["instances"]
    asked = {name: new for entry in instance["metrics"] for name, new in entry.items()}
    assert asked.keys() == served().keys()
    # The Agent takes a name for a pattern, and forgets the new name, where an escape is needed.
    assert [name for name in asked if re.escape(name) != name] == []
    namespace = instance["namespace"]
    assert {f"{namespace}_{new}": name for name, new in asked.items()} == {
        name: name for name in asked
    }
