"""The graph of a pipeline file's tables: order, relatives, change feeds, circles, addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylake.cli.main import main
from raylake.client.lake import Lake
from raylake.config import Pipeline, load
from raylake.config.derived import AppendTable
from raylake.layers.errors import Cycle, UnknownSource
from raylake.layers.graph import CHANGE_FEED, OUTSIDE, graph_of
from tests.unit.config.loading import SMALLEST, bronze, load_text

FILE = """
silver:
  late: {from: gold.days, mode: append}
  a: {from: bronze.t, mode: upsert, keys: [id], sequence_by: [at, n], path: ./elsewhere/a}
  b: {from: silver.a, mode: append, where: "n > 1"}
gold:
  days: {mode: aggregate, sql: "SELECT day, count(*) AS n FROM silver.b JOIN silver.a USING (id) GROUP BY day", trigger: watermark}
  past: {from: silver.a, mode: scd2, keys: [id], track: [n], sequence_by: at}
  end: {from: silver.b, mode: scd1, keys: [id], resolve: target}
"""  # noqa: E501


@pytest.fixture
def config() -> Pipeline:
    return load_text(bronze("topics: [x]") + FILE).config


def test_every_table_comes_after_what_it_reads(config: Pipeline) -> None:
    graph = graph_of(config)
    order = list(graph.nodes)
    assert sorted(order) == sorted(
        ["bronze.t", *(f"silver.{n}" for n in config.silver), *(f"gold.{n}" for n in config.gold)]
    )
    assert all(order.index(source) < order.index(reader) for source, reader in graph.edges)
    assert [node.name for node in graph.derived] == [one for one in order if one != "bronze.t"]


def test_relatives(config: Pipeline) -> None:
    graph = graph_of(config)
    assert set(graph.readers("silver.a")) == {"silver.b", "gold.days", "gold.past"}
    assert set(graph.descendants("silver.b")) == {"gold.days", "gold.end", "silver.late"}
    assert graph.ancestors("silver.late") == ("bronze.t", "silver.a", "silver.b", "gold.days")
    assert graph.ancestors("bronze.t") == graph.descendants("gold.end") == ()
    with pytest.raises(UnknownSource, match=r"did you mean 'silver\.b'"):
        graph.descendants("silver.bb")


def test_the_change_feed_is_on_where_a_later_table_needs_it(config: Pipeline) -> None:
    graph = graph_of(config)
    assert {name for name, node in graph.nodes.items() if node.feed} == {"silver.a", "gold.days"}
    assert graph.node("silver.a").properties == {CHANGE_FEED: "true"}
    assert graph.node("silver.b").properties == {}


def test_a_circle_is_refused_with_the_way_round(config: Pipeline) -> None:
    ring = AppendTable.model_construct(from_="silver.y", mode="append", path=None)
    other = AppendTable.model_construct(from_="silver.x", mode="append", path=None)
    looped = config.model_copy(update={"silver": {"x": ring, "y": other}, "gold": {}})
    with pytest.raises(Cycle, match=r"silver\.x reads silver\.y reads silver\.x") as told:
        graph_of(looped)
    assert told.value.context["path"] == ["silver.x", "silver.y", "silver.x"]
    assert told.value.exit_code == 2


def test_a_source_of_nobodys_is_refused_at_the_start() -> None:
    text = (bronze("topics: [x]") + "silver: {s: {from: bronze.theirs, mode: append}}\n").replace(
        "./lake", "s3://lake"
    )
    graph = graph_of(load_text(text).config)
    (outside,) = graph.outside
    assert (outside.layer, outside.address) == (OUTSIDE, "s3://lake/bronze/theirs")
    graph.require_sources(lambda address: address == "s3://lake/bronze/theirs")
    with pytest.raises(UnknownSource, match=r"silver\.s reads bronze\.theirs") as told:
        graph.require_sources(lambda address: False)
    assert told.value.exit_code == 2


def test_bronze_tables_are_found_by_every_name_they_have(tmp_path: Path) -> None:
    text = SMALLEST.replace("./lake", str(tmp_path)) + (
        "bronze:\n"
        f"  fan: {{topics: [x, y], table: 'raw_{{topic}}', path: '{tmp_path}/far/{{topic}}'}}\n"
        "  many: {topics: {pattern: 'k.*'}, table: 'kin_{topic}'}\n"
        "  named: {topics: [z], table: other}\n"
        "silver:\n"
        "  a: {from: bronze.raw_y, mode: append}\n"
        "  b: {from: bronze.kin_k1, mode: append}\n"
        "  c: {from: bronze.other, mode: append}\n"
        "  d: {from: bronze.named, mode: append}\n"
    )
    graph = graph_of(load_text(text).config)
    found = {name: node.address for name, node in graph.nodes.items() if node.layer == "bronze"}
    assert found == {
        "bronze.raw_y": f"{tmp_path}/far/y",
        "bronze.kin_k1": f"{tmp_path}/bronze/kin_k1",
        "bronze.other": f"{tmp_path}/bronze/other",
        "bronze.named": f"{tmp_path}/bronze/other",
    }
    assert graph.outside == ()


def test_a_table_of_first_rows_says_so() -> None:
    text = bronze("topics: [x]") + (
        "silver: {s: {from: bronze.t, mode: upsert, keys: [id], insert_only: true}}\n"
    )
    node = graph_of(load_text(text).config).node("silver.s")
    assert node.strategy == "one row a key (id), the first that comes; rows that are there stay"


def test_the_tree_tells_each_table_whole_once(config: Pipeline) -> None:
    lines = graph_of(config).tree()
    assert lines[0] == "bronze.t (Kafka)"
    text = "\n".join(lines)
    for name in ("silver.a", "silver.b", "silver.late", "gold.days", "gold.past", "gold.end"):
        assert text.count(f"{name}: ") == 1, text
    assert "silver.a: one row a key (id), the latest by at, n, arrival" in text
    assert "gold.past: history by id: a row for each change of n, by at, arrival" in text
    assert "when: watermark; its change feed is on" in text


@pytest.mark.spec("K1")
def test_explain_shows_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(bronze("topics: [x]").replace("./lake", str(tmp_path / "lake")) + FILE)
    assert main(["explain", str(file)]) == 0
    assert "Which table follows from which:\n  bronze.t (Kafka)\n" in capsys.readouterr().out
    assert main(["explain", str(file), "-o", "json"]) == 0
    graph = json.loads(capsys.readouterr().out)["graph"]
    assert {"source": "silver.b", "table": "gold.end"} in graph["edges"]
    (days,) = (one for one in graph["nodes"] if one["name"] == "gold.days")
    assert (days["mode"], days["trigger"]) == ("aggregate", "watermark")
    assert days["properties"] == {CHANGE_FEED: "true"}
    assert set(days) == {
        "name",
        "layer",
        "address",
        "mode",
        "trigger",
        "strategy",
        "properties",
    }


def test_a_lake_finds_derived_tables_that_lie_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        bronze("topics: [x]").replace("./lake", str(tmp_path / "lake"))
        + FILE.replace("./elsewhere", str(tmp_path / "elsewhere"))
    )
    lake = Lake.from_pipeline(file)
    assert lake.table("silver.a").address == str(tmp_path / "elsewhere" / "a")
    assert lake.table("gold.end").address == str(tmp_path / "lake" / "gold" / "end")
    assert graph_of(load(file).config).node("silver.a").address == lake.table("silver.a").address
