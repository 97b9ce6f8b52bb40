"""Deleted keys are remembered for a time: late rows do not bring them back before it is over."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylake.layers.keyed_rows import DELETES
from raylake.layers.row_spec import RowWiseSpec
from raylake.tables.requests import Read
from tests.harness.derived_steps import ENGINE, NOON, Stepper, bronze, minute, put
from tests.property.test_steps_in_parts import PAYLOAD

KEEP_S = 3600.0
KEYED = RowWiseSpec(
    "silver.t",
    "upsert",
    keys=("id",),
    sequence_by=("updated_at",),
    remember_deletes_s=KEEP_S,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["row", "row", "delete"]),
        st.integers(0, 6),
        # Minutes of the clock before the step.
        st.sampled_from([1, 20, 61]),
    ),
    min_size=1,
    max_size=7,
)


class Model:
    """What the table is to hold, and remember."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, int]] = {}
        self.gone: dict[str, tuple[tuple[int, int], float]] = {}

    def take(self, key: str, kind: str, rank: tuple[int, int], now_s: float) -> None:
        if kind == "delete":
            # Nothing is forgotten but where something is remembered.
            self.gone = {k: v for k, v in self.gone.items() if v[1] >= now_s - KEEP_S}
        known = self.gone.get(key)
        if kind == "delete":
            if key in self.rows and self.rows[key] <= rank:
                del self.rows[key]
            if known is None or rank > known[0]:
                self.gone[key] = (rank, now_s)
        elif (known is None or rank > known[0]) and rank > self.rows.get(key, (-1, -1)):
            self.rows[key] = rank


@pytest.mark.spec("D1", "D4")
@settings(max_examples=8)
@given(STEPS)
@example([("b", "delete", 6, 1), ("b", "delete", 5, 61), ("b", "row", 3, 20)])
@example([("a", "row", 1, 1), ("a", "delete", 3, 1), ("a", "row", 2, 20), ("b", "delete", 0, 61),
          ("a", "row", 2, 1)])  # fmt: skip
def test_property_07_deletes_are_remembered_for_their_time(
    steps: list[tuple[str, str, int, int]],
) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as name:
        source = bronze(Path(name, "bronze"), PAYLOAD)
        table = Stepper(KEYED, source, Path(name, "silver"))
        for offset, (key, kind, at, minutes) in enumerate(steps):
            event = {"_offset": offset, "_timestamp": minute(at), "_key": key.encode()}
            if kind == "delete":
                event |= {"_tombstone": True}
            else:
                event |= {"id": key, "updated_at": minute(at), "amount": "1"}
            put(source, [event], PAYLOAD)
            table.now_s += 60 * minutes
            model.take(key, kind, (at, offset), table.now_s)
            table.step(twice=bool(offset % 2))
        found = {r["id"]: r["_offset"] for r in table.rows()}
        beside = Path(name, "silver_beside", DELETES)
        kept = ENGINE.read(str(beside), Read()).read_all() if beside.exists() else None
    assert found == {key: offset for key, (_, offset) in model.rows.items()}
    assert sorted([] if kept is None else kept.column("id").to_pylist()) == sorted(model.gone)


@pytest.mark.spec("D1")
def test_deletes_that_were_remembered_for_good_before_get_a_time_from_now_on(
    tmp_path: Path,
) -> None:
    source = bronze(tmp_path / "bronze", PAYLOAD)
    forever = RowWiseSpec("silver.t", "upsert", keys=("id",), sequence_by=("updated_at",))
    table = Stepper(forever, source, tmp_path / "silver")
    dead = {"_tombstone": True, "_timestamp": NOON}
    put(source, [{**dead, "_offset": 0, "_key": b"a"}], PAYLOAD)
    table.run()
    table.spec = KEYED
    put(source, [{**dead, "_offset": 1, "_key": b"b"}], PAYLOAD)
    table.run()
    table.now_s += 2 * KEEP_S
    put(source, [{**dead, "_offset": 2, "_key": b"c"}], PAYLOAD)
    table.run()
    beside = ENGINE.read(str(tmp_path / "silver_beside" / DELETES), Read()).read_all()
    # What has no time stays: it was remembered for good.
    assert sorted(beside.column("id").to_pylist()) == ["a", "c"]
