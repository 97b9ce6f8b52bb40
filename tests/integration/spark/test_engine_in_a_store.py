"""Tables in an S3-compatible store on Spark: what it computes there RayLake commits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pyarrow as pa
import pytest
from botocore.config import Config
from py4j.protocol import Py4JJavaError

from raylake.config.stores import StoreAccess
from raylake.delta.log_commit import LogCommit, commit_after
from raylake.errors import RayLakeError
from raylake.spark.engine import SparkEngine
from raylake.spark.engine_open import address
from raylake.spark.session import own_session
from raylake.spark.settings import SCHEME
from raylake.storage.access import reached, use_stores
from raylake.storage.dev import StoreInfo
from raylake.storage.objects import StorePath
from raylake.storage.place import Place
from raylake.tables import errors
from raylake.tables.delta_rs import DeltaRsEngine
from raylake.tables.requests import (
    Append,
    Create,
    Delete,
    Overwrite,
    Restore,
    Scd2,
    Update,
    Upsert,
)
from raylake.tables.scd2 import table_for
from raylake.tables.upkeep_requests import (
    AddConstraint,
    Compact,
    Repartition,
    SetProperties,
    ZOrder,
)
from tests.harness.store import KEY_VARIABLE, access_to, store, store_lake
from tests.harness.tables import FEED, SCHEMA, Table, number, orders, takes_over

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["store", "store_lake"]

EPOCH = 3
READ_AND_WRITE = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
slot = partial(number, epoch=EPOCH)


def stored(spark: SparkSession, where: str) -> Table:
    """A table in a store; each operation has a session that knows the table's keys alone."""
    return Table(SparkEngine(partial(own_session, spark)), cast("Path", StorePath(where)))


def objects(table: Table) -> list[str]:
    """The keys of all objects below a table, markers of folders among them."""
    where = StorePath(str(table.path))
    bucket = where.address.split("/")[2]
    access = reached(where.address).options
    listed = boto3.client(
        "s3",
        endpoint_url=access["aws_endpoint"],
        region_name="us-east-1",
        aws_access_key_id=access["aws_access_key_id"],
        aws_secret_access_key=access["aws_secret_access_key"],
    ).list_objects_v2(Bucket=bucket, Prefix=f"{where.key}/")
    return [one["Key"].removeprefix(f"{where.key}/") for one in listed["Contents"]]


def assert_secret_free(text: str, people: dict[str, StoreAccess]) -> None:
    for access in people.values():
        assert access.secret_access_key is not None
        assert access.secret_access_key.resolve() not in text


@pytest.fixture
def people(
    store: StoreInfo, store_lake: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, StoreAccess]]:
    """Two users of one bucket, each of whom may read and write below a folder of their own."""
    users: Any = boto3.client(
        "iam",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=store.secret_access_key,
        config=Config(parameter_validation=False),
    )
    folder, found, made = store_lake.removeprefix("s3://"), {}, []
    for name in ("ada", "grace"):
        user = f"{name}-{uuid.uuid4().hex[:8]}"
        users.create_user(UserName=user)
        mine = f"arn:aws:s3:::{folder}/{name}/*"
        allowed = [
            {"Effect": "Allow", "Action": READ_AND_WRITE, "Resource": mine},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"},
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        users.put_user_policy(UserName=user, PolicyName="mine", PolicyDocument=policy)
        key = users.create_access_key(UserName=user)["AccessKey"]
        made.append((user, key["AccessKeyId"]))
        variable = f"{KEY_VARIABLE}_{name.upper()}"
        monkeypatch.setenv(variable, key["SecretAccessKey"])
        entry = access_to(store, access_key_id=key["AccessKeyId"])
        found[name] = StoreAccess.model_validate(
            {**entry, "secret_access_key": f"env:{variable}", "allow_http": True}
        )
    yield found
    for user, key_id in made:
        users.delete_access_key(UserName=user, AccessKeyId=key_id)
        users.delete_user_policy(UserName=user, PolicyName="mine")
        users.delete_user(UserName=user)


@pytest.fixture
def table(spark: SparkSession, store_lake: str) -> Table:
    """A hundred rows in version 1, with a change feed."""
    made = stored(spark, f"{store_lake}/orders")
    made.do(Create(SCHEMA, properties=FEED))
    made.do(Append(orders(range(100))))
    return made


@pytest.mark.spec("C1", "C2", "C8")
def test_rows_are_merged_deleted_and_compacted_in_a_store(table: Table) -> None:
    takes_over(table.path, EPOCH)
    merged = table.do(Upsert(orders([0, 200], 2), ("id",)), slot(1))
    assert (merged.engine, merged.version_after) == ("spark", 3)
    assert (merged.rows.inserted, merged.rows.updated) == (1, 1)
    assert table.do(Delete("id >= 50 AND id < 100"), slot(2)).rows.deleted == 50
    compacted = table.do(Compact(), slot(3))
    assert (compacted.files.added, compacted.version_after) == (1, 5)
    wanted = {0: 2, **dict.fromkeys(range(1, 50), 1), 200: 2}
    assert table.amounts() == wanted
    assert table.ids(version=1) == list(range(100))
    assert table.changes(from_version=3, to_version=3) == [
        (3, "insert", 200, 2),
        (3, "update_postimage", 0, 2),
        (3, "update_preimage", 0, 1),
    ]
    # Under the owner's number each was applied once, and delta-rs reads what there is.
    with pytest.raises(errors.SlotClosed):
        table.do(Delete("id = 1"), slot(3))
    assert Table(DeltaRsEngine(), table.path).amounts() == wanted
    engines = [one.engine for one in table.engine.history(str(table.path), 3)]
    assert all("Apache-Spark" in one and one.endswith(" RayLake") for one in engines)
    left = objects(table)
    assert not [one for one in left if one.endswith("/") or "_raylake_rows" in one], left
    assert not [one for one in left if "rewrite-" in one and "_delta_log" in one], left


@pytest.mark.spec("C8")
def test_each_table_is_reached_with_its_own_keys_and_no_other_by_them(
    spark: SparkSession, people: dict[str, StoreAccess], store_lake: str
) -> None:
    tables = {name: f"{store_lake}/{name}/orders" for name in people}
    use_stores({f"{store_lake}/{name}": access for name, access in people.items()})
    for where in tables.values():
        stored(spark, where).do(Create(SCHEMA))
    # In turn, so that each finds what Hadoop and Delta kept of the other.
    for step in range(2):
        for where in tables.values():
            stored(spark, where).do(Append(orders([step])))
    for where in tables.values():
        assert stored(spark, where).ids() == [0, 1]
    sessions = {name: own_session(spark, where) for name, where in tables.items()}
    assert len({one.conf.get(SCHEME) for one in sessions.values()}) == 2
    theirs = address(StorePath(tables["grace"]), sessions["ada"])
    reads_and_writes: list[Callable[[], Any]] = [
        lambda: sessions["ada"].read.format("delta").load(theirs).count(),
        lambda: sessions["ada"].read.parquet(theirs).count(),
        lambda: sessions["ada"].range(1).write.parquet(f"{theirs}/more"),
    ]
    for what in reads_and_writes:
        with pytest.raises(Py4JJavaError, match="AccessDenied") as told:
            what()
        assert_secret_free(str(told.value), people)
    # One who says that these are the keys of the other's table changes nothing there.
    use_stores({store_lake: people["ada"]})
    with pytest.raises(RayLakeError) as refused:
        stored(spark, tables["grace"]).do(Append(orders([9])))
    assert_secret_free(str(refused.value), people)
    use_stores({store_lake: people["grace"]})
    assert stored(spark, tables["grace"]).ids() == [0, 1]
    # No setting of the process, which its pages and logs show, holds any of them.
    context: Any = spark.sparkContext
    conf = context._jsc.hadoopConfiguration()
    assert [conf.get(f"fs.s3a.{name}.key") for name in ("access", "secret")] == [None, None]
    assert_secret_free(json.dumps(context.getConf().getAll()), people)


def test_what_spark_would_commit_itself_in_a_store_is_refused_by_name(table: Table) -> None:
    for operation, says in (
        (Restore(version=0), "delta-rs"),
        (SetProperties({"delta.columnMapping.mode": "name"}), "no engine"),
    ):
        with pytest.raises(errors.FeatureUnsupported, match="in a store") as told:
            table.do(operation)
        assert says in told.value.hint
        assert told.value.to_dict()["table_changed"] is False
    assert table.version == 1


@pytest.mark.long
@pytest.mark.spec("C1", "C2", "C8")
def test_every_kind_of_write_works_in_a_store(table: Table) -> None:
    table.do(Update({"amount": "amount + 5"}, where="id < 10"))
    table.do(Overwrite(orders([7], 70), where="id = 7"))
    assert {n: a for n, a in table.amounts().items() if n < 11} == {
        **dict.fromkeys(range(10), 6),
        7: 70,
        10: 1,
    }
    more = orders([100]).append_column("note", pa.array(["new"]))
    assert table.do(Append(more, schema="merge")).rows.inserted == 1
    assert table.do(Upsert(orders([100, 101], 3), ("id",))).rows.inserted == 1
    assert table.amounts()[100] == 3
    table.do(AddConstraint("positive", "amount > 0"))
    with pytest.raises(errors.ValuesRefused):
        table.do(Append(orders([102], -1)))
    assert not table.do(Append(orders([]))).changed
    table.do(ZOrder(("amount",)))
    table.do(Repartition(("region",)))
    table.do(Delete("region = 'r1'"))
    table.do(SetProperties({"team": "orders"}))
    table.do(Overwrite(orders(range(3))))
    assert table.ids() == [0, 1, 2]
    assert table.ids(version=1) == list(range(100))
    assert Table(DeltaRsEngine(), table.path).ids() == [0, 1, 2]


@pytest.mark.long
@pytest.mark.spec("C2", "C8")
def test_versions_of_rows_are_kept_in_a_store(spark: SparkSession, store_lake: str) -> None:
    table = stored(spark, f"{store_lake}/history")
    keys, when = pa.array([1, 2]), pa.array([0, 1], pa.timestamp("us", "UTC"))
    changes = pa.table({"id": keys, "v": ["a", "b"], "at": when})
    later = pa.array([5, 5], pa.timestamp("us", "UTC"))
    second = pa.table({"id": keys, "v": ["a", "c"], "at": later})
    table.do(table_for(Scd2(changes, ("id",), ("at",), track=("v",))))
    for rows, made in ((changes, 2), (second, 1), (second, 0)):
        asked = Scd2(rows, ("id",), ("at",), track=("v",))
        assert table.do(asked).rows.inserted == made
    assert len(table.rows()) == 3


@pytest.mark.long
@pytest.mark.spec("C6", "C8")
def test_failure_23_another_ones_commit_of_the_same_instant_is_kept_in_a_store(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, others = commit_after, Table(DeltaRsEngine(), table.path)
    came: list[int] = []

    def after_another(root: Place, version: int, made: LogCommit) -> None:
        if not came:
            came.append(others.do(Append(orders([300]))).version_after)
        commit(root, version, made)

    monkeypatch.setattr("raylake.spark.engine_aside.commit_after", after_another)
    result = table.do(Upsert(orders([0, 200], 2), ("id",)))
    assert (came, result.version_after, result.attempts) == ([2], 3, 2)
    assert table.ids() == [*range(100), 200, 300]
