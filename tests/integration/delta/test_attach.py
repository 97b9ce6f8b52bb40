"""What an owner does not touch, and says why (I9, I10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake

from raylake.delta import probe
from raylake.delta.ledger import OWNER_APP
from raylake.delta.spec import TableSpec
from raylake.errors import (
    DependencyUnreachable,
    NotOurTable,
    Refused,
    SchemaConflict,
    UnsupportedTable,
)
from tests.integration.delta.scope import SCHEMA, Scope


def make(scope: Scope, configuration: Mapping[str, str], schema: pa.Schema = SCHEMA) -> None:
    """A table that looks like ours, with properties of somebody's choice."""
    DeltaTable.create(
        scope.path,
        schema=Schema.from_arrow(schema),
        configuration=dict(configuration),
        commit_properties=CommitProperties(app_transactions=[Transaction(OWNER_APP, 0)]),
    )


def test_a_new_table_has_its_properties_and_its_first_epoch(scope: Scope) -> None:
    owner = scope.attach()
    configuration = DeltaTable(scope.path).metadata().configuration
    assert configuration["delta.appendOnly"] == "true"
    assert configuration["delta.dataSkippingStatsColumns"] == "_partition,_offset"
    assert (owner.epoch, owner.version) == (1, 1)
    assert owner.schema.equals(SCHEMA)


def test_a_folder_with_other_files_is_not_our_table(scope: Scope) -> None:
    scope.path.mkdir(parents=True)
    (scope.path / "notes.txt").write_text("mine")
    with pytest.raises(NotOurTable, match=r"notes\.txt"):
        scope.attach()
    assert [p.name for p in scope.path.iterdir()] == ["notes.txt"]


def test_a_file_is_not_our_table(scope: Scope) -> None:
    scope.path.parent.mkdir(parents=True)
    scope.path.write_text("mine")
    with pytest.raises(NotOurTable, match="is a file"):
        scope.attach()


def test_a_table_with_data_and_no_ledger_is_refused(scope: Scope) -> None:
    rows = pa.table({"v": ["x"], "_partition": [0], "_offset": [0]}).cast(SCHEMA)
    write_deltalake(scope.path, rows)
    with pytest.raises(NotOurTable, match="not made by RayLake"):
        scope.attach()
    assert DeltaTable(scope.path).version() == 0


@pytest.mark.parametrize(
    ("configuration", "named"),
    [
        ({"delta.setTransactionRetentionDuration": "interval 7 days"}, "setTransactionRetention"),
        ({"delta.enableTypeWidening": "true"}, "typeWidening"),
        ({"delta.enableRowTracking": "true"}, "rowTracking"),
        ({"delta.columnMapping.mode": "name"}, "columnMapping"),
        ({"delta.checkpointPolicy": "v2"}, "v2Checkpoint"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(
    scope: Scope, configuration: dict[str, str], named: str
) -> None:
    spec = dataclasses.replace(scope.spec, properties=configuration)
    with pytest.raises(UnsupportedTable, match=named):
        scope.attach(spec=spec)
    assert not (scope.path / "_delta_log").exists()


def test_transaction_retention_on_a_table_that_is_there_is_refused(scope: Scope) -> None:
    make(scope, {"delta.setTransactionRetentionDuration": "interval 7 days"})
    with pytest.raises(UnsupportedTable, match="offsets in the table's log would expire"):
        scope.attach()


def test_a_check_constraint_is_refused_by_name(scope: Scope) -> None:
    make(scope, {})
    DeltaTable(scope.path).alter.add_constraint({"positive": "_offset >= 0"})
    with pytest.raises(UnsupportedTable, match="checkConstraints"):
        scope.attach()


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (pa.schema([("v", pa.int64()), *list(SCHEMA)[1:]]), "v: long is asked for"),
        (pa.schema([("V", pa.string()), *list(SCHEMA)[1:]]), "differs only in case"),
    ],
)
def test_a_schema_that_contradicts_the_table_is_refused(
    scope: Scope, schema: pa.Schema, named: str
) -> None:
    scope.attach()
    with pytest.raises(SchemaConflict, match=named):
        scope.attach(spec=dataclasses.replace(scope.spec, schema=schema))
    assert DeltaTable(scope.path).version() == 1


def test_other_partitioning_is_refused(scope: Scope) -> None:
    scope.attach()
    with pytest.raises(SchemaConflict, match="partitioned by"):
        scope.attach(spec=dataclasses.replace(scope.spec, partition_by=("v",)))


@pytest.mark.parametrize("name", ["a b", "a;b", "a=b", "a(b"])
def test_a_column_name_that_spark_refuses_is_refused(scope: Scope, name: str) -> None:
    spec = TableSpec(str(scope.path), pa.schema([(name, pa.string())]))
    with pytest.raises(SchemaConflict, match="cannot be a column name"):
        scope.attach(spec=spec)


def test_failure_19_a_store_that_lets_two_commits_win_is_refused(tmp_path: Path) -> None:
    def overwriting(table: DeltaTable) -> None:
        log = Path(table.table_uri.removeprefix("file://")) / "_delta_log"
        (log / f"{table.version() + 1:020d}.json").unlink(missing_ok=True)
        probe.commit_nothing(table)

    device = tmp_path.stat().st_dev
    trusted = device in probe._trusted
    probe._trusted.discard(device)
    try:
        with pytest.raises(Refused, match="let two writers commit the same version"):
            probe.probe_store(tmp_path, commit=overwriting)
        assert device not in probe._trusted
        probe.probe_store(tmp_path)
        assert device in probe._trusted
    finally:
        if trusted:
            probe._trusted.add(device)
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    spec = TableSpec(str(blocked / "lake" / "orders"), SCHEMA)
    with pytest.raises(DependencyUnreachable, match="cannot be written"):
        Scope(tmp_path).attach(spec=spec)
