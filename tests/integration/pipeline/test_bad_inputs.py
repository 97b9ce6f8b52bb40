"""Bad input gets a clear error, its exit code, and nothing is lost or half-done (issue 3).

A case runs when the first test asks for it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.kafka.client import Cluster
from tests.harness.broker import LiveBroker
from tests.harness.jobs import Job
from tests.integration.pipeline.conftest import Bench, MakeBench
from tests.integration.pipeline.records import offsets, produce

UNREACHABLE = "127.0.0.1:1"
CONNECT_S = 3


class Case:
    """One pipeline that something is wrong with."""

    def __init__(self, bench: Bench, topic: str) -> None:
        self.bench = bench
        self.topic = topic
        self.run: Job | None = None
        self.seconds = 0.0
        self.before: set[str] = set()
        self.arguments = ["--available-now"]

    @property
    def table(self) -> Path:
        return self.bench.table("t")

    def write(self, **table: object) -> None:
        self.bench.write({"t": {"topics": [self.topic], "schema": {"id": "long"}, **table}})

    def go(self) -> None:
        self.before = files(self.bench.lake / "bronze")
        started = time.monotonic()
        self.run = self.bench.start(*self.arguments)
        self.run.wait()
        self.seconds = time.monotonic() - started

    def failed(self, code: int, *said: str) -> str:
        """It ended with this code and these words, and touched no table."""
        assert self.run is not None
        text = self.run.said
        assert self.run.process.returncode == code, text
        assert not [word for word in said if word not in text], text
        assert "Traceback" not in text
        assert files(self.bench.lake / "bronze") == self.before
        return text


def files(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def unreachable(case: Case) -> None:
    case.write()
    text = case.bench.file.read_text()
    text = text.replace(case.bench.broker.bootstrap, UNREACHABLE)
    case.bench.file.write_text(
        text.replace("connect_timeout: 5s", f"connect_timeout: {CONNECT_S}s")
    )


def unknown_topic(case: Case) -> None:
    case.topic += "x"
    case.write()


def no_table(case: Case) -> None:
    case.write()
    case.table.mkdir(parents=True)
    (case.table / "notes.txt").write_text("mine")


def somebody_elses(case: Case) -> None:
    case.write()
    write_deltalake(case.table, pl.DataFrame({"id": [1, 2]}).to_arrow())


def ours(case: Case) -> None:
    """A table of ours by a first run; what follows changes it."""
    case.write()
    case.bench.drain()


def feature(case: Case) -> None:
    ours(case)
    DeltaTable(case.table).alter.add_constraint({"positive": "id >= 0"})


def retention(case: Case) -> None:
    ours(case)
    properties = {"delta.setTransactionRetentionDuration": "interval 7 days"}
    DeltaTable(case.table).alter.set_table_properties(properties, raise_if_not_exists=False)


def other_schema(case: Case) -> None:
    ours(case)
    case.write(schema={"id": "string", "more": "double"})


def empty_topic(case: Case) -> None:
    case.topic = case.bench.broker.create_topic("empty")
    case.write(schema=None)
    text = case.bench.file.read_text()
    case.bench.file.write_text(text.replace("    schema: null\n", ""))


def other_format(case: Case) -> None:
    """Enough of somebody else's format that the gate can tell it from a few bad records."""
    case.topic = case.bench.broker.create_topic("avro")
    values = [b"\x00\x00\x00\x00\x01\x02%d" % n for n in range(300)]
    produce(case.bench.broker, case.topic, values)
    case.write()
    text = case.bench.file.read_text()
    case.bench.file.write_text(text.replace("stop_above: 100%", "stop_above: 20%"))


def aborting(case: Case) -> None:
    case.topic = case.bench.broker.create_topic("abort")
    produce(case.bench.broker, case.topic, [{"id": 0}, {"id": 1}, b"nope", {"id": 3}])
    case.write(on_failure="abort")


def aborting_on_its_way(case: Case) -> None:
    """A continuous run ends too."""
    aborting(case)
    case.arguments = []


def read_only(case: Case) -> None:
    case.bench.lake = Path("/proc/raylake-lake")
    case.write()


def replaced(content: bytes) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.bench.file.write_bytes(content)

    return change


CASES: dict[str, Callable[[Case], None]] = {
    "unreachable": unreachable,
    "unknown_topic": unknown_topic,
    "no_table": no_table,
    "somebody_elses": somebody_elses,
    "feature": feature,
    "retention": retention,
    "other_schema": other_schema,
    "empty_topic": empty_topic,
    "other_format": other_format,
    "aborting": aborting,
    "aborting_on_its_way": aborting_on_its_way,
    "read_only": read_only,
    "empty_file": replaced(b""),
    "binary_file": replaced(b"\x00\x01\xff\xfe"),
    "duplicate_keys": replaced(b"pipeline: a\nlake: ./lake\npipeline: b\n"),
}


class Cases:
    """Those that tests have asked for."""

    def __init__(self, topic: str, make_bench: MakeBench) -> None:
        self._topic = topic
        self._make_bench = make_bench
        self._made: dict[str, Case] = {}

    def __getitem__(self, name: str) -> Case:
        """A case that has been run."""
        if name not in self._made:
            case = Case(self._make_bench(), self._topic)
            CASES[name](case)
            case.go()
            self._made[name] = case
        return self._made[name]


@pytest.fixture(scope="module")
def cases(broker: LiveBroker, make_bench: MakeBench) -> Cases:
    topic = broker.create_topic("bad")
    produce(broker, topic, [{"id": n} for n in range(5)])
    return Cases(topic, make_bench)


@pytest.mark.spec("A3", "K7")
def test_an_unreachable_broker_is_4_with_address_and_line_in_time(cases: Cases) -> None:
    case = cases["unreachable"]
    text = case.failed(4, UNREACHABLE, "hint: ")
    line = 1 + case.bench.file.read_text().split(UNREACHABLE)[0].count("\n")
    assert f"{case.bench.file}:{line}:" in text
    assert "kafka.bootstrap" in text
    said = case.bench.status()["error"]
    assert said["exit_code"] == 4
    started = float(case.bench.status()["at"])
    assert started > 0
    assert case.seconds < CONNECT_S + 60


@pytest.mark.spec("A1", "K7")
def test_an_unknown_topic_is_2_and_suggests_the_right_one(cases: Cases) -> None:
    case = cases["unknown_topic"]
    case.failed(2, f"'{case.topic}'", "did you mean", f"'{case.topic[:-1]}'", "bronze.t.topics[0]")


@pytest.mark.spec("A3")
def test_a_folder_that_is_no_table_is_5(cases: Cases) -> None:
    cases["no_table"].failed(5, str(cases["no_table"].table), "no Delta log")


@pytest.mark.long
@pytest.mark.spec("A3")
def test_a_table_with_data_but_without_our_ledger_is_5(cases: Cases) -> None:
    case = cases["somebody_elses"]
    case.failed(5, str(case.table), "was not made by RayLake")
    assert DeltaTable(case.table).version() == 0


@pytest.mark.long
@pytest.mark.spec("A3")
def test_a_feature_that_we_cannot_write_is_5(cases: Cases) -> None:
    cases["feature"].failed(5, str(cases["feature"].table), "checkConstraints (positive)")


@pytest.mark.long
@pytest.mark.spec("A3")
def test_transaction_retention_is_5(cases: Cases) -> None:
    cases["retention"].failed(5, "delta.setTransactionRetentionDuration")


@pytest.mark.long
@pytest.mark.spec("A6")
def test_a_schema_that_contradicts_the_table_is_5(cases: Cases) -> None:
    cases["other_schema"].failed(5, "id: string is asked for, the table has long")


@pytest.mark.long
@pytest.mark.spec("A1")
def test_an_empty_topic_without_a_schema_is_2(cases: Cases) -> None:
    case = cases["empty_topic"]
    case.failed(2, "no schema is given", case.topic, "give `schema:`")


@pytest.mark.spec("A4", "B2")
def test_failure_16_somebody_elses_format_is_5_and_no_dead_letter(cases: Cases) -> None:
    case = cases["other_format"]
    assert case.run is not None
    assert case.run.process.returncode == 5, case.run.said
    assert "is `format` right?" in case.run.said
    assert f"{case.topic}[0]" in case.run.said
    assert case.bench.letters.height == 0
    assert case.bench.rows("t").height == 0
    case.bench.verify()


@pytest.mark.spec("B5", "A4")
@pytest.mark.parametrize(
    "name", ["aborting", pytest.param("aborting_on_its_way", marks=pytest.mark.long)]
)
def test_on_failure_abort_ends_the_run_at_the_first_dead_letter(cases: Cases, name: str) -> None:
    case = cases[name]
    assert case.run is not None
    assert case.run.process.returncode == 5, case.run.said
    assert "on_failure is abort" in case.run.said
    assert "offset 2: " in case.run.said
    assert case.bench.letters.height == 0
    assert offsets(case.bench.rows("t")) in ([], [0, 1])
    case.bench.verify()


@pytest.mark.spec("B5")
def test_a_lake_that_cannot_be_written_is_4(cases: Cases) -> None:
    case = cases["read_only"]
    assert case.run is not None
    assert case.run.process.returncode == 4, case.run.said
    assert "/proc/raylake-lake" in case.run.said
    assert "hint: " in case.run.said


@pytest.mark.spec("K7")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty_file", "empty"),
        pytest.param("binary_file", "binary", marks=pytest.mark.long),
        pytest.param("duplicate_keys", "pipeline", marks=pytest.mark.long),
    ],
)
def test_a_file_that_is_none_is_2(cases: Cases, name: str, said: str) -> None:
    text = cases[name].failed(2, str(cases[name].bench.file))
    assert said in text
    assert not cases[name].bench.lake.exists()


@pytest.mark.spec("A3")
def test_what_was_refused_can_go_on_when_it_is_put_right(cases: Cases) -> None:
    case = cases["no_table"]
    shutil.rmtree(case.table)
    case.bench.drain()
    assert offsets(case.bench.rows("t")) == list(range(5))
    with Cluster(case.bench.broker.bootstrap) as lookup:
        sources = lookup.topics([case.topic])[case.topic].sources()
        assert lookup.group(sources, f"raylake-{case.bench.name}") == lookup.latest(sources)
