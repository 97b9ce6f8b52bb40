"""Compiled kernels are found by their content, wherever the code lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOAD = "from raylake import kernels; kernels.load('json_columns'); print('ready')"


def working_dir(place: Path) -> Path:
    """A copy of the code, as Ray unpacks a job's ``working_dir``."""
    shutil.copytree(
        ROOT / "raylake", place / "raylake", ignore=shutil.ignore_patterns("__pycache__")
    )
    return place


def load(code: Path, cache: Path) -> str:
    """Load a kernel in a new process; what it says about compiling."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        capture_output=True,
        text=True,
        check=False,
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code), "RAYLAKE_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ready\n"
    return done.stderr


@pytest.mark.spec("A12")
def test_a_new_working_dir_finds_the_kernels_and_other_code_does_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load(working_dir(tmp_path / "one"), cache)
    assert "compiling the kernel json_columns.gather_texts" in first
    assert "python -m raylake.kernels" in first
    second = working_dir(tmp_path / "two")
    assert load(second, cache) == ""
    (folder,) = (cache / "kernels").iterdir()
    assert folder.stat().st_mode & 0o077 == 0, "what lies there is run: nobody else writes it"
    source = second / "raylake" / "kernels" / "json_columns.py"
    source.write_text(source.read_text() + "\n# changed\n")
    assert "compiling the kernel json_columns.gather_texts" in load(second, cache)


def test_without_a_cache_that_can_be_written_it_compiles_and_goes_on(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert "compiling the kernel" in load(working_dir(tmp_path / "one"), blocked)
