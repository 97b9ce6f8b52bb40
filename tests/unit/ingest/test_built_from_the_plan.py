"""From a pipeline file to parts: plans, owners, consumers, with the breakers of the run before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raylake.clock import ManualClock
from raylake.config import Loaded, load_bytes
from raylake.errors import ConfigError, Refused, SchemaConflict, UnknownTopic
from raylake.ingest.breaker import BreakerState
from raylake.ingest.build_consumer import build_consumer, lost_letters
from raylake.ingest.build_owner import attach_owner, build_owner_loop, prepare_table
from raylake.ingest.earlier import EarlierBreakers
from raylake.ingest.plan import RAW_PAYLOAD, RunPlan, TablePlan, new_run_id, table_plans
from raylake.ingest.policies import poison_policy, watermark_policy
from raylake.ingest.setups import ConsumerSetup, OwnerSetup
from raylake.ingest.status import FORMAT, read_status, write_status
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import TopicInfo
from tests.harness.simulated_lake import Lake, SimulatedQueue

AT = SourcePartition("x", "id-x", 0)


class Topics:
    """A cluster that knows its topics only."""

    def __init__(self, *names: str) -> None:
        self.infos = {name: TopicInfo(name, f"id-{name}", {0: 0, 1: 0}) for name in names}

    def topics(self, names: Any = None, *, pattern: str | None = None) -> dict[str, TopicInfo]:
        return {k: v for k, v in self.infos.items() if pattern is not None or k in names}


def loaded(bronze: str, lake: Path | str = "/lake", more: str = "") -> Loaded:
    text = (
        f"pipeline: p\nlake: {lake}\nkafka: {{bootstrap: 'localhost:9092'}}\n{more}"
        f"bronze:\n{bronze}\n"
    )
    return load_bytes(text.encode(), path="p.yaml", environ={})


def run_of(file: Loaded, **more: Any) -> RunPlan:
    return RunPlan(file.config, file.sha256, "p.yaml", "run-1", **more)


def one_table(
    tmp_path: Path, options: str = "schema: {v: string}", **more: Any
) -> tuple[RunPlan, TablePlan]:
    file = loaded(f"  a: {{topics: [x], {options}}}", tmp_path / "lake")
    (plan,) = table_plans(file.config, Topics("x"))  # type: ignore[arg-type]
    return run_of(file, **more), plan


def setup_of(run: RunPlan, plan: TablePlan) -> OwnerSetup:
    return OwnerSetup(run, plan, plan.spec(plan.configured_payload, run.config))


def test_each_table_gets_its_topics_partitions() -> None:
    file = loaded("  a: {topics: [x, y]}\n  b: {topics: {pattern: '.*'}, table: '{topic}'}")
    plans = table_plans(file.config, Topics("x", "y"))  # type: ignore[arg-type]
    shown = {plan.name: sorted({str(s) for s in plan.sources}) for plan in plans}
    assert shown == {
        "bronze.a": ["x[0]", "x[1]", "y[0]", "y[1]"],
        "bronze.x": ["x[0]", "x[1]"],
        "bronze.y": ["y[0]", "y[1]"],
    }


def test_a_listed_topic_that_is_missing_is_an_error_or_noted_beside_the_others() -> None:
    class Fewer(Topics):
        def topics(self, names: Any = (), *, pattern: str | None = None) -> dict[str, TopicInfo]:
            if gone := [name for name in names if name == "y"]:
                raise UnknownTopic("unknown topic", topics=gone)
            return super().topics(names, pattern=pattern)

    file = loaded("  a: {topics: [x, y]}\n  b: {topics: [y], table: '{topic}'}")
    with pytest.raises(UnknownTopic):
        table_plans(file.config, Fewer("x"))  # type: ignore[arg-type]
    missing: dict[str, UnknownTopic] = {}
    (plan,) = table_plans(file.config, Fewer("x"), missing)  # type: ignore[arg-type]
    assert {source.topic for source in plan.sources} == {"x"}
    assert "'y' does not exist" in missing["y"].message
    assert "on_topic_recreated" in missing["y"].hint


def test_two_tables_at_one_place_are_refused() -> None:
    file = loaded("  a: {topics: {pattern: 'x|y'}, table: '{topic}'}\n  x: {topics: [x]}")
    with pytest.raises(ConfigError, match="both at"):
        table_plans(file.config, Topics("x", "y"))  # type: ignore[arg-type]


def test_a_format_that_does_not_work_yet_is_named() -> None:
    file = loaded("  a: {topics: [x], format: raw}")
    assert table_plans(file.config, Topics("x"))[0].configured_payload == RAW_PAYLOAD  # type: ignore[arg-type]
    table = file.config.bronze["a"].model_copy(update={"format": "avro"})
    config = file.config.model_copy(update={"bronze": {"a": table}})
    with pytest.raises(ConfigError, match="avro does not work"):
        table_plans(config, Topics("x"))  # type: ignore[arg-type]


def test_a_schema_may_be_given_be_in_a_file_or_be_left_out(tmp_path: Path) -> None:
    given = one_table(tmp_path)[1].configured_payload
    assert given is not None
    assert given.names == ["v"]
    schema = tmp_path / "schema.yaml"
    schema.write_text("{w: long}")
    from_file = one_table(tmp_path, f"schema: {schema}")[1]
    payload = from_file.configured_payload
    assert payload is not None
    assert payload.names == ["w"]
    assert one_table(tmp_path, "start: earliest")[1].configured_payload is None
    for text in ("[1]", "{a: [", "{a: 1}"):
        schema.write_text(text)
        with pytest.raises(ConfigError, match=r"schema\.yaml"):
            _ = from_file.configured_payload
    schema.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        _ = from_file.configured_payload


def test_event_time_gets_statistics_flags_and_a_watermark(tmp_path: Path) -> None:
    _, plain = one_table(tmp_path)
    assert (watermark_policy(plain), "v" in plain.stats_columns) == (None, False)
    options = "schema: {t: timestamp}, event_time: {column: t, lateness: 5s, late: flag}"
    run, plan = one_table(tmp_path, options)
    policy = watermark_policy(plan)
    assert policy is not None
    assert (policy.lateness_s, policy.late) == (5.0, "flag")
    assert plan.stats_columns[-1] == "t"
    assert "_late" in plan.spec(plan.configured_payload, run.config).schema.names
    assert run.lake.endswith("/lake")
    assert run.dead_letters.endswith("dead_letters/p")


def test_columns_of_the_z_order_get_statistics_and_are_named_once_they_are_there(
    tmp_path: Path,
) -> None:
    options = "schema: {t: timestamp, v: string}, event_time: {column: t, lateness: 5s, late: flag}"
    run, plan = one_table(tmp_path, options)
    upkeep = run.config.maintenance.model_copy(update={"zorder": {"bronze.a": ("v", "w", "t")}})
    config = run.config.model_copy(update={"maintenance": upkeep})
    (plan,) = table_plans(config, Topics("x"))  # type: ignore[arg-type]
    assert plan.stats_columns == ("_partition", "_offset", "_timestamp", "t", "v", "w")
    spec = plan.spec(plan.configured_payload, config)
    assert spec.properties["delta.dataSkippingStatsColumns"].endswith("_timestamp,t,v")
    assert spec.statistics == ("v", "w", "t")


def test_run_ids_differ() -> None:
    assert new_run_id() != new_run_id()


def test_one_dead_letter_stops_a_table_that_aborts(tmp_path: Path) -> None:
    run, plan = one_table(tmp_path)
    assert poison_policy(run.config, plan).stop_above == 0.2
    run, plan = one_table(tmp_path, "schema: {v: string}, on_failure: abort")
    strict = poison_policy(run.config, plan)
    assert (strict.stop_above, strict.min_records) == (0.0, 1)


def test_a_loss_gets_a_letter_only_where_it_is_recorded(tmp_path: Path) -> None:
    run, plan = one_table(tmp_path)
    assert lost_letters(run, plan, ManualClock()) is None
    run, plan = one_table(tmp_path, "schema: {v: string}, on_data_loss: record")
    letter = lost_letters(run, plan, ManualClock())
    assert letter is not None
    (row,) = letter(AT, 3, 8, "gone").to_pylist()
    assert (row["offset"], row["stage"], row["reason"]) == (3, "lost", "[3, 8): gone")


def test_a_consumer_starts_from_earlier_breakers_half_open(tmp_path: Path) -> None:
    run, plan = one_table(tmp_path, "schema: {t: timestamp}, event_time: {column: t}")
    open_ = {"state": "open", "reason": "silent", "opened_total": 3}
    at = f"poison/bronze.a/{AT.topic}/{AT.topic_id}/{AT.partition}"
    breakers = {"broker": open_, "bronze.a/store": open_, at: open_}
    owner: Any = None
    setup = ConsumerSetup(run, "consumer-0", (plan,), breakers)
    loop = build_consumer(setup, {"bronze.a": owner}, ManualClock())
    feed = loop._feeds["bronze.a"]
    assert loop._intake.broker.breaker.state is BreakerState.HALF_OPEN
    assert feed.stores["store"].breaker.state is BreakerState.HALF_OPEN
    assert feed.stores["dead_letters"].breaker.state is BreakerState.CLOSED
    assert feed.gate.breaker(AT).state is BreakerState.CLOSED, "not granted yet"
    feed.gate.forget(AT)
    feed.grant({AT: 0}, 1)
    assert feed.gate.breaker(AT).state is BreakerState.HALF_OPEN
    closed = build_consumer(
        ConsumerSetup(run, "consumer-1", (plan,)), {"bronze.a": owner}, ManualClock()
    )
    assert closed.report().breakers == {}


def test_an_owner_starts_from_earlier_breakers_half_open(tmp_path: Path) -> None:
    earlier = EarlierBreakers(owners={"bronze.a": {"store": {"state": "half_open"}}})
    run, plan = one_table(tmp_path, earlier=earlier)
    setup = setup_of(run, plan)
    table_id = prepare_table(setup, ManualClock())
    table = attach_owner(setup, ManualClock())
    assert table.table_id == table_id
    loop = build_owner_loop(setup, table, SimulatedQueue(Lake()), ManualClock())
    breakers = loop.state().breakers
    assert breakers["store"]["state"] == BreakerState.HALF_OPEN
    assert breakers["dead_letters"]["state"] == BreakerState.CLOSED


def test_an_event_time_that_the_table_has_as_text_is_refused_before_and_after_it_exists(
    tmp_path: Path,
) -> None:
    run, timed = one_table(tmp_path, "event_time: {column: at}")
    payload = pa.schema([("at", pa.string())])
    with pytest.raises(SchemaConflict, match=r"event_time\.column 'at' is a string"):
        prepare_table(OwnerSetup(run, timed, timed.spec(payload, run.config)), ManualClock())
    assert not Path(timed.path).exists()
    _, plain = one_table(tmp_path, "schema: {at: string}")
    prepare_table(setup_of(run, plain), ManualClock())
    with pytest.raises(SchemaConflict, match=r"event_time\.column 'at' is a string"):
        prepare_table(setup_of(run, timed), ManualClock())


@pytest.mark.parametrize(
    ("expression", "kind", "said"),
    [
        ("date(at)", pa.string(), "is a string"),
        ("hour(at)", pa.int64(), "is a int64"),
        ("date(at)", None, "is not a column"),
        ("date(at)", pa.timestamp("us", tz="UTC"), ""),
        ("date(_timestamp)", None, ""),
    ],
)
def test_days_to_partition_by_that_an_inferred_schema_lacks_are_refused(
    tmp_path: Path, expression: str, kind: pa.DataType | None, said: str
) -> None:
    run, table = one_table(tmp_path, f"partition_by: ['{expression}']")
    fields = [pa.field("v", pa.string())] + ([pa.field("at", kind)] if kind else [])
    setup = OwnerSetup(run, table, table.spec(pa.schema(fields), run.config))
    if not said:
        assert prepare_table(setup, ManualClock())
        # It exists now and knows its schema itself.
        again = OwnerSetup(run, table, table.spec(None, run.config))
        assert prepare_table(again, ManualClock())
        return
    with pytest.raises(SchemaConflict, match=said):
        prepare_table(setup, ManualClock())
    assert not Path(table.path).exists()


def test_a_table_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    run, plan = one_table(tmp_path)
    prepare_table(setup_of(run, plan), ManualClock())
    prepare_table(setup_of(run, plan), ManualClock())
    other = run.config.model_copy(update={"pipeline": "other"})
    foreign = RunPlan(other, "", "p.yaml", "run-2")
    with pytest.raises(Refused, match="belongs to pipeline 'p'"):
        prepare_table(setup_of(foreign, plan), ManualClock())
    table = attach_owner(setup_of(run, plan), ManualClock())
    table.admit({AT: 0})
    with pytest.raises(Refused, match="belongs to pipeline 'p'"):
        prepare_table(setup_of(foreign, plan), ManualClock())


def test_the_status_document_is_replaced_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "status" / "p.json"
    with pytest.raises(ConfigError, match="no status at"):
        read_status(path)
    write_status(path, {"state": "running"})
    write_status(path, {"state": "done"})
    assert read_status(path) == {"format": FORMAT, "state": "done"}
    assert [entry.name for entry in path.parent.iterdir()] == ["p.json"]
    for text, said in (
        ("{", "not a status"),
        ("[]", "not a status"),
        ("{}", "not a status"),
        (f'{{"format": {FORMAT + 1}}}', "upgrade"),
    ):
        path.write_text(text)
        with pytest.raises(Refused) as caught:
            read_status(path)
        assert said in str(caught.value)


def test_breakers_are_taken_from_the_document_of_the_run_before(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    assert EarlierBreakers.read(path) == EarlierBreakers()
    path.write_text("torn")
    assert EarlierBreakers.read(path) == EarlierBreakers()
    closed, opened = {"state": "closed"}, {"state": "open", "reason": "disk full"}
    write_status(
        path,
        {
            "tables": {
                "bronze.a": {"breakers": {"store": opened, "dead_letters": closed}},
                "bronze.b": {"breakers": {"store": closed}},
                "bronze.c": {},
            },
            "consumers": {"consumer-0": {"breakers": {"broker": opened}}, "consumer-1": {}},
        },
    )
    found = EarlierBreakers.read(path)
    assert found == EarlierBreakers({"bronze.a": {"store": opened}}, {"broker": opened})
