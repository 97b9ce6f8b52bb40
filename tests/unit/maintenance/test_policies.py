"""What upkeep goes by, and what it says of its price."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from raylake.maintenance.policy import Policy, policy_of
from raylake.maintenance.price import Price, rewrite_price
from raylake.maintenance.statistics import Ranged, ranged, statistics
from tests.unit.config.loading import load_text

FILE = """
pipeline: p
lake: ./lake
kafka: {bootstrap: 'k:9092'}
bronze: {t: {topics: [t]}}
"""


def test_the_defaults_are_those_of_the_documentation() -> None:
    policy = policy_of(load_text(FILE).config.maintenance, "bronze.t")
    assert policy == Policy()
    assert (policy.small_files, policy.small_share) == (32, 0.25)
    assert (policy.checkpoint_commits, policy.checkpoint_after_s) == (100, 60)
    assert (policy.keep_s, policy.vacuum_schedule) == (7 * 86_400, "0 3 * * *")
    assert policy.zorder == ()


def test_a_file_says_what_upkeep_goes_by() -> None:
    written = FILE + (
        "maintenance:\n"
        "  compact: {target_file_size: 64MiB, small_files: 8, small_share: 10%}\n"
        "  zorder: {bronze.t: [a, b]}\n"
        "  zorder_depth: 9\n"
        "  vacuum: {keep: 9d, schedule: '0 5 * * *'}\n"
        "  checkpoint: {commits: 7, after: 5m}\n"
        "  budget: {cpu: 50%, max_job_size: 1GiB}\n"
    )
    policy = policy_of(load_text(written).config.maintenance, "bronze.t")
    assert policy == Policy(
        *(64 * 2**20, 8, 0.1, ("a", "b"), 9, 9 * 86_400, "0 5 * * *", 7, 300, 2**30, 0.5),
        zorder_may_wait=True,
    )
    assert policy_of(load_text(written).config.maintenance, "bronze.u").zorder == ()


def test_the_tables_own_properties_count() -> None:
    own = {
        "delta.targetFileSize": "16mb",
        "delta.deletedFileRetentionDuration": "interval 30 days",
    }
    assert Policy().target_bytes(own, "t") == 16 * 2**20
    assert Policy(target_file_bytes=5).target_bytes(own, "t") == 5
    assert Policy().target_bytes({}, "t") == 128 * 2**20
    assert Policy().retention_s(own) == 30 * 86_400
    assert Policy(keep_s=40 * 86_400).retention_s(own) == 40 * 86_400


def test_the_price_of_jobs_adds_up() -> None:
    one = rewrite_price(10, 100 * 2**20, 0.5, 1, 10 * 2**20)
    assert (one.bytes_read, one.bytes_written, one.cpu_s) == (100 * 2**20, 50 * 2**20, 10)
    assert (one.files_before, one.files_after) == (10, 1)
    assert one.requests == 3 * 10 + 1 + 4 + 3
    both = one + Price(bytes_freed=7, requests=1)
    assert (both.bytes_read, both.bytes_freed, both.requests) == (100 * 2**20, 7, 39)


KINDS = [
    (pa.int32(), "number"),
    (pa.decimal128(9, 2), "number"),
    (pa.timestamp("us", tz="UTC"), "time"),
    (pa.date32(), "day"),
    (pa.string(), "text"),
]


@pytest.mark.parametrize(("kind", "kept"), KINDS)
def test_a_columns_type_says_how_its_values_compare(kind: pa.DataType, kept: str) -> None:
    assert ranged("c", kind) == Ranged("c", kept)  # type: ignore[arg-type]


# Of these, files that RayLake writes have no statistics: a Z-order would take them away.
@pytest.mark.parametrize("kind", [pa.binary(), pa.bool_(), pa.decimal128(20, 2)])
def test_columns_without_statistics_have_no_ranges(kind: pa.DataType) -> None:
    assert ranged("c", kind) is None


def test_statistics_that_are_none_count_as_missing() -> None:
    known = {
        "numRecords": 3,
        "minValues": {"a/b": "2026-01-01T00:00:00.5Z"},
        "maxValues": {"a/b": "2026-01-01T03:00:00+02:00"},
        "nullCount": {"a/b": 0},
    }
    others = [
        '{"numRecords":2,"nullCount":{"a/b":2}}',
        '{"numRecords":2,"nullCount":{"a/b":1}}',
        '{"numRecords":2,"minValues":{"a/b":"noon"},"maxValues":{"a/b":7}}',
        '{"numRecords":',
        "null",
        None,
    ]
    told = pa.chunked_array([pa.array([json.dumps(known), *others])])
    found = statistics(told, (Ranged("a/b", "time"),)).to_pylist()
    midnight = 1_767_225_600_000_000.0
    assert found[0] == {
        "records": 3,
        "gaps": 0,
        "low_0": midnight + 500_000,
        "high_0": midnight + 3_600_000_000,
    }
    assert [one["gaps"] for one in found] == [0, 0, 0, 1, 1, 1, 1]
    assert [one["records"] for one in found] == [3, 2, 2, 2, None, None, None]
