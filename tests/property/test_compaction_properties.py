"""Whatever is written, deleted and compacted: the rows are the same multiset."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import BadRequest
from raylake.tables.requests import Append, Create, Delete, Read
from raylake.tables.upkeep_requests import Compact, Repartition, WidenColumns, ZOrder

SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("part", pa.string()),
        ("ratio", pa.float64()),
        ("inner", pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))])),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-5, 5),
        "part": st.sampled_from(["x", "y/z", "ü =%", None]),
        "ratio": st.none() | st.floats(),
        "inner": st.none()
        | st.fixed_dictionaries(
            {"a": st.none() | st.integers(0, 3), "b": st.none() | st.lists(st.text(max_size=2))}
        ),
    }
)
STEP = st.one_of(
    st.lists(ROW, max_size=6).map(lambda rows: Append(pa.Table.from_pylist(rows, schema=SCHEMA))),
    st.just(Delete("id = 3")),
    st.sampled_from(
        [
            Compact(),
            Compact(target_file_bytes=4000),
            Compact(where="part = 'x'"),
            ZOrder(("id", "ratio")),
            WidenColumns({"id": pa.int64()}),
            Repartition(()),
            Repartition(("part",)),
        ]
    ),
)


def multiset(engine: DeltaRsEngine, table: str) -> Counter[str]:
    found = engine.read(table, Read()).read_all().to_pylist()
    return Counter(str(sorted(row.items())) for row in found)


@pytest.mark.spec("F1", "C7")
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, min_size=2, max_size=8), partitioned=st.booleans())
def test_property_upkeep_keeps_the_multiset_of_rows(steps: list[Any], partitioned: bool) -> None:
    engine = DeltaRsEngine()
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "t")
        engine.execute(table, Create(SCHEMA, ("part",) if partitioned else ()))
        by_part = partitioned
        seen: list[Counter[str]] = [multiset(engine, table)]
        for step in steps:
            if getattr(step, "where", None) == "part = 'x'" and not by_part:
                with pytest.raises(BadRequest, match="no partition column"):
                    engine.execute(table, step)
                continue
            result = engine.execute(table, step)
            if isinstance(step, Repartition):
                by_part = bool(step.partition_by)
            now = multiset(engine, table)
            if not isinstance(step, Append | Delete):
                assert now == seen[-1], step
            if result.changed:
                seen.append(now)
        for version, rows in enumerate(seen):
            found = engine.read(table, Read(version=version)).read_all().to_pylist()
            assert Counter(str(sorted(row.items())) for row in found) == rows
