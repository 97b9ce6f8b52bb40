"""What a run asks of Kafka before it begins, over a simulated cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake.clock import ManualClock
from raylake.config.bronze import FromOffsets
from raylake.errors import ConfigError, DependencyUnreachable
from raylake.ingest import discovery as module
from raylake.ingest.discovery import SAMPLE_BUDGET_S, KafkaDiscovery
from raylake.ingest.plan import NothingToInfer, RunPlan, TablePlan
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import TopicInfo
from raylake.kafka.port import FetchedBatch, Position
from tests.unit.ingest.test_built_from_the_plan import loaded

X0, X1 = SourcePartition("x", "id-x", 0), SourcePartition("x", "id-x", 1)
Y0 = SourcePartition("y", "id-y", 0)


class Cluster:
    """Answers from memory."""

    def __init__(self) -> None:
        self.first = {X0: 0, X1: 5, Y0: 7}
        self.last = {X0: 0, X1: 5, Y0: 7}
        self.published: dict[str, dict[SourcePartition, int]] = {}
        self.down = False
        self.closed = False

    def topics(self, names: Any = None, *, pattern: str | None = None) -> dict[str, TopicInfo]:
        del names, pattern
        return {"x": TopicInfo("x", "id-x", {0: 0, 1: 0})}

    def earliest(self, sources: Iterable[SourcePartition]) -> dict[SourcePartition, int]:
        return {s: self.first[s] for s in sources}

    def latest(
        self, sources: Iterable[SourcePartition], *, committed: bool = True
    ) -> dict[SourcePartition, int]:
        assert committed
        return {s: self.last[s] for s in sources}

    def commit_group(self, group: str, offsets: dict[SourcePartition, int]) -> None:
        if self.down:
            raise DependencyUnreachable("no broker answers")
        self.published[group] = offsets

    def close(self) -> None:
        self.closed = True


class Fetcher:
    """One batch a partition, then silence."""

    values: dict[SourcePartition, list[bytes]]
    clock: ManualClock
    closed = 0

    def __init__(self, *_connection: Any) -> None:
        self._at: dict[SourcePartition, Position] = {}

    def assign(self, positions: dict[SourcePartition, Position]) -> None:
        self._at = dict(positions)

    def fetch(self, timeout_s: float) -> list[FetchedBatch]:
        self.clock.sleep(timeout_s)
        for source, at in self._at.items():
            there = self.values[source][at.offset :]
            if there:
                end = at.offset + len(there)
                self._at[source] = Position(end)
                records = pa.record_batch({"value": pa.array(there, pa.binary())})
                return [FetchedBatch(source, at.offset, end, records, 0, 1)]
        return []

    def positions(self) -> dict[SourcePartition, Position]:
        return self._at

    def close(self) -> None:
        Fetcher.closed += 1


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[KafkaDiscovery, Cluster]:
    cluster, clock = Cluster(), ManualClock()
    monkeypatch.setattr(module, "Cluster", lambda *_given: cluster)
    monkeypatch.setattr(module, "PollFetcher", Fetcher)
    monkeypatch.setattr(Fetcher, "clock", clock, raising=False)
    monkeypatch.setattr(Fetcher, "values", {}, raising=False)
    file = loaded("  a: {topics: [x]}", tmp_path / "lake")
    run = RunPlan(file.config, file.sha256, "p.yaml", "run-1")
    return KafkaDiscovery(run, clock), cluster


def table(found: KafkaDiscovery) -> TablePlan:
    (plan,) = found.tables()
    return plan


def fill(cluster: Cluster, source: SourcePartition, count: int) -> None:
    cluster.first[source], cluster.last[source] = 0, count
    Fetcher.values[source] = [json.dumps({"v": n}).encode() for n in range(count)]


def test_the_tables_are_those_of_the_file(asked: tuple[KafkaDiscovery, Cluster]) -> None:
    found, cluster = asked
    assert table(found).sources == (X0, X1)
    assert found.stable_ends([X1]) == {X1: 5}
    assert found.stable_ends([]) == {}
    found.close()
    assert cluster.closed


def test_a_schema_is_inferred_once_from_a_bounded_sample(
    asked: tuple[KafkaDiscovery, Cluster],
) -> None:
    found, cluster = asked
    fill(cluster, X0, 3)
    fill(cluster, X1, 3000)
    before = Fetcher.closed
    setup = found.setup(table(found))
    assert "v" in setup.spec.schema.names
    assert found.setup(table(found)) is setup
    assert Fetcher.closed == before + 1
    assert len(list(found.sample(table(found), 10))) == 10
    assert len(list(found.sample(table(found), 0))) == 0


def test_a_sample_ends_where_the_topics_end(asked: tuple[KafkaDiscovery, Cluster]) -> None:
    found, cluster = asked
    fill(cluster, X0, 3)
    assert len(list(found.sample(table(found)))) == 3


def test_a_sample_takes_its_time_and_no_more(asked: tuple[KafkaDiscovery, Cluster]) -> None:
    found, cluster = asked
    cluster.first[X0], cluster.last[X0] = 0, 3
    Fetcher.values[X0] = []
    began = Fetcher.clock.monotonic()
    assert list(found.sample(table(found))) == []
    assert Fetcher.clock.monotonic() - began == pytest.approx(SAMPLE_BUDGET_S, abs=1)


def test_from_an_empty_topic_nothing_can_be_inferred(
    asked: tuple[KafkaDiscovery, Cluster],
) -> None:
    found, _ = asked
    with pytest.raises(NothingToInfer, match="none can be inferred from x"):
        found.setup(table(found))
    no_topic = TablePlan("bronze.n", "/nowhere", table(found).config, ())
    with pytest.raises(NothingToInfer, match="no topic yet"):
        found.setup(no_topic)


def test_records_that_are_no_objects_give_no_schema(asked: tuple[KafkaDiscovery, Cluster]) -> None:
    found, cluster = asked
    fill(cluster, X0, 1)
    Fetcher.values[X0] = [b"no json"]
    with pytest.raises(ConfigError):
        found.setup(table(found))


def test_a_table_that_is_there_already_needs_no_sample(
    asked: tuple[KafkaDiscovery, Cluster],
) -> None:
    found, _ = asked
    log = Path(table(found).path) / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text("{}")
    assert "v" not in found.setup(table(found)).spec.schema.names


def test_where_partitions_begin(asked: tuple[KafkaDiscovery, Cluster]) -> None:
    found, _ = asked
    plan = table(found)
    assert found.origins(plan, [X0, X1], []) == {X0: 0, X1: 5}
    assert found.origins(plan, [X1], [X0]) == {X1: 0}, "it came later: nothing of it is missed"
    assert found.origins(plan, [Y0], [X0]) == {Y0: 7}, "a topic that came later"
    start = FromOffsets(offsets={"x": {1: 6}, "y": {0: 7}})
    given = replace(plan, config=plan.config.model_copy(update={"start": start}))
    assert found.origins(given, [X1, Y0], [X0]) == {X1: 0, Y0: 7}, "both are named by `start`"
    again = SourcePartition("x", "another", 0)
    asked[1].first[again] = 2
    assert found.origins(plan, [again], [X0]) == {again: 2}, "a topic created again"


def test_offsets_for_lag_tools_are_shown_and_never_matter(
    asked: tuple[KafkaDiscovery, Cluster],
) -> None:
    found, cluster = asked
    found.publish({X0: 3})
    assert cluster.published == {"raylake-p": {X0: 3}}
    cluster.down = True
    found.publish({X0: 9})
    assert cluster.published == {"raylake-p": {X0: 3}}
