"""What is held, against a model of its rules, over any order of calls."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raylake.clock import ManualClock
from raylake.tables.errors import TooLargeToHold
from raylake.tables.held_versions import HeldKey, HeldVersions

LIMIT = 20
KEYS = st.builds(
    HeldKey,
    st.sampled_from("tu"),
    st.integers(0, 2),
    st.sets(st.sampled_from("abc"), min_size=1).map(lambda names: tuple(sorted(names))),
)


def _same(one: HeldKey, other: HeldKey) -> bool:
    return (one.table_id, one.version) == (other.table_id, other.version)


class HeldMachine(RuleBasedStateMachine):
    """The model is a list of keys and sizes, the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = LIMIT
        self.held: HeldVersions[HeldKey] = HeldVersions(LIMIT, ManualClock())
        self.model: list[tuple[HeldKey, int]] = []

    def _fit(self, room: int) -> None:
        while sum(size for _, size in self.model) > room:
            self.model.pop(0)

    @rule(key=KEYS, size=st.integers(0, LIMIT + 5))
    def add(self, key: HeldKey, size: int) -> None:
        if size > self.limit:
            with pytest.raises(TooLargeToHold):
                self.held.add("t", key, (size, 1), key)
            return
        self.held.add("t", key, (size, 1), key)
        self.model = [
            (one, its)
            for one, its in self.model
            if not (_same(one, key) and set(one.columns) <= set(key.columns))
        ]
        self._fit(self.limit - size)
        self.model.append((key, size))

    @rule(key=KEYS)
    def use(self, key: HeldKey) -> None:
        found = self.held.use(key)
        would = [
            (size, at)
            for at, (one, size) in enumerate(self.model)
            if _same(one, key) and set(key.columns) <= set(one.columns)
        ]
        assert (found is not None) == bool(would)
        if found is not None:
            assert found[1] == found[0].key == self.model[min(would)[1]][0]
            self.model.append(self.model.pop(min(would)[1]))

    @rule(key=KEYS, whole=st.booleans())
    def release(self, key: HeldKey, whole: bool) -> None:
        version = None if whole else key.version
        gone = [
            one
            for one in self.model
            if one[0].table_id == key.table_id and version in (None, one[0].version)
        ]
        assert [(one.key, one.bytes) for one in self.held.release(key.table_id, version)] == gone
        self.model = [one for one in self.model if one not in gone]

    @rule(limit=st.integers(1, LIMIT))
    def limited(self, limit: int) -> None:
        self.limit = limit
        self.held.limit(limit)
        self._fit(limit)

    @invariant()
    def is_as_the_model_and_within_the_limit(self) -> None:
        assert [(one.key, one.bytes) for one in self.held.listed()] == self.model
        assert self.held.bytes <= self.limit


TestHeldVersions = HeldMachine.TestCase
