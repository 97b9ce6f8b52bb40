"""A panic of delta-rs, which is no ``Exception``, ends a write as any other failure does."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raylake.delta.attempts import Ending, is_panic

VECTORS = {"delta.enableDeletionVectors": "true"}


def panic(path: Path) -> None:
    """Something that panics in delta-rs 1.6."""
    write_deltalake(path, pa.table({"n": [1]}), configuration=VECTORS)
    DeltaTable(path).alter.set_table_properties({"delta.checkpointPolicy": "v2"})


def test_what_reads_the_log_afterwards_is_told(tmp_path: Path) -> None:
    told: list[Exception | None] = []
    with Ending(told.append):
        panic(tmp_path)
    (error,) = told
    assert isinstance(error, Exception)
    assert "panicked" in str(error)


def test_an_interrupt_goes_on(tmp_path: Path) -> None:
    told: list[Exception | None] = []
    with pytest.raises(KeyboardInterrupt), Ending(told.append):
        raise KeyboardInterrupt
    assert not told


def test_panics_are_told_from_other_errors(tmp_path: Path) -> None:
    with pytest.raises(BaseException, match="Protocol") as raised:
        panic(tmp_path)
    assert is_panic(raised.value)
    assert not is_panic(ValueError())
