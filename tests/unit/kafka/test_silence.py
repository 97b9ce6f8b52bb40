from __future__ import annotations

import pickle

from raylake.errors import OffsetsLost
from raylake.ingest.unit import SourcePartition
from raylake.kafka.silence import SilenceWatch, offsets_lost

A = SourcePartition("a", "id", 0)
B = SourcePartition("b", "id", 1)


def test_only_time_spent_waiting_counts() -> None:
    watch = SilenceWatch(limit_s=10.0)
    watch.waited(A, 9.9)
    assert watch.overdue() == []
    watch.waited(A, 0.2)
    watch.waited(B, 1.0)
    assert watch.overdue() == [A]


def test_an_alarm_starts_the_count_again() -> None:
    watch = SilenceWatch(limit_s=1.0)
    watch.waited(A, 1.0)
    assert watch.overdue() == [A]
    assert watch.overdue() == []


def test_a_new_answer_ends_the_wait_and_an_old_one_does_not() -> None:
    watch = SilenceWatch(limit_s=1.0)
    watch.answered(A, 5.0)
    watch.waited(A, 2.0)
    watch.answered(A, 5.0)
    assert watch.overdue() == [A]
    watch.waited(A, 2.0)
    watch.answered(A, 6.0)
    assert watch.overdue() == []


def test_nothing_is_expected_of_an_excused_partition() -> None:
    watch = SilenceWatch(limit_s=1.0)
    watch.waited(A, 2.0)
    watch.excuse(A)
    assert watch.overdue() == []


def test_lost_offsets_are_counted_by_what_happened_to_them() -> None:
    retention = offsets_lost(A, asked=5, start=12, end=20, divergent=None)
    beyond = offsets_lost(A, asked=30, start=0, end=20, divergent=None)
    cut = offsets_lost(A, asked=15, start=0, end=20, divergent=11)
    assert [e.context["count"] for e in (retention, beyond, cut)] == [7, 10, 4]
    assert "7 offsets [5, 12) are gone" in str(retention)
    assert "ends at 20" in str(beyond)
    assert "cut off at 11" in str(cut)
    copy = pickle.loads(pickle.dumps(retention))
    assert isinstance(copy, OffsetsLost)
    assert (copy.message, copy.hint, copy.context) == (
        retention.message,
        retention.hint,
        retention.context,
    )
