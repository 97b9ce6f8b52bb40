"""The columns of a table of versions, and requests that contradict them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake.tables import errors
from raylake.tables.requests import Scd2
from raylake.tables.scd2 import changes_of, layout_of, no_tombstones, table_for
from raylake.tables.scd2_plan import plan, planned

ROWS = pa.table({"id": [1, 1], "v": ["a", "b"], "n": [1, 2], "t": [1, 2], "lsn": [7, 8]})

FEW = ROWS.drop_columns(["lsn"])
MARKED = ROWS.append_column("_DELETE", pa.array([1, 2]))


def request(rows: pa.Table = ROWS, **options: Any) -> Scd2:
    wanted: dict[str, Any] = {"keys": ("id",), "sequence_by": ("t",)}
    return Scd2(rows, **(wanted | options))


def never(keys: pa.Table) -> pa.Table:
    """Reads rows of a table that is not to be read."""
    raise AssertionError(keys)


def test_a_table_has_all_columns_but_the_sequence_and_what_deletes() -> None:
    assert table_for(request(delete_when="lsn < 0")).schema.names == [
        "id",
        "v",
        "n",
        "valid_from",
        "valid_to",
        "is_current",
        "_changes",
    ]
    made = table_for(request(track=("v",), sequence_by=("t", "lsn")), ("v", "n")).schema
    assert made.field("valid_to").type == pa.int64()
    kept = made.field("_changes").type.value_type
    assert [field.name for field in kept] == ["_delete", "t", "lsn", "n"]
    assert all(field.nullable for field in made)


def test_what_is_not_tracked_is_left_out_unless_it_is_named() -> None:
    assert "n" in table_for(request(track=("v",))).schema.names
    assert table_for(request(track=("v",)), ()).schema.names[:2] == ["id", "valid_from"]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"valid_from": "V"}, errors.BadColumnName, "'V' is to hold"),
        ({"kept_changes": "is_current"}, errors.BadColumnName, "another column of it"),
        ({"sequence_by": ()}, errors.BadRequest, "nothing orders"),
        ({"sequence_by": ("t", "t")}, errors.BadRequest, "'t' is named"),
        ({"sequence_by": ("id",)}, errors.BadRequest, "'id' is named"),
        ({"track": ()}, errors.BadRequest, "no column is tracked"),
        ({"track": ("nope",)}, errors.UnknownColumn, "'nope'"),
        ({"delete_when": "v = "}, errors.BadExpression, "parse"),
        (
            {"rows": ROWS.append_column("_DELETE", pa.array([1, 2]))},
            errors.BadColumnName,
            "_delete",
        ),
    ],
)
def test_requests_that_contradict_themselves_are_refused(
    options: dict[str, Any], kind: type[errors.TableError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        table_for(request(**options))
    schema = table_for(request()).schema
    with pytest.raises(kind, match=text):
        planned(Path("t"), schema, request(**options), never)


def test_versions_are_not_put_in_order_by_floats() -> None:
    rows = ROWS.set_column(3, "t", pa.array([0.5, 1.5]))
    with pytest.raises(errors.BadRequest, match="'valid_from' is double"):
        layout_of(request(rows), table_for(request(rows)).schema, "t: scd2")


def test_a_condition_that_cannot_be_computed_is_refused() -> None:
    wanted = request(FEW, delete_when="v > n")
    layout = layout_of(wanted, table_for(wanted, ("v", "n")).schema, "t: scd2")
    with pytest.raises(errors.BadExpression, match="cannot be computed"):
        changes_of(wanted, layout, "t: scd2")


def test_no_changes_ask_nothing_of_the_table() -> None:
    schema = table_for(request(FEW)).schema
    assert planned(Path("t"), schema, request(FEW.slice(0, 0)), never) is None


def test_columns_that_the_table_lacks_are_named() -> None:
    schema = table_for(request(FEW)).schema
    with pytest.raises(errors.SchemaMismatch, match="no column 'lsn'") as caught:
        planned(Path("t"), schema, request(), never)
    assert "leave it out" in caught.value.hint


def test_a_required_column_stands_against_a_delete_before_all_versions() -> None:
    wanted = request(FEW, delete_when="v = 'b'")
    made = table_for(wanted, ("v", "n")).schema
    required = made.set(1, made.field("v").with_nullable(False))
    layout = layout_of(wanted, required, "t: scd2")
    empty = required.empty_table()
    both = changes_of(wanted, layout, "t: scd2")
    assert plan(layout, empty, both, "t: scd2").written.column("valid_to").to_pylist() == [2]
    with pytest.raises(errors.ValuesRefused, match="'v', which is NOT NULL"):
        plan(layout, empty, both.slice(1), "t: scd2")
    null = request(FEW.set_column(1, "v", pa.array([None, "b"])), delete_when="v = 'b'")
    with pytest.raises(errors.ValuesRefused, match="1 of 1 rows have no value"):
        changes_of(null, layout, "t: scd2")


def test_the_condition_without_tombstones_quotes_its_names() -> None:
    wanted = request(valid_from="from", valid_to="to")
    assert no_tombstones(wanted) == '"to" IS NULL OR "from" < "to"'
