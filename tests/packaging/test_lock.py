"""The lock is whole, hashed, names no index, and agrees with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, flags=re.MULTILINE)
}


def _wanted() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [
        Requirement(line)
        for line in (
            *PROJECT["dependencies"],
            *extras["spark"],
            *extras["bench"],
            *extras["dev"],
        )
    ]


def test_each_requirement_is_pinned_within_its_bounds() -> None:
    wanted = _wanted()
    assert len(wanted) > 30
    missing = [
        str(one)
        for one in wanted
        if not one.specifier.contains(PINS.get(canonicalize_name(one.name), "0"), prereleases=True)
    ]
    assert missing == []


def test_the_lock_holds_every_package_of_the_card() -> None:
    card = "ray pyspark raydp delta-spark deltalake kafka-python pydantic prometheus-client pytest"
    assert set(card.split()) <= PINS.keys()


def test_each_pin_has_hashes_and_the_file_names_no_index() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9._-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINS) > 100
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"://|--\S*index|--find-links|--trusted-host", LOCK) == []
