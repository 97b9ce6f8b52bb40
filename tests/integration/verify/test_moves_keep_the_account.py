"""Whatever ranges, skips, rewinds and rewrites follow each other, the account is a model's."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import event, given, settings
from hypothesis import strategies as st

from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Skip
from raylake.delta.rewinding import Rewind, survey
from raylake.errors import Refused
from raylake.ingest.unit import Counts
from raylake.tables import requests
from raylake.tables.proposals import Proposal
from raylake.tables.upkeep_requests import Compact
from tests.integration.verify.lake import PIPELINE, TABLE, Lake, Span
from tests.integration.verify.test_deliberate_moves import P0, offsets
from tests.integration.verify.test_rewrites_keep_the_account import proposed

MORE = os.environ.get("RAYLAKE_EXAMPLES")
FATES = ("rows", "dead", "absent")


@dataclass(frozen=True)
class Ingest:
    fates: tuple[str, ...]


@dataclass(frozen=True)
class Leave:
    many: int


@dataclass(frozen=True)
class Back:
    share: float


@dataclass(frozen=True)
class Delete:
    """Rows from an offset on leave, three of them at most; meanwhile others come."""

    first: int
    meanwhile: int


@dataclass(frozen=True)
class Tidy:
    """Files are written anew."""


Step = Ingest | Leave | Back | Delete | Tidy
PLAIN = st.lists(st.sampled_from(FATES), min_size=1, max_size=6)
STEPS = st.lists(
    st.one_of(
        st.builds(lambda fates: Ingest(tuple(fates)), PLAIN),
        st.builds(Leave, st.integers(1, 5)),
        st.builds(Back, st.floats(0, 0.99)),
        st.builds(Delete, st.integers(0, 30), st.integers(0, 3)),
        st.just(Tidy()),
    ),
    min_size=1,
    max_size=8,
)


@dataclass
class Model:
    """What became of each offset."""

    origin: int
    fates: list[str] = field(default_factory=list)

    @property
    def next(self) -> int:
        return self.origin + len(self.fates)

    def of(self, fate: str) -> list[int]:
        return [self.origin + n for n, one in enumerate(self.fates) if one == fate]

    @property
    def counts(self) -> Counts:
        return Counts(**Counter(self.fates))


def _apply(lake: Lake, model: Model, step: Step) -> None:
    match step:
        case Ingest(fates=fates):
            start = model.next
            model.fates += fates
            new = [(start + n, fate) for n, fate in enumerate(fates)]
            dead, absent = (frozenset(o for o, f in new if f == fate) for fate in FATES[1:])
            lake.ingest(Span(0, start, model.next, dead, absent))
        case Leave(many=many):
            model.fates += ["dropped"] * many
            lake.owner.move(Skip(PIPELINE, {P0: model.next}))
        case Back(share=share) if model.fates:
            end = model.origin + int(len(model.fates) * share)
            order = Rewind(PIPELINE, {P0: end}, True, str(lake.letters), TABLE)
            if _refused(order, lake):
                kinds = {f for f in model.fates if f in ("absent", "dropped")}
                assert kinds == {"absent", "dropped"}, "it could be told"
                event("refused")
                return
            lake.owner.move(order)
            lake.settle()
            del model.fates[end - model.origin :]
            event("rewound")
        case Delete():
            _delete(lake, model, step)
        case Tidy():
            _rewrite(lake, proposed(lake, Compact()))


def _delete(lake: Lake, model: Model, step: Delete) -> None:
    last = step.first + 2
    where = f"_partition = 0 AND _offset BETWEEN {step.first} AND {last}"
    found = proposed(lake, requests.Delete(where))
    for offset in model.of("rows"):
        if step.first <= offset <= last:
            model.fates[offset - model.origin] = "dropped"
    if step.meanwhile:
        _apply(lake, model, Ingest(("rows",) * step.meanwhile))
    _rewrite(lake, found)


def _rewrite(lake: Lake, found: Proposal) -> None:
    if found.rewritten is not None:
        lake.owner.rewrites().rewrite(found.rewritten)
        event(found.rewritten.operation)


def _refused(order: Rewind, lake: Lake) -> bool:
    """Whether what leaves cannot be told exactly; no other refusal may be."""
    try:
        survey(order, lake.owner.states(), LogReader(str(lake.table)))
    except Refused as error:
        if "cannot be told any more" in error.message:
            return True
        raise
    return False


@pytest.mark.spec("A13")
@settings(max_examples=int(MORE or 15), derandomize=MORE is None)
@given(origin=st.integers(0, 3), steps=STEPS)
def test_any_sequence_of_ranges_skips_rewinds_and_rewrites_is_accounted_for(
    origin: int, steps: list[Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, model = Lake(Path(folder)), Model(origin)
        lake.owner.admit({P0: origin})
        for step in steps:
            _apply(lake, model, step)
        state = lake.owner.states()[P0]
        assert (state.origin, state.next, state.totals) == (origin, model.next, model.counts)
        assert offsets(lake.table, 0) == model.of("rows")
        assert offsets(lake.letters, 0, "") == model.of("dead")
        report = lake.verify("data")
        assert report.ok, report.findings


@pytest.mark.spec("A13")
@settings(max_examples=int(MORE or 10), derandomize=MORE is None)
@given(steps=STEPS, which=st.integers(0, 99))
def test_a_row_that_somebody_else_took_is_never_counted_as_one_of_ours(
    steps: list[Step], which: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake, model = Lake(Path(folder)), Model(0)
        lake.owner.admit({P0: 0})
        for step in [Ingest(("rows",) * 8), Delete(which % 7, 0), *steps]:
            _apply(lake, model, step)
        if not model.of("rows"):
            return
        lost = model.of("rows")[which % len(model.of("rows"))]
        states = lake.owner.states()
        DeltaTable(lake.table).delete(f"_offset = {lost}")
        for end in range(model.next):
            order = Rewind(PIPELINE, {P0: end}, True, str(lake.letters), TABLE)
            try:
                found = survey(order, states, LogReader(str(lake.table)))
            except Refused:
                assert end
                event("refused")
                continue
            # It leaves with what is read again, and what stays is what it was.
            assert lost >= end
            assert found.partitions[P0].now.totals == Counts(**Counter(model.fates[:end]))
            event("can be gone back to")
