"""Where a Spark query stands, from files laid out as Spark lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake.delta.spark_checkpoint import read_spark_checkpoint
from raylake.errors import ConfigError, LogDamaged, RayLakeError, Refused, UnsupportedTable

QUERY = "4ff3ad3f-7c1e-4f19-b1e0-1f0d0a2f4a11"
BATCH = '{"batchWatermarkMs":0,"batchTimestampMs":1700000000000,"conf":{}}'


class Checkpoint:
    """A checkpoint's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("offsets", "commits", "sources"):
            (folder / name).mkdir(parents=True)
        (folder / "metadata").write_text(json.dumps({"id": QUERY}))

    def plan(self, batch: int, *sources: object, version: str = "v1") -> None:
        lines = [one if isinstance(one, str) else json.dumps(one) for one in sources]
        (self.folder / "offsets" / str(batch)).write_text("\n".join([version, BATCH, *lines]))
        (self.folder / "offsets" / f".{batch}.crc").write_bytes(b"crc")

    def done(self, batch: int, version: str = "v1") -> None:
        text = f'{version}\n{{"nextBatchWatermarkMs":0}}'
        (self.folder / "commits" / str(batch)).write_text(text)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    made = Checkpoint(tmp_path / "checkpoint")
    made.plan(9, {"orders": {"0": 90, "1": 9}})
    made.plan(10, {"orders": {"0": 100, "1": 7}})
    made.done(9)
    made.done(10)
    return made


def sink(folder: Path, batch: int, query: str = QUERY) -> Path:
    """A Delta table's log with a query's txn."""
    log = folder / "sink" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text(json.dumps({"txn": {"appId": query, "version": batch}}))
    return log.parent


@pytest.mark.spec("A13")
def test_the_newest_finished_batch_says_what_is_read_next(checkpoint: Checkpoint) -> None:
    found = read_spark_checkpoint(checkpoint.folder)
    assert (found.query_id, found.batch) == (QUERY, 10)
    assert found.ends == {"orders": {0: 100, 1: 7}}


def test_batches_are_ordered_as_numbers_not_as_text(checkpoint: Checkpoint) -> None:
    (checkpoint.folder / "offsets" / "10").rename(checkpoint.folder / "offsets" / "100")
    (checkpoint.folder / "commits" / "10").rename(checkpoint.folder / "commits" / "100")
    checkpoint.plan(11, {"orders": {"0": 1}})
    assert read_spark_checkpoint(checkpoint.folder).batch == 100


def test_only_the_sources_that_are_kafka_count(checkpoint: Checkpoint) -> None:
    delta = {"sourceVersion": 1, "reservoirId": "x", "index": -1, "isStartingVersion": True}
    checkpoint.plan(11, delta, "-", {"a": {"0": 1}}, {"b": {"0": 2}}, "17")
    checkpoint.done(11)
    assert read_spark_checkpoint(checkpoint.folder).ends == {"a": {0: 1}, "b": {0: 2}}


@pytest.mark.parametrize(("in_sink", "batch"), [(10, 10), (11, 11), (9, 10)])
def test_the_sinks_own_txn_decides_about_a_batch_that_is_not_noted_done(
    checkpoint: Checkpoint, tmp_path: Path, in_sink: int, batch: int
) -> None:
    checkpoint.plan(11, {"orders": {"0": 130, "1": 7}})
    found = read_spark_checkpoint(checkpoint.folder, sink(tmp_path, in_sink))
    assert found.batch == batch
    assert found.ends["orders"][0] == (130 if batch == 11 else 100)


@pytest.mark.parametrize(
    ("in_sink", "query", "said"),
    [
        (None, QUERY, "cannot be told"),
        (12, QUERY, "holds batch 12"),
        (11, "another-query", "holds no batch of this query"),
    ],
)
def test_a_batch_that_may_or_may_not_be_in_the_sink_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, in_sink: int | None, query: str, said: str
) -> None:
    checkpoint.plan(11, {"orders": {"0": 130, "1": 7}})
    place = None if in_sink is None else sink(tmp_path, in_sink, query)
    with pytest.raises(Refused, match=said):
        read_spark_checkpoint(checkpoint.folder, place)


@pytest.mark.parametrize(
    ("in_sink", "query", "said"),
    [
        (11, QUERY, "holds batch 11: the checkpoint is older than the table"),
        (10, "another-query", "holds no batch of this query"),
    ],
)
def test_an_older_copy_and_another_querys_metadata_are_found_by_the_sink(
    checkpoint: Checkpoint, tmp_path: Path, in_sink: int, query: str, said: str
) -> None:
    """Every batch of the checkpoint is noted as done, and its offsets would double records."""
    assert read_spark_checkpoint(checkpoint.folder).batch == 10
    with pytest.raises(Refused, match=said):
        read_spark_checkpoint(checkpoint.folder, sink(tmp_path, in_sink, query))


def test_of_several_batches_that_were_begun_the_sinks_newest_counts(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for batch in (11, 12, 13):
        checkpoint.plan(batch, {"orders": {"0": batch * 10}})
    found = read_spark_checkpoint(checkpoint.folder, sink(tmp_path, 12))
    assert (found.batch, found.ends) == (12, {"orders": {0: 120}})


@pytest.mark.parametrize("metadata", [None, "", "[]", "{}"])
def test_a_checkpoint_that_does_not_name_its_query_is_not_compared_with_a_sink(
    checkpoint: Checkpoint, tmp_path: Path, metadata: str | None
) -> None:
    file = checkpoint.folder / "metadata"
    if metadata is None:
        file.unlink()
    else:
        file.write_text(metadata)
    assert read_spark_checkpoint(checkpoint.folder).query_id == ""
    with pytest.raises(Refused, match="no readable `metadata` names the query"):
        read_spark_checkpoint(checkpoint.folder, sink(tmp_path, 10))


def test_only_a_line_feed_ends_a_line(checkpoint: Checkpoint) -> None:
    text = BATCH.replace("{}", '{"spark.app.name":"a\u2028b\x85c"}')
    file = checkpoint.folder / "offsets" / "10"
    file.write_text("v1\n" + text + '\n{"orders":{"0":100}}', encoding="utf-8")
    assert read_spark_checkpoint(checkpoint.folder).ends == {"orders": {0: 100}}


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("where", ["offsets", "commits"])
def test_a_newer_format_is_refused_by_name(
    checkpoint: Checkpoint, where: str, version: str
) -> None:
    if where == "offsets":
        checkpoint.plan(10, '0:{"orders": {"0": 1}}', version=version)
    else:
        checkpoint.done(10, version=version)
    said = f"format {version}; this release reads v1"
    with pytest.raises(UnsupportedTable, match=said) as caught:
        read_spark_checkpoint(checkpoint.folder)
    assert caught.value.exit_code == 5


def test_a_topic_read_twice_at_different_offsets_is_refused(checkpoint: Checkpoint) -> None:
    checkpoint.plan(10, {"orders": {"0": 1}}, {"orders": {"0": 2}})
    with pytest.raises(Refused, match="two sources"):
        read_spark_checkpoint(checkpoint.folder)


def spoil(checkpoint: Checkpoint, how: str) -> None:
    offsets, commits = checkpoint.folder / "offsets", checkpoint.folder / "commits"
    match how:
        case "no folder":
            (checkpoint.folder / "commits").rename(checkpoint.folder / "elsewhere")
        case "nothing done":
            for path in commits.iterdir():
                path.unlink()
        case "nothing planned":
            for path in offsets.iterdir():
                path.unlink()
        case "purged":
            (offsets / "10").unlink()
            checkpoint.plan(11, {"orders": {"0": 130}})
            checkpoint.done(11)
            (offsets / "11").write_text("")
        case "torn":
            (offsets / "10").write_text("v1\n" + BATCH + '\n{"orders": {"0":')
        case "not text":
            (offsets / "10").write_bytes(b"\xff\xfe\x00")
        case "no kafka":
            checkpoint.plan(10, "42")


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("no folder", ConfigError, "no folder `commits`"),
        ("nothing done", ConfigError, "has no finished batch"),
        ("nothing planned", ConfigError, "holds no numbered file"),
        ("purged", LogDamaged, "does not begin with a format version"),
        ("torn", LogDamaged, "no JSON"),
        ("not text", LogDamaged, "cannot be read"),
        ("no kafka", ConfigError, "no source of this query is Kafka"),
    ],
)
def test_what_is_no_usable_checkpoint_is_named(
    checkpoint: Checkpoint, how: str, error: type[RayLakeError], said: str
) -> None:
    spoil(checkpoint, how)
    with pytest.raises(error, match=said) as caught:
        read_spark_checkpoint(checkpoint.folder)
    assert str(checkpoint.folder) in caught.value.message


def test_a_sink_that_is_no_table_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.plan(11, {"orders": {"0": 130}})
    with pytest.raises(ConfigError, match="is not a Delta table"):
        read_spark_checkpoint(checkpoint.folder, tmp_path / "nowhere")
