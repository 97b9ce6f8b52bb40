"""What a Spark query or a kafka-delta-ingest job has left in an object store, adopted as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import CommitProperties, Transaction, write_deltalake

from raylake.delta.ledger import states_of
from raylake.delta.log_reader import LogReader
from raylake.storage.access import delta_options
from raylake.storage.dev import StoreInfo
from raylake.storage.objects import StorePath
from tests.harness.broker import LiveBroker
from tests.harness.store import KEY_VARIABLE, access_to
from tests.harness.store_proxy import StoreProxy
from tests.harness.typed import Type
from tests.integration.pipeline.records import Record, produce

QUERY = "4ff3ad3f-7c1e-4f19-b1e0-1f0d0a2f4a11"
COUNT = 20


@pytest.fixture(scope="module")
def topic(broker: LiveBroker) -> str:
    name = broker.create_topic("from-a-store", partitions=2)
    produce(broker, name, [Record({"id": n}, partition=n % 2) for n in range(2 * COUNT)])
    return name


@pytest.fixture
def file(broker: LiveBroker, topic: str, store: StoreInfo, store_lake: str, tmp_path: Path) -> Path:
    """A pipeline whose lake is in the store."""
    table = {"topics": [topic], "schema": {"id": "long"}}
    document = {
        "pipeline": "stored",
        "lake": store_lake,
        "stores": {f"s3://{store.bucket}": {**access_to(store), "allow_http": True}},
        "kafka": {"bootstrap": broker.bootstrap},
        "bronze": {"spark": table, "ingest": table},
    }
    path = tmp_path / "stored.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def theirs(address: str, *txns: dict[str, int]) -> None:
    """A table of somebody else's: one commit for each mapping of txns."""
    for one in txns:
        found = [Transaction(app, version) for app, version in one.items()]
        write_deltalake(
            address,
            pa.table({"id": [1]}),
            mode="append",
            storage_options=delta_options(address),
            commit_properties=CommitProperties(app_transactions=found),
        )


def checkpoint(address: str, topic: str, *, begun: int, done: int) -> None:
    """A query's checkpoint; batch N ends at N + 1 and N + 2."""
    root = StorePath(address)
    (root / "metadata").put(json.dumps({"id": QUERY}).encode())
    for batch in range(begun + 1):
        ends = json.dumps({topic: {"0": batch + 1, "1": batch + 2}})
        (root / "offsets" / str(batch)).put(f"v1\n{{}}\n{ends}".encode())
    for batch in range(done + 1):
        (root / "commits" / str(batch)).put(b"v1\n{}")


def positions(address: str) -> dict[int, int]:
    states = states_of(LogReader(address).snapshot().txns)
    return {source.partition: state.next for (_, source), state in states.items()}


@pytest.mark.spec("A13", "C8")
@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_query_whose_checkpoint_and_table_are_in_a_store(
    file: Path, topic: str, store_lake: str, type_: Type, scheme: str
) -> None:
    theirs(f"{store_lake}/theirs", {QUERY: 10}, {QUERY: 11})
    checkpoint(f"{store_lake}/checkpoint", topic, begun=11, done=10)
    source = f"{scheme}{store_lake.removeprefix('s3')}"
    order = ["adopt", str(file), "bronze.spark", "--from", "spark-checkpoint"]
    order += ["--source", f"{source}/checkpoint/"]
    code, said = type_(*order)
    assert (code, said["code"]) == (5, "refused"), said
    assert "batch 11 was begun" in said["message"]
    order += ["--with", f"sink={source}/theirs"]
    code, said = type_(*order, "--dry-run")
    assert (code, said["version"]) == (0, None), said
    code, said = type_(*order)
    assert (code, said["adopted"]["batch"]) == (0, 11), said
    assert said["adopted"]["checkpoint"] == f"{store_lake}/checkpoint"
    assert positions(f"{store_lake}/bronze/spark") == {0: 12, 1: 13}


@pytest.mark.spec("A13", "C8")
def test_a_jobs_table_in_a_store(file: Path, topic: str, store_lake: str, type_: Type) -> None:
    theirs(f"{store_lake}/theirs", {"etl-0": 4}, {"etl-0": 9, "etl-1": 7})
    order = ["adopt", str(file), "bronze.ingest", "--from", "kafka-delta-ingest"]
    code, said = type_(*order, "--source", f"{store_lake}/theirs")
    assert code == 0, said
    assert positions(f"{store_lake}/bronze/ingest") == {0: 10, 1: 8}


@pytest.mark.parametrize(
    ("kind", "where", "exit_code", "said"),
    [
        ("kafka-delta-ingest", "{lake}/nothing", 2, "is not a Delta table"),
        ("kafka-delta-ingest", "s3://no-such-bucket/x", 2, "there is no such bucket"),
        ("spark-checkpoint", "{lake}/nothing", 2, "holds no numbered file"),
        ("spark-checkpoint", "s3://no-such-bucket/x", 2, "there is no such bucket"),
        ("spark-checkpoint", "hdfs://name/x", 2, "not a store that is known"),
    ],
)
def test_what_is_not_there_is_named(
    file: Path, store: StoreInfo, store_lake: str, type_: Type, kind: str, where: str,
    exit_code: int, said: str,
) -> None:  # fmt: skip
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["stores"]["s3://no-such-bucket"] = document["stores"][f"s3://{store.bucket}"]
    file.write_text(yaml.safe_dump(document))
    source = where.format(lake=store_lake)
    code, error = type_("adopt", str(file), "bronze.ingest", "--from", kind, "--source", source)
    assert code == exit_code, error
    assert said in error["message"]


def test_another_wrong_key_for_their_bucket_is_named(
    file: Path, store: StoreInfo, store_lake: str, type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bucket's access is a matter of its own: the lake here is on the disk."""
    checkpoint(f"{store_lake}/checkpoint", "any", begun=1, done=1)
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["lake"] = str(file.parent / "lake")
    file.write_text(yaml.safe_dump(document))
    monkeypatch.setenv(KEY_VARIABLE, "another")
    for kind in ("spark-checkpoint", "kafka-delta-ingest"):
        order = ("adopt", str(file), "bronze.spark", "--from", kind, "--source")
        code, error = type_(*order, f"{store_lake}/checkpoint")
        assert (code, error["code"]) == (2, "configuration"), error
        assert "secret_access_key does not belong to access_key_id" in error["message"]


def test_a_store_that_does_not_answer_says_nothing_of_the_checkpoint(
    file: Path, topic: str, store_lake: str, proxy: StoreProxy, type_: Type
) -> None:
    checkpoint(f"{store_lake}/checkpoint", topic, begun=1, done=1)
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    document["lake"] = str(file.parent / "lake")
    for access in document["stores"].values():
        access["endpoint"] = proxy.endpoint
    file.write_text(yaml.safe_dump(document))
    order = ["adopt", str(file), "bronze.spark", "--from", "spark-checkpoint", "--source"]
    for path in ("/metadata", "/offsets/1", "/commits/1", "list-type"):
        with proxy.fault("answer", method="GET", path=path):
            code, error = type_(*order, f"{store_lake}/checkpoint")
        assert (code, error["code"]) == (4, "unreachable"), (path, error)
    code, said = type_(*order, f"{store_lake}/checkpoint")
    assert code == 0, said
