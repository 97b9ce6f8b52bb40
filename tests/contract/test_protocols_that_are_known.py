"""Whatever is set on a table, its protocol lists only features that RayLake writes (ADR 29)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.features import ALLOWED_FEATURES
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.errors import FeatureUnsupported, TableExists
from raylake.tables.requests import Append, Create
from raylake.tables.upkeep_requests import AddConstraint, SetNotNull, SetProperties

pytestmark = pytest.mark.spec("C5")

ENGINE = DeltaRsEngine()
PLAIN = pa.schema([("id", pa.int64()), ("text", pa.string())])
TIMES = PLAIN.append(pa.field("at", pa.timestamp("us")))
VECTORS = {"delta.enableDeletionVectors": "true"}
FEED = {"delta.enableChangeDataFeed": "true", "delta.appendOnly": "false"}


@pytest.mark.parametrize("schema", [PLAIN, TIMES], ids=["plain", "times"])
@pytest.mark.parametrize("first", [{}, VECTORS, FEED], ids=["nothing", "vectors", "feed"])
@pytest.mark.parametrize("then", [VECTORS, FEED], ids=["vectors", "feed"])
def test_properties_and_constraints_add_no_feature_that_nobody_asked_for(
    tmp_path: Path, schema: pa.Schema, first: dict[str, str], then: dict[str, str]
) -> None:
    table = str(tmp_path / "t")
    rules = {"positive": "id >= 0", "short": "length(text) < 9"}
    result = ENGINE.execute(table, Create(schema, (), first, rules, "what it is"))
    assert (result.version_before, result.version_after) == (-1, 0)
    ENGINE.execute(table, Append(pa.table({"id": [1], "text": ["a"]})))
    ENGINE.execute(table, SetProperties(then))
    ENGINE.execute(table, AddConstraint("few", "id < 100"))
    ENGINE.execute(table, SetNotNull("id"))
    protocol = DeltaTable(table).protocol()
    listed = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    assert listed <= ALLOWED_FEATURES
    ENGINE.execute(table, Append(pa.table({"id": [2], "text": ["b"]})))
    with pytest.raises(Exception, match="positive"):
        ENGINE.execute(table, Append(pa.table({"id": [-1], "text": ["b"]})))
    assert DeltaTable(table).metadata().description == "what it is"
    with pytest.raises(TableExists):
        ENGINE.execute(table, Create(schema))


def test_a_feature_that_another_writer_listed_is_refused_by_name(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    ENGINE.execute(table, Create(TIMES))
    # What deltalake 1.6.6 does on a table with named features.
    DeltaTable(table).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    with pytest.raises(FeatureUnsupported, match="variantType") as told:
        ENGINE.execute(table, SetProperties({"mine": "x"}))
    assert told.value.context["feature"] == "variantType"
