"""What an owner writes reads the same elsewhere, awkward partition values included (SPEC A14)."""

from __future__ import annotations

import dataclasses

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from raylake.delta.files import write_data_files
from raylake.delta.unit_check import disk_path
from raylake.ingest.unit import Counts, OffsetRange, Unit
from tests.integration.delta.scope import P0, PIPELINE, SCHEMA, Scope

VALUES = ["a b", "x/y=:%", "é", None, 'a\\b"#?', "..", "x=1%2F"]


@pytest.mark.spec("A14")
def test_partition_values_read_the_same_in_delta_rs_polars_and_from_the_files(
    scope: Scope,
) -> None:
    owner = scope.attach(spec=dataclasses.replace(scope.spec, partition_by=("v",)))
    owner.admit({P0: 0})
    rows = len(VALUES)
    data = {"v": VALUES, "_partition": [0] * rows, "_offset": list(range(rows))}
    files = write_data_files(scope.path, pa.table(data, schema=SCHEMA), owner.schema, ("v",))
    span = OffsetRange(P0, 0, rows, Counts(rows=rows))
    unit = Unit(PIPELINE, "c", 1, owner.fingerprint, (span,), files)
    assert owner.commit([unit])[0].status == "committed"

    frame = pl.scan_delta(str(scope.path)).sort("_offset").collect()
    assert frame["v"].to_list() == VALUES
    query = "SELECT v FROM t ORDER BY _offset"
    table = DeltaTable(scope.path)
    read = pa.table(QueryBuilder().register("t", table).execute(query).read_all())
    assert read["v"].to_pylist() == VALUES
    places = [disk_path(scope.path, f.path) for f in files]
    assert all(p is not None and pq.read_metadata(p).num_rows == 1 for p in places)
