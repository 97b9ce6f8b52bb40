"""Operations on one table by several clients: each lands, one after the other (DESIGN §6)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from raylake.delta.ledger import OWNER_APP, owner_number
from raylake.errors import LogDamaged
from raylake.tables import errors
from raylake.tables.alongside import Alongside
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import Advance, Append, Create, Delete, Restore, Update, Upsert
from raylake.tables.routing import USUAL, Allowance
from raylake.tables.upkeep_requests import Compact, Vacuum
from tests.integration.tables.client import Client
from tests.integration.tables.conftest import SCHEMA, rows

Held = Callable[[], dict[int, int]]
Two = tuple[Client, Client]


@pytest.mark.spec("C6")
def test_two_clients_that_change_the_same_rows_lose_no_update(
    clients: Two, table: str, held: Held
) -> None:
    rounds = 4
    for _ in range(rounds):
        for client in clients:
            client.begin("execute", table, Update({"n": "n + 1"}))
        for client in clients:
            assert client.answer().attempts == 1
    assert held() == dict.fromkeys((1, 2, 3), 2 * rounds)
    history = DeltaTable(table).history()
    assert len([one for one in history if one["operation"] == "UPDATE"]) == 2 * rounds
    # One owner, one epoch, a number for each: whoever asked.
    assert DeltaTable(table).transaction_version(OWNER_APP) == owner_number(1, 2 * rounds)


@pytest.mark.spec("C6")
def test_two_clients_that_merge_the_same_keys_at_the_same_time_both_land(
    clients: Two, table: str, held: Held
) -> None:
    for n, client in enumerate(clients, start=1):
        source = rows(2, 3, 10 + n, n=n)
        client.begin("execute", table, Upsert(source, ("id",), update_when="source.n > target.n"))
    first, second = (client.answer() for client in clients)
    assert {first.version_after, second.version_after} == {3, 4}
    assert held() == {1: 0, 2: 2, 3: 2, 11: 1, 12: 2}


@pytest.mark.spec("C6")
def test_failure_22_appends_and_merges_and_deletes_on_one_table_all_land(
    clients: Two, table: str, held: Held
) -> None:
    appender, merger = clients
    attempts = []
    for step in range(4):
        appender.begin("execute", table, Append(rows(100 + step)))
        what = Delete(f"id = {99 + step}") if step % 2 else Upsert(rows(1, 50, n=step), ("id",))
        merger.begin("execute", table, what)
        # And somebody who knows nothing of the owner.
        _append_elsewhere(table, rows(200 + step))
        attempts += [appender.answer().attempts, merger.answer().attempts]
    found = held()
    assert {101, 103, 200, 201, 202, 203, 1, 2, 3, 50} <= set(found)
    assert (found[1], found[50]) == (2, 2)
    assert max(attempts) <= 10


def _append_elsewhere(table: str, more: pa.Table) -> None:
    """By a plain writer: delta-rs gives up an append beside a commit that removes files."""
    for _ in range(9):
        with contextlib.suppress(CommitFailedError):
            return write_deltalake(table, more, mode="append")
    return write_deltalake(table, more, mode="append")


def test_slots_are_for_tables_that_log_no_offsets(clients: Two, table: str, held: Held) -> None:
    properties = {"delta.appendOnly": "true"}
    own = DeltaTable(table)
    own.alter.set_table_properties(
        properties,
        commit_properties=_txns({OWNER_APP: 1, "raylake/shop/orders/topic-id/0/next": 3}),
    )
    # What its pipeline's owner does beside ingestion: tests/integration/pipeline.
    with pytest.raises(errors.OwnerOnly, match="what its pipeline brings"):
        clients[0].do("execute", table, Append(rows(9)))
    # Its rows say nothing of Kafka: they cannot be counted.
    with pytest.raises(errors.FeatureUnsupported, match="_offset"):
        clients[0].do("execute", table, Delete("id = 1"))
    with pytest.raises(errors.OwnerOnly) as caught:
        clients[0].do("execute", table, Restore(version=0))
    assert "raylake rewind" in caught.value.hint
    assert held() == {1: 0, 2: 0, 3: 0}


def test_a_new_table_is_made_without_an_owner_and_gets_one_with_its_first_rows(
    clients: Two, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address = str(tmp_path_factory.mktemp("new") / "t")
    made = clients[0].do("execute", address, Create(SCHEMA))
    assert (made.version_before, made.version_after) == (-1, 0)
    result = clients[0].do("execute", address, Append(rows(1)))
    assert (result.version_before, result.version_after) == (1, 2)
    assert result.engine == "delta-rs"
    assert "touches at most 0 of 0 files" in result.why
    with pytest.raises(errors.OwnerOnly, match="has an owner"):
        DeltaRsEngine().execute(address, Append(rows(2)))


def test_upkeep_goes_the_same_way(clients: Two, table: str, held: Held) -> None:
    client = clients[0]
    client.do("execute", table, Append(rows(4)))
    compacted = client.do("execute", table, Compact())
    assert (compacted.files.added, compacted.files.removed) == (1, 2)
    assert DeltaTable(table).transaction_version(OWNER_APP) == owner_number(1, 2)
    # What makes no version leaves its number to the next one.
    assert not client.do("execute", table, Vacuum(dry_run=True)).changed
    assert client.do("execute", table, Append(rows(5))).changed
    assert DeltaTable(table).transaction_version(OWNER_APP) == owner_number(1, 3)
    assert set(held()) == {1, 2, 3, 4, 5}


@pytest.mark.spec("D1", "C6")
def test_rows_and_progress_are_one_commit_whoever_tries(
    clients: Two, table: str, held: Held
) -> None:
    app = "raylake/from/a-source"
    for step in range(3):
        carried = Alongside({app: step}, {app: step - 1 if step else None}, {"step": step})
        for n, client in enumerate(clients):
            source = rows(1, 10 * (step + 1) + n, n=step)
            client.begin("execute", table, Upsert(source, ("id",)), "auto", carried)
        ends = []
        for client in clients:
            try:
                ends.append(client.answer().changed)
            except errors.ProgressMoved as moved:
                ends.append(moved.table_changed)
        assert sorted(ends) == [False, True]
        handle = DeltaTable(table)
        assert handle.transaction_version(app) == step
        # A slot whose operation was refused leaves its number to the next one.
        assert handle.transaction_version(OWNER_APP) == owner_number(1, step + 1)
        assert handle.history(1)[0]["raylake_operation"]["step"] == step
    assert (held()[1], len(held())) == (2, 6)
    # What changes no row is a version too, of the small worker and of a process with a limit.
    clients[0].do("execute", table, Advance(), "auto", Alongside({app: 3}, {app: 2}))
    clients[0].do("allow", Allowance(in_process_bytes=0))
    clients[0].do("execute", table, Delete("id = 999"), "auto", Alongside({app: 4}, {app: 3}))
    with pytest.raises(errors.ProgressMoved) as moved:
        clients[0].do("execute", table, Append(rows(77)), "auto", Alongside({app: 4}, {app: 3}))
    clients[0].do("allow", USUAL)
    assert moved.value.context == {"app": app, "expected": 3, "found": 4}
    assert (DeltaTable(table).transaction_version(app), len(held())) == (4, 6)


def _restore(table: str) -> None:
    DeltaTable(table).restore(1)


def _overwrite(table: str) -> None:
    write_deltalake(table, rows(77), mode="overwrite")


@pytest.mark.spec("C6")
@pytest.mark.parametrize("others", [_restore, _overwrite], ids=["restore", "overwrite"])
def test_failure_41_a_table_that_somebody_else_put_another_state_into_is_refused_once(
    clients: Two, table: str, others: Callable[[str], None]
) -> None:
    client = clients[0]
    client.do("execute", table, Append(rows(4)))
    others(table)
    left = DeltaTable(table).version()
    with pytest.raises(LogDamaged, match="past its owner") as caught:
        client.do("execute", table, Append(rows(5)))
    assert "run the operation again" in caught.value.hint
    assert DeltaTable(table).version() == left
    # Whoever says it again means the table that is there: a new owner begins with it.
    result = client.do("execute", table, Append(rows(5)))
    assert result.version_after == left + 2
    assert DeltaTable(table).transaction_version(OWNER_APP) == owner_number(2, 1)


@pytest.mark.spec("C6")
def test_failure_41_a_table_that_was_dropped_and_created_again_is_refused_once(
    clients: Two, table: str, held: Held
) -> None:
    client = clients[0]
    client.do("execute", table, Append(rows(4)))
    write_deltalake(table + "-new", pa.table({"id": [9], "n": [9]}, schema=SCHEMA))
    _replace_folder(table)
    with pytest.raises(errors.TableReplaced, match="dropped and created again"):
        client.do("execute", table, Append(rows(5)))
    assert held() == {9: 9}
    assert client.do("execute", table, Append(rows(5))).changed
    assert held() == {9: 9, 5: 0}


def _replace_folder(table: str) -> None:
    shutil.rmtree(table)
    shutil.move(table + "-new", table)


def _txns(values: dict[str, int]) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(k, v) for k, v in values.items()])
