"""Columns are added by the owner, also inside structs (FAILURES 30, SPEC A6)."""

from __future__ import annotations

import dataclasses

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.schema import fingerprint
from raylake.delta.stats import STATS_COLUMNS
from raylake.errors import Fenced, SchemaConflict
from tests.integration.delta.scope import P0, SCHEMA, Scope

NESTED = pa.schema([*SCHEMA, ("s", pa.struct([("x", pa.int64())]))])


@pytest.mark.spec("A6")
def test_new_columns_at_the_top_and_in_structs_without_a_rewrite(scope: Scope) -> None:
    owner = scope.attach(spec=dataclasses.replace(scope.spec, schema=NESTED))
    owner.admit({P0: 0})
    owner.commit([scope.unit(owner, 0, 3)])
    additions = pa.schema([("new", pa.string()), ("s", pa.struct([("y", pa.string())]))])
    schema, digest = owner.evolve(additions)
    assert schema.field("s").type == pa.struct([("x", pa.int64()), ("y", pa.string())])
    assert digest == owner.fingerprint == fingerprint(schema)
    owner.commit([scope.unit(owner, 3, 6)])
    frame = pl.scan_delta(str(scope.path)).collect()
    assert frame.height == 6
    assert {"new", "s"} <= set(frame.columns)


@pytest.mark.spec("A6")
def test_failure_30_two_workers_evolve_at_once_and_the_second_adds_the_rest(scope: Scope) -> None:
    owner = scope.owner()
    old = scope.unit(owner, 0, 3)
    first, digest = owner.evolve(pa.schema([("a", pa.int64())]))
    version = owner.version
    assert owner.evolve(pa.schema([("a", pa.int64())])) == (first, digest)
    assert owner.version == version
    second, _ = owner.evolve(pa.schema([("a", pa.int64()), ("b", pa.int64())]))
    assert second.names[-2:] == ["a", "b"]
    (outcome,) = owner.commit([old])
    assert (outcome.status, outcome.reason) == ("refused", "schema")
    assert owner.commit([scope.unit(owner, 0, 3)])[0].status == "committed"


@pytest.mark.parametrize(
    ("additions", "named"),
    [
        (pa.schema([("V", pa.string())]), "differs only in case"),
        (pa.schema([("v", pa.int64())]), "long is asked for"),
        (pa.schema([("a", pa.int64()), ("A", pa.int64())]), "one name to Delta"),
        (pa.schema([("a b", pa.int64())]), "cannot be a column name"),
        (pa.schema([("v", pa.struct([("x", pa.int64())]))]), "struct is asked for"),
    ],
)
def test_what_contradicts_the_table_is_refused_and_changes_nothing(
    scope: Scope, additions: pa.Schema, named: str
) -> None:
    owner = scope.owner()
    before = owner.version
    with pytest.raises(SchemaConflict, match=named):
        owner.evolve(additions)
    assert DeltaTable(scope.path).version() == before


def test_a_fenced_owner_does_not_evolve(scope: Scope) -> None:
    old = scope.owner()
    scope.attach("run-2", take_over=True)
    with pytest.raises(Fenced):
        old.evolve(pa.schema([("a", pa.int64())]))
    assert "a" not in [f.name for f in DeltaTable(scope.path).schema().fields]


def named(scope: Scope) -> str:
    return str(DeltaTable(scope.path).metadata().configuration.get(STATS_COLUMNS, ""))


@pytest.mark.spec("F1", "A6")
def test_columns_of_the_z_order_are_named_among_those_with_statistics_once_they_are_there(
    scope: Scope,
) -> None:
    scope.owner().release()
    version = DeltaTable(scope.path).version()
    wanted = dataclasses.replace(scope.spec, statistics=("v", "later", "_offset"))
    owner = scope.attach(run="run-2", spec=wanted)
    # The epoch, and the property.
    assert DeltaTable(scope.path).version() == version + 2
    assert named(scope) == "_partition,_offset,v"
    owner.commit([scope.unit(owner, 0, 3)])
    _, digest = owner.evolve(pa.schema([("other", pa.int64())]))
    version = owner.version
    owner.evolve(pa.schema([("later", pa.int64())]))
    assert owner.version == version + 2
    assert named(scope) == "_partition,_offset,v,later"
    assert owner.fingerprint != digest
    owner.commit([scope.unit(owner, 3, 6)])
    history = DeltaTable(scope.path).history()
    assert [one["operation"] for one in history].count("SET TBLPROPERTIES") == 2
    owner.release()
    assert scope.attach(run="run-3", spec=wanted).version == owner.version + 1


def test_a_table_without_the_property_is_left_alone(scope: Scope) -> None:
    plain = dataclasses.replace(scope.spec, properties={}, statistics=("v",))
    owner = scope.attach(spec=plain)
    owner.evolve(pa.schema([("v2", pa.int64())]))
    assert named(scope) == ""
    assert owner.version == 2
