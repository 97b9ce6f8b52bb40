"""The wheel holds the three packages, whole, and works where nothing else of the source tree is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("raylake", "actors", "jobs")
_TIMEOUT_S = 540


def _run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that no earlier build output gets in."""
    source = tmp_path_factory.mktemp("source")
    clean = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=clean)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    done = _run("-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone was installed."""
    target = tmp_path_factory.mktemp("site")
    done = _run(
        *("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)),
        str(wheel),
        cwd=target,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_the_package(wheel: Path, package: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = _files(ROOT / package)
    assert f"{package}/py.typed" in wanted
    assert wanted - packed == set()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_spark_is_an_extra_and_nothing_else_needs_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    required = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist: ")]
    spark = [line for line in required if line.startswith(("pyspark", "raydp", "delta-spark"))]
    assert len(spark) == 3
    assert all("extra ==" in line and "spark" in line.split("extra ==")[1] for line in spark)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_package_is_found_in_the_wheel(site: Path, package: str) -> None:
    code = f"import {package}; print({package}.__file__)"
    done = _run("-c", code, cwd=site.parent, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)


def test_the_command_line_starts_from_the_wheel(site: Path) -> None:
    done = _run("-m", "raylake.cli.main", "--help", cwd=site.parent, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    for command in ("run", "verify", "demo", "dev"):
        assert command in done.stdout


@pytest.mark.long
def test_the_demo_runs_from_the_wheel(site: Path, tmp_path: Path) -> None:
    options = ["--count", "40000", "--kills", "1", "--lake", str(tmp_path / "lake")]
    environ = {"PYTHONPATH": str(site), "RAY_ADDRESS": ""}
    done = _run("-m", "raylake", "demo", *options, cwd=tmp_path, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every offset is accounted for, exactly once" in done.stdout
    started = json.loads((tmp_path / "lake" / "_raylake" / "status" / "demo.json").read_text())
    assert started["state"] == "done"
