"""A table's protocol names each feature that it uses, or its number stands for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Append, Create, Overwrite
from raylake.tables.upkeep_requests import AddColumns, SetNotNull

PLAIN = pa.schema([("id", pa.int64())])
REQUIRED = pa.schema([pa.field("id", pa.int64(), nullable=False)])
LOCAL = pa.field("local", pa.timestamp("us"))
ENGINE = DeltaRsEngine()


def features(table: str) -> tuple[int, set[str]]:
    found = DeltaTable(table).protocol()
    return found.min_writer_version, set(found.writer_features or ())


@pytest.mark.spec("C7")
def test_a_new_table_names_not_null_beside_what_must_be_named(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    ENGINE.execute(table, Create(REQUIRED.append(LOCAL), description="as they came"))
    assert features(table) == (7, {"appendOnly", "invariants", "timestampNtz"})
    assert DeltaTable(table).metadata().description == "as they came"
    ENGINE.execute(table + "2", Create(REQUIRED))
    assert features(table + "2") == (2, set())
    ENGINE.execute(table + "3", Create(PLAIN.append(LOCAL)))
    ENGINE.execute(table + "3", SetNotNull("id"))
    assert "invariants" in features(table + "3")[1]


@pytest.mark.parametrize(
    ("create", "lost"),
    [
        (Create(REQUIRED), "invariants"),
        (Create(PLAIN, properties={"delta.enableChangeDataFeed": "true"}), "changeDataFeed"),
        (Create(PLAIN, constraints={"some": "id > 0"}), "checkConstraints"),
        (Create(PLAIN), ""),
    ],
)
def test_a_new_column_takes_no_feature_away(tmp_path: Path, create: Create, lost: str) -> None:
    table = str(tmp_path / "t")
    ENGINE.execute(table, create)
    before = DeltaTable(table).version()
    rows = pa.table({"id": [1], "local": [0]}, schema=create.schema.append(LOCAL))
    wider = (Append(rows, schema="merge"), Overwrite(rows, schema="overwrite"))
    if lost:
        for operation in wider:
            with pytest.raises(errors.FeatureUnsupported, match=lost) as caught:
                ENGINE.execute(table, operation)
            assert "AddColumns" in caught.value.hint
        assert DeltaTable(table).version() == before
        ENGINE.execute(table, AddColumns(pa.schema([LOCAL])))
        assert features(table)[1] >= {lost, "timestampNtz"}
    for operation in wider:
        assert ENGINE.execute(table, operation).changed


def test_properties_that_mean_nothing_are_refused_by_name(tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    with pytest.raises(errors.BadRequest, match="no property") as caught:
        ENGINE.execute(table, Create(PLAIN, properties={"delta.enableChangeFeed": "true"}))
    assert "delta.enableChangeDataFeed" in caught.value.hint
    with pytest.raises(errors.FeatureUnsupported, match="column mapping"):
        ENGINE.execute(table, Create(PLAIN, properties={"delta.columnMapping.mode": "name"}))
    assert not (tmp_path / "t").exists()
