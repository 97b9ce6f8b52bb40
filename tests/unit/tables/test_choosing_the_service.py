"""What works on tables: this process, or a cluster that is joined when it is first needed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import raylake
from actors.table_service import _sendable
from raylake.client import cluster_tables
from raylake.client.cluster_tables import ClusterTables
from raylake.client.lake_table import Table
from raylake.errors import ConfigError
from raylake.tables.requests import Append
from raylake.tables.service import DirectTables


def service(table: Table) -> object:
    return table._source.tables


def test_an_address_chooses_the_cluster_and_asks_nothing_of_it(tmp_path: Path) -> None:
    table = raylake.connect(tmp_path, "nowhere:1").table("silver.t")
    assert isinstance(service(table), ClusterTables)
    assert type(service(raylake.connect(tmp_path).table("silver.t"))) is DirectTables
    mine = DirectTables()
    given = raylake.connect(tmp_path, "nowhere:1", tables=mine).table("silver.t")
    assert service(given) is mine
    assert list(raylake.connect(tmp_path, "nowhere:1").tables()) == []


@pytest.mark.parametrize("address", ["http://head:8265", "https://head", "ray://head:10001"])
def test_addresses_that_are_no_drivers_are_refused_by_name(tmp_path: Path, address: str) -> None:
    table = raylake.connect(tmp_path, address).table("silver.t")
    with pytest.raises(ConfigError, match=address) as told:
        table.delete("true")
    assert "head:6379" in told.value.hint


def test_an_installation_without_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_tables, "join", lambda _address: None)
    monkeypatch.setattr(cluster_tables, "SERVICE", "no_such_package.table_connection")
    table = raylake.connect(tmp_path, "auto").table("silver.t")
    with pytest.raises(ConfigError, match="no_such_package") as told:
        table.delete("true")
    assert "pip install raylake" in told.value.hint


def test_rows_go_to_another_process_with_plain_texts() -> None:
    views = {
        "s": pa.array(["a", None], pa.string_view()),
        "b": pa.array([b"a", None], pa.binary_view()),
        "l": pa.array([["a"], None], pa.list_(pa.string_view())),
        "r": pa.array([{"x": "b"}, None], pa.struct([("x", pa.string_view())])),
        "m": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string_view())),
        "n": pa.array([2**63, 1], pa.uint64()),
    }
    rows = pa.table(views)
    sent = _sendable(Append(rows))
    assert isinstance(sent, Append)
    assert "view" not in str(sent.rows.schema)
    assert sent.rows.to_pylist() == rows.to_pylist()
    assert sent.rows.schema.field("n").type == pa.uint64()
    plain = Append(pa.table({"n": [1]}))
    assert _sendable(plain) is plain


def test_spark_is_checked_when_it_is_given(tmp_path: Path) -> None:
    raylake.connect(tmp_path, "auto", spark={"executors": 2, "memory": "2GiB"})
    with pytest.raises(ConfigError, match=r"spark\.memory"):
        raylake.connect(tmp_path, "auto", spark={"memory": "1MiB"})
    with pytest.raises(ConfigError, match=r"spark\.executers"):
        raylake.connect(tmp_path, "auto", spark={"executers": 2})
