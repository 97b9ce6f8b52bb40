"""Columns are added by the owner, also inside structs (FAILURES 30, SPEC A6)."""

from __future__ import annotations

import dataclasses

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from raylake.delta.schema import fingerprint
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
