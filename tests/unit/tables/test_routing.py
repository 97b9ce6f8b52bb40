"""Which engine an operation gets, on both sides of every threshold, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylake.tables.errors import FeatureUnsupported, NoEngine
from raylake.tables.routing import (
    BASE_BYTES,
    MIB,
    PER_TOUCHED_BYTE,
    SHARE_OF_FREE,
    USUAL,
    Allowance,
    Load,
    Resources,
    decide,
)

FREE = Resources(8 * 1024 * MIB)
ALONE = replace(FREE, no_spark="there is no Java")


def touching(count: int, **more: object) -> Load:
    load = Load(touched_bytes=count, touched_files=3, total_bytes=count * 2, total_files=6)
    return replace(load, **more)  # type: ignore[arg-type]


def fitting(resources: Resources) -> int:
    """The most bytes that may be touched for delta-rs to be planned with."""
    return (resources.spendable_bytes - BASE_BYTES) // PER_TOUCHED_BYTE


def test_up_to_the_memory_that_is_free_it_is_delta_rs_and_beyond_it_spark() -> None:
    below, above = (decide(touching(fitting(FREE) + more), FREE) for more in (0, 1))
    assert (below.engine, above.engine) == ("delta-rs", "spark")
    assert "touches at most 3 of 6 files" in below.why
    assert f"{8 * 1024:,} MiB free" in below.why
    assert "more than the" in above.why
    assert below.otherwise_spark
    assert not above.limit_bytes


def test_rows_that_are_handed_over_count_too() -> None:
    assert decide(Load(source_bytes=int(8 * 1024 * MIB * SHARE_OF_FREE)), FREE).engine == "spark"


def test_what_is_sorted_needs_more() -> None:
    load = touching(fitting(FREE))
    assert decide(load, FREE).engine == "delta-rs"
    assert decide(replace(load, sorts=True), FREE).engine == "spark"


def test_light_work_runs_where_it_is_asked_for_and_heavy_work_within_a_limit() -> None:
    least = (USUAL.in_process_bytes - BASE_BYTES) // PER_TOUCHED_BYTE
    light, heavy = (decide(touching(least + more), FREE) for more in (0, 1))
    assert light.limit_bytes == 0
    assert heavy.limit_bytes >= USUAL.least_limit_bytes
    assert decide(touching(fitting(FREE)), FREE).limit_bytes == FREE.spendable_bytes


def test_less_than_what_is_free_may_be_allowed() -> None:
    tight = replace(FREE, allowance=Allowance(at_most_bytes=1024 * MIB))
    load = touching(fitting(tight) + 1)
    assert decide(load, FREE).engine == "delta-rs"
    assert decide(load, tight).engine == "spark"


def test_without_spark_delta_rs_tries_within_its_limit_and_says_so() -> None:
    route = decide(touching(fitting(ALONE) + 1), ALONE)
    assert (route.engine, route.limit_bytes) == ("delta-rs", ALONE.spendable_bytes)
    assert "there is no Java" in route.why
    assert not route.otherwise_spark
    assert not decide(touching(fitting(ALONE)), ALONE).otherwise_spark


@pytest.mark.parametrize("name", ["delta-rs", "spark"])
def test_an_engine_that_is_named_is_taken_whatever_is_touched(name: str) -> None:
    for count in (1, fitting(FREE) + 1):
        route = decide(touching(count), FREE, name)  # type: ignore[arg-type]
        assert (route.engine, route.why) == (name, "the engine was named")


def test_what_one_engine_cannot_do_goes_to_the_other_with_the_reason() -> None:
    only_spark = touching(1, refused={"delta-rs": "the table uses rowTracking"})
    route = decide(only_spark, FREE)
    assert route.engine == "spark"
    assert "rowTracking" in route.why
    with pytest.raises(FeatureUnsupported, match="rowTracking") as named:
        decide(only_spark, FREE, "delta-rs")
    assert named.value.hint == "engine: spark can"
    with pytest.raises(NoEngine, match=r"rowTracking.*no Java"):
        decide(only_spark, ALONE)
    only_rust = touching(fitting(FREE) + 1, refused={"spark": "no such function"})
    assert decide(only_rust, FREE).engine == "delta-rs"
    neither = touching(1, refused={"spark": "cannot", "delta-rs": "cannot"})
    with pytest.raises(FeatureUnsupported, match="no engine can do it"):
        decide(neither, FREE)


def test_spark_that_cannot_be_had_is_refused_by_name() -> None:
    with pytest.raises(NoEngine, match="there is no Java") as caught:
        decide(touching(1), ALONE, "spark")
    assert caught.value.table_changed is False


def test_what_computes_no_rows_starts_no_spark() -> None:
    log_alone = Load(computes=False)
    for resources in (FREE, ALONE):
        route = decide(log_alone, resources, "spark")
        assert (route.engine, route.reason, route.limit_bytes) == ("delta-rs", "no_rows", 0)
        assert "nothing to compute" in route.why
    assert decide(log_alone, FREE).reason == "fits"
    # A table that only Spark writes is Spark's for its log, too.
    assert decide(replace(log_alone, refused={"delta-rs": "rowTracking"}), FREE, "spark").why == (
        "the engine was named"
    )
    with pytest.raises(NoEngine):
        decide(Load(), ALONE, "spark")
