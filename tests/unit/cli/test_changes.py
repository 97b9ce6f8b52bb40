"""What a changed pipeline file takes of a run: nothing, a drain, or another table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raylake.client.changes import Change, ConfigurationChanged, changes, refuse_changed
from raylake.config import load

BASE = """\
pipeline: clicks
lake: /lake
kafka: {{bootstrap: 'localhost:9092'}}
bronze:
  clicks: {{topics: {topics}, schema: {{id: string, n: long}}{table}}}
silver:
  clicks: {{from: bronze.clicks, mode: upsert, keys: [{key}], sequence_by: n}}
{more}
"""


def values(
    tmp_path: Path, topics: str = "[a, b]", table: str = "", key: str = "id", more: str = ""
) -> dict[str, Any]:
    file = tmp_path / "clicks.yaml"
    file.write_text(BASE.format(topics=topics, table=table, key=key, more=more))
    return load(file).values()


def classes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    return {one.key: one.takes for one in changes(before, after)}


@pytest.mark.parametrize(
    ("change", "key", "takes"),
    [
        ({"topics": "[a]"}, "bronze.clicks.topics", "refused"),
        ({"topics": "[a, c]"}, "bronze.clicks.topics", "refused"),
        ({"topics": "[a, b, c]"}, "bronze.clicks.topics", "after a drain"),
        ({"table": ", path: /elsewhere"}, "bronze.clicks.path", "refused"),
        ({"table": ", commit_interval: 9s"}, "bronze.clicks.commit_interval", "after a drain"),
        ({"key": "n"}, "silver.clicks.keys", "refused"),
        ({"more": "ingest: {consumers: 3}"}, "ingest.consumers", "after a drain"),
        ({"more": "maintenance: {vacuum: {keep: 9d}}"}, "maintenance.vacuum.keep", "after a drain"),
    ],
)
def test_each_difference_has_a_class(
    tmp_path: Path, change: dict[str, str], key: str, takes: str
) -> None:
    found = classes(values(tmp_path), values(tmp_path, **change))
    assert found[key] == takes, found


def test_a_table_that_is_new_changes_no_other(tmp_path: Path) -> None:
    before = values(tmp_path)
    added = {**before, "bronze.more.topics[0]": "x", "bronze.more.path": "/x"}
    assert set(classes(before, added).values()) == {"after a drain"}


def test_a_schema_file_lies_elsewhere_on_a_cluster() -> None:
    key = "bronze.clicks.schema.path"
    assert not changes({key: "/home/me/a.yaml"}, {key: "/tmp/ray/working_dir/a.yaml"})
    assert changes({key: "/home/me/a.yaml"}, {key: "/home/me/b.yaml"})


def test_the_refusal_prints_each_difference_and_its_class() -> None:
    found = [Change("ingest.consumers", 1, 2, "after a drain")]
    with pytest.raises(ConfigurationChanged) as told:
        refuse_changed("clicks", "job x", found)
    assert "ingest.consumers: 1 -> 2 (after a drain)" in told.value.message
    assert "--replace" in told.value.hint
    refused = [*found, Change("lake", "/a", "/b", "refused")]
    with pytest.raises(ConfigurationChanged, match=r"lake: /a -> /b \(refused\)") as told:
        refuse_changed("clicks", "job x", refused)
    assert "--replace" not in told.value.hint
    with pytest.raises(ConfigurationChanged, match="cannot be told"):
        refuse_changed("clicks", "job x", None)
    refuse_changed("clicks", "job x", [])
