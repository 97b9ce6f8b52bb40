"""An owner's table in an object store, through what stores and networks do to requests."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from raylake.clock import SystemClock
from raylake.delta.checkpoint import CheckpointResult
from raylake.delta.checkpointer import Checkpointer
from raylake.delta.files import write_data_files
from raylake.delta.identity import TAKE_OVER, OwnerIdentity
from raylake.delta.log_reader import LogReader
from raylake.delta.owned_table import OwnedTable
from raylake.delta.spec import TableSpec, bronze_properties
from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from raylake.errors import DependencyUnreachable, Fenced, OutcomeUnknown, Refused, Retryable
from raylake.ingest.unit import Counts, OffsetRange, SourcePartition, Unit
from raylake.storage.access import delta_options
from raylake.storage.dev import DevStore, StoreInfo
from raylake.storage.objects import StorePath
from raylake.storage.place import place
from tests.harness.store import reach
from tests.harness.store_proxy import StoreProxy, store_proxy

SCHEMA = pa.schema(
    [("v", pa.string()), ("p", pa.string()), ("_partition", pa.int32()), ("_offset", pa.int64())]
)
P0 = SourcePartition("orders", "topic-id", 0)
ODD = ["a b", "ü%/x", "", "plain"]


class Table:
    """One table in the store and its owner."""

    def __init__(self, lake: str) -> None:
        self.path = f"{lake}/bronze/orders"
        properties = bronze_properties(stats_columns=("_partition", "_offset"))
        self.spec = TableSpec(self.path, SCHEMA, ("p",), properties)
        self.owner = self.attach("run-1")
        self.owner.admit({P0: 0})

    def attach(self, run: str) -> OwnedTable:
        identity = OwnerIdentity.of_this_process("orders", run)
        return OwnedTable.attach(self.spec, identity, clock=SystemClock(), claim=TAKE_OVER)

    def unit(self, start: int, end: int) -> Unit:
        rows = end - start
        columns = {
            "v": pa.array([str(o) for o in range(start, end)]),
            "p": pa.array([ODD[o % 4] for o in range(start, end)]),
            "_partition": pa.array([0] * rows, pa.int32()),
            "_offset": pa.array(range(start, end), pa.int64()),
        }
        schema = self.owner.schema
        data = pa.table(
            [columns.get(f.name, pa.nulls(rows, f.type)) for f in schema], schema=schema
        )
        files = write_data_files(self.path, data, schema, ("p",))
        span = OffsetRange(P0, start, end, Counts(rows=rows))
        return Unit("orders", "consumer-0", 1, self.owner.fingerprint, (span,), files)

    def offsets(self) -> list[int]:
        """What delta-rs reads, in order, without the proxy: a query of its holds the GIL."""
        info = DevStore(instance="tests").status()
        assert info is not None
        options = {**delta_options(self.path), "aws_endpoint": info.endpoint}
        query = QueryBuilder().register("t", DeltaTable(self.path, storage_options=options))
        found = pa.table(query.execute("SELECT _offset FROM t").read_all())
        return sorted(found.column("_offset").to_pylist())

    def entry(self, version: int) -> str:
        return f"_delta_log/{version:020d}.json"


@pytest.mark.spec("C8")
def test_a_table_in_a_store_is_filled_evolved_checkpointed_and_read(store_lake: str) -> None:
    table = Table(store_lake)
    first = table.owner.commit([table.unit(0, 40)])
    table.owner.evolve(pa.schema([("new", pa.int64())]))
    second = table.owner.commit([table.unit(40, 60)])
    assert [o.status for o in (*first, *second)] == ["committed", "committed"]
    assert table.offsets() == list(range(60))
    checkpointer = Checkpointer(table.path)
    checkpointer.start(table.owner.version, keep_from=table.owner.version)
    result = checkpointer.wait(60)
    assert isinstance(result, CheckpointResult), result
    assert result.created
    assert table.owner.commit([table.unit(60, 70)])[0].status == "committed"
    assert LogReader(table.path).snapshot().files["path"].to_pylist()
    again = table.attach("run-2")
    assert again.ends([P0])[P0].next == 70
    assert table.offsets() == list(range(70))


def test_two_owners_of_a_table_in_a_store_the_older_one_stops(store_lake: str) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    newer = table.attach("run-2")
    with pytest.raises(Fenced, match="run-2"):
        table.owner.commit([unit])
    assert newer.commit([unit])[0].status == "committed"
    assert table.offsets() == list(range(8))


@pytest.mark.parametrize("lost", [1, pytest.param(10, marks=pytest.mark.long)])
def test_failure_04_the_answer_to_a_put_that_landed_is_lost(
    store_lake: str, proxy: StoreProxy, lost: int
) -> None:
    """Once: the client puts again and is told 412. Always: the request fails."""
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    with proxy.fault("drop_answer", path=table.entry(version), times=lost) as fault:
        outcome = table.owner.commit([unit])[0]
    assert fault.done >= 1
    assert (outcome.status, outcome.version) == ("committed", version)
    assert table.owner.commit([unit])[0].status == "already"
    assert table.owner.commit([table.unit(8, 12)])[0].version == version + 1
    assert table.offsets() == list(range(12))


def test_failure_04_what_became_of_a_put_is_read_before_anything_else(
    store_lake: str, proxy: StoreProxy
) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    with (
        proxy.fault("drop_answer", path=table.entry(version)),
        proxy.fault("answer", method="GET", path=table.entry(version)),
        pytest.raises(OutcomeUnknown),
    ):
        table.owner.commit([unit])
    outcome = table.owner.commit([unit])[0]
    assert (outcome.status, outcome.version) == ("already", version)
    assert table.offsets() == list(range(8))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "answer", "status": 503},
        pytest.param(
            {"kind": "answer", "status": 500, "code": "InternalError"}, marks=pytest.mark.long
        ),
        pytest.param({"kind": "hang"}, marks=pytest.mark.long),
    ],
    ids=["503", "500", "timeout"],
)
def test_failure_18_a_put_that_the_store_does_not_take(
    store_lake: str, proxy: StoreProxy, fault: dict[str, object]
) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    with (
        proxy.fault(path=table.entry(version), **fault),  # type: ignore[arg-type]
        pytest.raises(DependencyUnreachable),
    ):
        table.owner.commit([unit])
    assert table.offsets() == []
    assert table.owner.commit([unit])[0].version == version
    assert table.offsets() == list(range(8))


def test_failure_18_one_503_is_not_even_noticed(store_lake: str, proxy: StoreProxy) -> None:
    table = Table(store_lake)
    with proxy.fault("answer", path="/bronze/orders/", times=1) as fault:
        unit = table.unit(0, 4)
        assert table.owner.commit([unit])[0].status == "committed"
    assert fault.done == 1


def test_failure_18_a_data_file_that_the_store_does_not_take(
    store_lake: str, proxy: StoreProxy
) -> None:
    table = Table(store_lake)
    with (
        proxy.fault("answer", path=".parquet"),
        pytest.raises(DependencyUnreachable, match="data file"),
    ):
        table.unit(0, 8)
    assert not [n for n in place(table.path).tree() if n.endswith(".parquet")]  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["GET", pytest.param("HEAD", marks=pytest.mark.long)])
def test_failure_18_a_log_that_cannot_be_read_is_no_damage(
    store_lake: str, proxy: StoreProxy, method: str
) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    with (
        proxy.fault("answer", method=method, path="_delta_log"),
        pytest.raises(Retryable),
    ):
        table.owner.commit([unit])
    assert table.owner.commit([unit])[0].status in ("committed", "already")
    assert table.offsets() == list(range(8))


@pytest.mark.long
def test_failure_18_half_an_answer_is_no_torn_log(store_lake: str, proxy: StoreProxy) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    with (
        proxy.fault("cut_body", method="GET", path="_delta_log"),
        pytest.raises(Retryable),
    ):
        table.owner.commit([unit])
    assert table.offsets() == []
    assert table.owner.commit([unit])[0].status == "committed"
    assert table.offsets() == list(range(8))


@pytest.mark.parametrize(
    "what",
    [
        ".parquet",
        pytest.param("_delta_log/", marks=pytest.mark.long),
        pytest.param("list-type", marks=pytest.mark.long),
    ],
)
def test_failure_18_verify_takes_a_store_that_does_not_answer_for_no_difference(
    store_lake: str, proxy: StoreProxy, what: str
) -> None:
    table = Table(store_lake)
    table.owner.commit([table.unit(0, 8)])
    tables = [TableToVerify(table.path, "bronze.orders")]
    with proxy.fault("answer", method="GET", path=what), pytest.raises(DependencyUnreachable):
        verify_pipeline(tables, f"{store_lake}/dead_letters/p", "orders", VerifyOptions("data"))


@pytest.mark.long
def test_failure_18_a_slow_store_is_only_slow(store_lake: str, proxy: StoreProxy) -> None:
    table = Table(store_lake)
    with proxy.fault("slow", delay_s=0.3) as fault:
        assert table.owner.commit([table.unit(0, 8)])[0].status == "committed"
    assert fault.done > 1


def test_a_head_that_fails_after_the_commit_doubles_nothing(
    store_lake: str, proxy: StoreProxy
) -> None:
    """The owner looks at its entry after it landed; what it knows must not hang on that."""
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    with proxy.fault("answer", method="HEAD", path=table.entry(version)):
        assert table.owner.commit([unit])[0].version == version
    assert table.owner.commit([unit])[0].status == "already"
    assert table.owner.commit([table.unit(8, 12)])[0].status == "committed"
    assert table.offsets() == list(range(12))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "ConditionalRequestConflict"),
        pytest.param(412, "PreconditionFailed", marks=pytest.mark.long),
    ],
)
def test_failure_20_a_conflict_where_nothing_was_put_is_tried_again(
    store_lake: str, proxy: StoreProxy, status: int, code: str
) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    with (
        proxy.fault("answer", path=table.entry(version), status=status, code=code) as fault,
        pytest.raises(Retryable),
    ):
        table.owner.commit([unit])
    assert fault.done >= 1
    assert table.owner.commit([unit])[0].version == version
    assert table.offsets() == list(range(8))


def test_failure_20_the_race_for_a_version_is_lost_and_run_again(
    store_lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(store_lake)
    unit = table.unit(0, 8)
    version = table.owner.version + 1
    create = StorePath.create
    other = json.dumps({"commitInfo": {"operation": "OPTIMIZE", "engineInfo": "another"}})

    def beaten(path: StorePath, data: bytes) -> None:
        if path.name == f"{version:020d}.json":
            create(path, other.encode())
        create(path, data)

    monkeypatch.setattr(StorePath, "create", beaten)
    outcome = table.owner.commit([unit])[0]
    assert (outcome.status, outcome.version) == ("committed", version + 1)
    assert table.offsets() == list(range(8))


def test_failure_19_a_store_that_ignores_conditions_is_refused(
    careless_store: StoreInfo, store_lake: str
) -> None:
    with store_proxy(careless_store.port) as proxy, proxy.fault("unconditional") as fault:
        reach(careless_store, endpoint=proxy.endpoint)
        with pytest.raises(Refused, match="let two writers commit the same version"):
            Table(store_lake)
    assert fault.done >= 3
    reach(careless_store)
    assert not place(f"{store_lake}/bronze").exists(), "nothing is left behind"
