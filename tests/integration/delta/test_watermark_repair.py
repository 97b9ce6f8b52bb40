"""The watermark's deliberate repair: a commit of the owner's, kept by those that come after."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.client.watermarks import move_watermark, watermarks
from raylake.clock import SystemClock
from raylake.config import Pipeline
from raylake.config.loader import load_bytes
from raylake.delta.metadata import last_metadata
from raylake.delta.verify import TableToVerify, VerifyOptions, verify_pipeline
from raylake.errors import AlreadyRunning, ConfigError, Fenced, Refused
from tests.integration.delta.scope import PIPELINE, Scope

TABLE = "bronze.orders"
WILD_MS, RIGHT_MS = 1_800_000_000_000, 1_700_000_000_000


def config(tmp_path: Path, pipeline: str = PIPELINE) -> Pipeline:
    text = (
        f"{{pipeline: {pipeline}, lake: {tmp_path / 'lake'}, kafka: {{bootstrap: 'nowhere:1'}}, "
        "bronze: {orders: {topics: [orders]}}}"
    )
    return load_bytes(text.encode(), environ={}).config


def move(
    tmp_path: Path,
    value_ms: int,
    *,
    table: str = TABLE,
    pipeline: str = PIPELINE,
    dry_run: bool = False,
) -> int | None:
    moved = move_watermark(
        config(tmp_path, pipeline), table, value_ms, SystemClock(), dry_run=dry_run, timeout_s=1
    )
    assert moved.by == "command"
    return moved.was_ms


@pytest.mark.spec("A10")
def test_a_watermark_that_was_set_back_stays_back_for_this_owner_and_the_next(
    scope: Scope,
) -> None:
    owner = scope.owner()
    owner.commit([scope.unit(owner, 0, 5)], watermark=lambda _: WILD_MS)
    owner.set_watermark(RIGHT_MS)
    assert owner.watermark_ms == RIGHT_MS
    said = last_metadata(scope.path) or {}
    assert (said["kind"], said["watermark_ms"], said["watermark_was_ms"]) == (
        "watermark",
        RIGHT_MS,
        WILD_MS,
    )
    owner.commit([scope.unit(owner, 5, 9)], watermark=lambda _: RIGHT_MS - 1)
    assert owner.watermark_ms == RIGHT_MS
    newer = scope.attach("run-2", take_over=True)
    assert newer.watermark_ms == RIGHT_MS
    newer.commit([scope.unit(newer, 9, 12)], watermark=lambda _: RIGHT_MS + 1)
    assert newer.watermark_ms == RIGHT_MS + 1
    with pytest.raises(Fenced):
        owner.set_watermark(WILD_MS)
    assert scope.offsets() == list(range(12))
    report = verify_pipeline(
        [TableToVerify(str(scope.path), TABLE)],
        str(scope.letters_path),
        PIPELINE,
        VerifyOptions("log"),
    )
    assert report.ok, [str(one) for table in report.tables for one in table.findings]


@pytest.mark.spec("A10")
def test_without_a_run_the_command_owns_the_table_for_one_commit(
    scope: Scope, tmp_path: Path
) -> None:
    owner = scope.owner()
    owner.commit([scope.unit(owner, 0, 5)], watermark=lambda _: WILD_MS)
    version = owner.version
    with pytest.raises(AlreadyRunning, match="owns this table, and lives"):
        move(tmp_path, RIGHT_MS)
    owner.release()
    assert move(tmp_path, RIGHT_MS, dry_run=True) == WILD_MS
    assert not scope.log(version + 2).exists()
    assert move(tmp_path, RIGHT_MS) == WILD_MS
    shown = watermarks(config(tmp_path), SystemClock())
    assert [(one.table, one.watermark_ms, one.source) for one in shown] == [
        (TABLE, RIGHT_MS, "log")
    ]
    # Released, so the next run need not wait.
    assert scope.attach("run-3").watermark_ms == RIGHT_MS


@pytest.mark.spec("A10")
def test_a_repair_that_cannot_be_meant_changes_nothing(scope: Scope, tmp_path: Path) -> None:
    scope.owner().release()
    before = sorted((scope.path / "_delta_log").iterdir())
    with pytest.raises(ConfigError, match="no table"):
        move(tmp_path, RIGHT_MS, table="bronze.nowhere")
    with pytest.raises(ConfigError, match="between 1970 and now"):
        move(tmp_path, -1)
    with pytest.raises(ConfigError, match="between 1970 and now"):
        move(tmp_path, round(SystemClock().now() * 1000) + 60_000)
    with pytest.raises(Refused, match="belongs to pipeline 'orders'"):
        move(tmp_path, RIGHT_MS, pipeline="another")
    assert sorted((scope.path / "_delta_log").iterdir()) == before
