"""Whatever ranges, skips and rewinds follow each other, the account is that of a simple model."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from raylake.delta.log_reader import LogReader
from raylake.delta.moves import Skip
from raylake.delta.rewinding import Rewind, survey
from raylake.errors import Refused
from raylake.ingest.unit import Counts
from tests.integration.verify.lake import PIPELINE, TABLE, Lake, Span
from tests.integration.verify.test_deliberate_moves import P0, offsets

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


Step = Ingest | Leave | Back
PLAIN = st.lists(st.sampled_from(FATES), min_size=1, max_size=6)
STEPS = st.lists(
    st.one_of(
        st.builds(lambda fates: Ingest(tuple(fates)), PLAIN),
        st.builds(Leave, st.integers(1, 5)),
        st.builds(Back, st.floats(0, 0.99)),
    ),
    min_size=1,
    max_size=7,
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
@settings(max_examples=int(MORE or 40), derandomize=MORE is None)
@given(origin=st.integers(0, 3), steps=STEPS)
def test_any_sequence_of_ranges_skips_and_rewinds_is_accounted_for(
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
