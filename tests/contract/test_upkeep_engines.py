"""One round of upkeep: small tables are delta-rs's, those above ``spark_above`` are Spark's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.clock import SystemClock
from raylake.maintenance.budget import OpenGate
from raylake.maintenance.policy import Policy
from raylake.maintenance.round import Means, Round
from raylake.maintenance.round_parts import spark_takes
from raylake.maintenance.subjects import Subject
from raylake.maintenance.writers import WriterHere
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.port import TableEngine
from raylake.tables.requests import Append, Create
from raylake.tables.service import DirectTables

SCHEMA = pa.schema([("id", pa.int64()), ("day", pa.string()), ("text", pa.string())])
FILES = 7
ABOVE_BYTES = 20_000


def table_of(path: Path, text: str) -> str:
    """Small files over two partitions; each has all ids of its kind."""
    made = DeltaRsEngine()
    made.execute(str(path), Create(SCHEMA, ("day",)))
    for number in range(FILES):
        ids = list(range(number, 100, FILES))
        days = [f"d{one % 2}" for one in ids]
        rows = pa.table({"id": ids, "day": days, "text": [f"{one}{text}" for one in ids]}, SCHEMA)
        made.execute(str(path), Append(rows))
    return str(path)


def rows_of(table: str) -> Counter[str]:
    return Counter(map(repr, DeltaTable(table).to_pyarrow_table().to_pylist()))


@pytest.mark.spec("F1", "C7")
@pytest.mark.parametrize("zorder", [(), ("id",)], ids=["compact", "zorder"])
def test_rewrites_above_the_limit_are_sparks(
    engine: TableEngine, tmp_path: Path, zorder: tuple[str, ...]
) -> None:
    policy = Policy(small_files=3, zorder=zorder, zorder_depth=2, spark_above_bytes=ABOVE_BYTES)
    tables = {
        "small": table_of(tmp_path / "small", ""),
        "large": table_of(tmp_path / "large", "".join(map(chr, range(40, 3000)))),
    }
    before = {name: rows_of(at) for name, at in tables.items()}
    assert (
        sum(DeltaTable(tables["large"]).get_add_actions()["size_bytes"].to_pylist()) > ABOVE_BYTES
    )
    service = DirectTables({"delta-rs": DeltaRsEngine(), engine.name: engine})
    takes = spark_takes("auto", service)
    means = Means(
        lambda _: service, WriterHere(), OpenGate(), SystemClock(), "test", by_spark=takes
    )
    found = Round(means).run([Subject(name, at, policy, None) for name, at in tables.items()])
    done = Counter((one.table, one.action.kind) for one in found if one.ending == "done")
    assert [one.note for one in found if one.ending == "failed"] == []
    kind = "zorder" if zorder else "compact"
    assert {name for name, what in done if what == kind} == set(tables)
    for name, at in tables.items():
        assert rows_of(at) == before[name]
        last = DeltaTable(at).history(1)[0]
        by_spark = name == "large" and engine.name == "spark"
        assert ("Spark" in str(last.get("engineInfo"))) == by_spark, last
        assert len(DeltaTable(at).file_uris()) < 2 * FILES
