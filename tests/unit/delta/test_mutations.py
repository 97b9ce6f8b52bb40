"""The five mutations of DESIGN §4: each must make the schedules of the simulation fail.

A mutation is a change of the product's source in a copy of its module; what the copy defines then
replaces the original for one run. A mutation whose text is no longer there fails this test too.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import pytest

from raylake.delta import ledger, owner_core, table_state
from raylake.ingest.unit import PartitionState
from tests.harness import simulated_delta
from tests.harness.simulated_delta import World, run_schedule

SEEDS = range(120)


def mutated(module: types.ModuleType, old: str, new: str) -> types.ModuleType:
    """A copy of a module with one place of its source changed."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{module.__name__} has {source.count(old)} × {old!r}"
    copy = types.ModuleType(module.__name__)
    copy.__file__ = module.__file__
    code = compile(source.replace(old, new), str(module.__file__), "exec", dont_inherit=True)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        # Dataclasses with slots look their module up by name.
        patch.setitem(__import__("sys").modules, module.__name__, copy)
        exec(code, copy.__dict__)
    return copy


def caught() -> str:
    """What the first failing schedule says; empty when all pass."""
    for seed in SEEDS:
        try:
            run_schedule(seed)
        except AssertionError as error:
            return str(error)
    return ""


def equals_becomes_at_least_in_the_ranges(patch: pytest.MonkeyPatch) -> None:
    copy = mutated(ledger, "if start == table_end:", "if start >= table_end:")
    patch.setattr(
        ledger,
        "relation",
        lambda *args: ledger.Relation(copy.relation(*args).value),
    )
    # The second line of defence is taken away as well.
    lax = mutated(ledger, "if one.start != state.next:", "if one.start < state.next:")
    patch.setattr(ledger, "advance", lax.advance)


def equals_becomes_at_least_in_the_owner_check(patch: pytest.MonkeyPatch) -> None:
    copy = mutated(
        owner_core,
        "if stored == self.number:",
        "if stored is not None and stored >= self.number:",
    )
    patch.setattr(owner_core.OwnerCore, "_check_number", copy.OwnerCore._check_number)


def a_second_handle_for_the_handle(patch: pytest.MonkeyPatch) -> None:
    copy = mutated(
        owner_core,
        "self.table.create_write_transaction(",
        "type(self.table)(self.root).create_write_transaction(",
    )
    patch.setattr(owner_core.OwnerCore, "_swap", copy.OwnerCore._swap)


def the_groups_offset_for_the_txn(patch: pytest.MonkeyPatch) -> None:
    worlds: list[World] = []
    create = World.__init__

    def remember(self: World, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        worlds.append(self)

    def from_group(values: dict[str, int]) -> PartitionState | None:
        state = ledger.state_from_values(values)
        if state is None or not worlds[-1].group:
            return state
        behind = min(worlds[-1].group.values())
        return PartitionState(state.origin, min(behind, state.next), state.totals)

    patch.setattr(World, "__init__", remember)
    patch.setattr(table_state, "state_from_values", from_group)


def last_offset_for_next_offset(patch: pytest.MonkeyPatch) -> None:
    copy = mutated(ledger, "next=one.end,", "next=one.end - 1,")
    patch.setattr(ledger, "advance", copy.advance)


def the_epoch_check_left_out(patch: pytest.MonkeyPatch) -> None:
    guarded = "self._guard.check_foreign(int(self.table.version()))"
    copy = mutated(owner_core, f"self._check_number()\n            {guarded}", guarded)
    patch.setattr(owner_core.OwnerCore, "refresh", copy.OwnerCore.refresh)


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    equals_becomes_at_least_in_the_ranges,
    equals_becomes_at_least_in_the_owner_check,
    a_second_handle_for_the_handle,
    the_groups_offset_for_the_txn,
    last_offset_for_next_offset,
    the_epoch_check_left_out,
]


@pytest.mark.spec("A3")
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_the_schedules_catch_each_mutation(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert caught(), f"no schedule of {SEEDS} notices: {mutation.__name__}"


def test_the_schedules_pass_without_a_mutation() -> None:
    assert caught() == ""
    assert simulated_delta.FAULTS


def test_a_copy_without_change_is_no_mutation(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = mutated(owner_core, "if stored == self.number:", "if self.number == stored:")
    monkeypatch.setattr(owner_core.OwnerCore, "_check_number", copy.OwnerCore._check_number)
    assert caught() == ""
