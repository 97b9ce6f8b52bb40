"""What `raylake explain` says beside the values: decoding, and where metrics and spans go."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.cli.explain import plan
from raylake.config import load

FILE = """
pipeline: p
lake: {lake}
kafka: {{bootstrap: localhost:9092}}
bronze:
  one: {{topics: [one], {more}}}
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("format: raw", "values are kept as they are"),
        ("format: json", "decoded in columns by a compiled kernel"),
        ("schema: {id: long, 's': 'struct<a:array<string>>'}", "in columns by a compiled kernel"),
        (
            "schema: {id: long, 'sa\"id': string}",
            "record by record: no kernel reads names that need an escape in JSON ('sa\"id')",
        ),
        ("schema: {s: 'struct<`a\\b`:long>'}", "no kernel reads names"),
    ],
)
def test_the_line_of_a_table(tmp_path: Path, more: str, said: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FILE.format(lake=tmp_path, more=more))
    lines = [line for line in plan(load(file, environ={})) if line.startswith("bronze.one: ")]
    assert said in lines[1]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ("", ["spans: where an OTEL_… variable of a process says so"]),
        (
            "metrics: {push_gateway: {url: 'https://gw:9091', interval: 30s}}",
            ["metrics to the push gateway at https://gw:9091, every 30s and at the end"],
        ),
        (
            "metrics: {cloudwatch: {}}\ntracing: {enabled: true}",
            ["metrics to CloudWatch, namespace RayLake, every 1m and at the end", "spans: on"],
        ),
    ],
)
def test_where_metrics_and_spans_go(tmp_path: Path, sections: str, said: list[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FILE.format(lake=tmp_path, more="format: raw") + sections)
    lines = plan(load(file, environ={}))
    assert [line for line in said if line not in lines] == []
