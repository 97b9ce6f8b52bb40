"""The options of the commands that move positions: what they say and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.cli.adopt import Kind, origin_of
from raylake.cli.positions import offsets_of
from raylake.client.foreign_positions import (
    ConsumerGroup,
    DeltaIngest,
    GivenOffsets,
    SparkCheckpoint,
)
from raylake.errors import ConfigError


@pytest.mark.spec("A13")
def test_each_origin_is_made_from_its_options() -> None:
    assert origin_of(Kind.spark, ["c"], []) == SparkCheckpoint(Path("c"))
    assert origin_of(Kind.spark, ["c"], ["sink=t=1"]) == SparkCheckpoint(Path("c"), Path("t=1"))
    assert origin_of(Kind.group, ["etl"], []) == ConsumerGroup("etl")
    job = origin_of(Kind.ingest, ["t"], ["app-id=a", "topic=orders"])
    assert job == DeltaIngest(Path("t"), "a", "orders")
    given = origin_of(Kind.offsets, ["a.b[0]=1", "a.b[12]=0", "c[0]=7"], [])
    assert given == GivenOffsets({"a.b": {0: 1, 12: 0}, "c": {0: 7}})


@pytest.mark.parametrize(
    ("kind", "source", "more"),
    [
        (Kind.spark, ["a", "b"], []),
        (Kind.group, [""], []),
        (Kind.group, ["etl"], ["sink=x"]),
        (Kind.spark, ["c"], ["app-id=x"]),
        (Kind.spark, ["c"], ["sink"]),
        (Kind.offsets, ["orders[0]=1"], ["topic=x"]),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    kind: Kind, source: list[str], more: list[str]
) -> None:
    with pytest.raises(ConfigError):
        origin_of(kind, source, more)


@pytest.mark.parametrize("text", ["orders=1", "orders[0]", "orders[0]=-1", "[0]=1", "o[x]=1", ""])
def test_what_is_no_position_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a position"):
        offsets_of([text])


def test_a_partition_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="named twice"):
        offsets_of(["orders[0]=1", "orders[0]=2"])
