"""Which files a compaction writes together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raylake.delta.live_rows import SourceFile
from raylake.tables.compaction_plan import bins, share_of


def file(number: int, size: int, *, part: str | None = None, **more: Any) -> SourceFile:
    values = {} if part is None else {"p": part}
    rows = more.pop("rows", 100)
    deleted = more.pop("deleted", 0)
    return SourceFile(more.pop("path", f"f{number}"), size, rows, deleted, values)


def sizes(*found: SourceFile) -> list[list[int]]:
    return [[one.size_bytes for one in group.files] for group in bins(found, 100)]


def test_files_that_came_after_each_other_stay_together() -> None:
    small = [file(n, 40) for n in range(5)]
    assert [[one.path for one in group.files] for group in bins(small, 100)] == [
        ["f0", "f1"],
        ["f2", "f3"],
    ]


def test_large_files_and_single_ones_are_left_alone() -> None:
    assert sizes(file(0, 75), file(1, 10)) == []
    assert sizes(file(0, 10), file(1, 200), file(2, 10)) == [[10, 10]]
    assert sizes() == []


def test_partitions_are_not_mixed() -> None:
    found = bins([file(0, 10, part="a"), file(1, 10, part="b"), file(2, 10, part="a")], 100)
    assert [(group.values, len(group.files)) for group in found] == [({"p": "a"}, 2)]


def test_many_deleted_rows_are_worth_a_file_of_its_own() -> None:
    assert sizes(file(0, 500, rows=94, deleted=6)) == [[500]]
    assert sizes(file(0, 500, rows=95, deleted=5)) == []
    assert sizes(file(0, 500, rows=None, deleted=5)) == [[500]]


def test_of_files_that_are_named_no_deleted_row_is_let_be() -> None:
    few = [file(0, 500, rows=999, deleted=1), file(1, 500)]
    assert bins(few, 100, share_of(())) == []
    (only,) = bins(few, 100, share_of(("f0", "f1")))
    assert [one.path for one in only.files] == ["f0"]


def test_a_file_of_another_table_comes_home() -> None:
    assert sizes(file(0, 500, path="file:///lake/other/f0")) == [[500]]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.sampled_from("ab"), st.integers(0, 20))),
    st.integers(1, 250),
)
def test_no_file_is_taken_twice_and_no_bin_is_too_large(
    found: list[tuple[int, str, int]], target: int
) -> None:
    files = [file(n, s, part=p, deleted=d) for n, (s, p, d) in enumerate(found)]
    plan = bins(files, target)
    taken = [one.path for group in plan for one in group.files]
    assert len(taken) == len(set(taken))
    for group in plan:
        assert len(group.files) == 1 or group.size_bytes <= target
        assert {one.values["p"] for one in group.files} == {group.values["p"]}
