"""What `raylake explain` says of how messages are decoded."""

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
