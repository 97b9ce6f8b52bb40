"""Metrics: declared once, under names that say what they count."""

from __future__ import annotations

import re

import pytest

from raylake.telemetry.metrics import Both, MemoryMetrics
from raylake.telemetry.spec import BY_NAME, METRICS, MetricSpec, declared

UNITS = ("records", "seconds", "bytes", "files", "processes", "ratio", "state", "total")

OF_NO_PIPELINE = ("raylake_table_operations_total",)


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_a_name_is_raylake_noun_unit(spec: MetricSpec) -> None:
    assert re.fullmatch(r"raylake(_[a-z]+)+", spec.name)
    assert spec.name.endswith(UNITS)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert spec.help.endswith(".")
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert list(spec.buckets) == sorted(set(spec.buckets))


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_no_series_per_partition_or_process(spec: MetricSpec) -> None:
    fine = {"partition", "topic", "actor", "consumer", "worker", "pid", "host", "offset"}
    assert not fine & set(spec.labels)
    # Operations on tables are asked for by anyone, in no pipeline.
    assert spec.labels[0] == ("operation" if spec.name in OF_NO_PIPELINE else "pipeline")


def test_each_name_is_declared_once() -> None:
    assert len(BY_NAME) == len(METRICS)


def test_what_is_not_declared_like_this_is_refused() -> None:
    metrics = MemoryMetrics()
    with pytest.raises(ValueError, match="no metric is named"):
        metrics.set("raylake_lag_recrods", 1, {"pipeline": "p", "table": "t"})
    with pytest.raises(ValueError, match="is a gauge"):
        metrics.add("raylake_lag_records", 1, {"pipeline": "p", "table": "t"})
    with pytest.raises(ValueError, match="labels"):
        metrics.set("raylake_lag_records", 1, {"pipeline": "p"})
    with pytest.raises(ValueError, match="cannot shrink"):
        metrics.add("raylake_commits_total", -1, {"pipeline": "p", "table": "t"})
    assert metrics.snapshot() == {}


def test_samples_reach_both_and_a_histogram_keeps_sum_and_count() -> None:
    first, second = MemoryMetrics(), MemoryMetrics()
    both, labels = Both(first, second), {"pipeline": "p", "table": "t"}
    for seconds in (0.25, 0.5):
        both.observe("raylake_commit_seconds", seconds, labels)
    both.add("raylake_commits_total", 2, labels)
    both.set("raylake_lag_records", 7, labels)
    assert first.snapshot() == second.snapshot()
    assert first.snapshot() == {
        'raylake_commit_seconds_count{pipeline="p",table="t"}': 2,
        'raylake_commit_seconds_sum{pipeline="p",table="t"}': 0.75,
        'raylake_commits_total{pipeline="p",table="t"}': 2,
        'raylake_lag_records{pipeline="p",table="t"}': 7,
    }
    assert declared("raylake_commit_seconds").buckets
