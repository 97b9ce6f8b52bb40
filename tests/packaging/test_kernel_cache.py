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


def begin(code: Path, cache: Path) -> subprocess.Popen[str]:
    """Load a kernel in a new process."""
    return subprocess.Popen(
        [sys.executable, "-c", LOAD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code), "RAYLAKE_CACHE": str(cache)},
    )


def end(process: subprocess.Popen[str]) -> str:
    """What it said about compiling."""
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert out == "ready\n"
    return said


def load(code: Path, cache: Path) -> str:
    return end(begin(code, cache))


@pytest.mark.spec("A12")
def test_a_new_working_dir_finds_the_kernels_and_other_code_does_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    one = working_dir(tmp_path / "one")
    both = [end(process) for process in [begin(one, cache), begin(one, cache)]]
    # One of the two compiles, the other one waits for it.
    assert "".join(both).count("compiling the kernel json_columns.gather_texts") == 1
    assert "python -m raylake.kernels" in "".join(both)
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
