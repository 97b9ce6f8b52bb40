"""The demo as a user starts it, small: real broker, Ray, SIGKILLs, and the account twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT, KILLS = 80_000, 3


@pytest.mark.spec("K3", "A1", "A3", "A4", "A2", "A10")
def test_the_demo_balances_its_books_through_kills(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "raylake", "demo", "--count", str(COUNT)]
    command += ["--kills", str(KILLS), "--seed", "5", "--lake", str(lake), "--output", "json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=540, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result = json.loads(done.stdout)
    audit = result["audit"]
    assert result["verify"] == {"log": True, "data": True, "broker": True}
    assert len(result["kills"]) == KILLS
    assert audit["balanced"]
    assert audit["produced"] == COUNT
    assert audit["rows"] + audit["dead_letters"] + audit["aborted"] == COUNT
    assert audit["dead_letters"] > 0
    assert audit["aborted"] > 0
    assert audit["tombstones"] > 0
    status = json.loads((lake / "_raylake" / "status" / "demo.json").read_text())
    assert status["state"] == "done"
    assert sum(status["restarts"].values()) >= KILLS
    table = status["tables"]["bronze.orders"]
    assert table["watermark_ms"] is not None
    flagged = [c["tables"]["bronze.orders"]["flagged"] for c in status["consumers"].values()]
    assert any(one.get("ahead") for one in flagged)
