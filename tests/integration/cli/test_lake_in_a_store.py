"""A whole pipeline whose lake is in an S3-compatible store, as a user types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from raylake.storage.dev import StoreInfo
from raylake.storage.place import place
from tests.harness.broker import LiveBroker
from tests.harness.store import KEY_VARIABLE, access_to, reach
from tests.integration.cli.conftest import GOOD, POISON, Done, Shell, pipeline_text


@pytest.fixture(scope="module")
def used(
    broker: LiveBroker,
    topic: str,
    store: StoreInfo,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Shell, Done, str]]:
    """A shell in which one run has ended, what it printed, and the lake's address."""
    shell = Shell(tmp_path_factory.mktemp("cli-store"))
    lake = f"s3://{store.bucket}/cli-{shell.folder.name}-{topic}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, store.secret_access_key)
        patch.setenv("HOME", str(shell.folder))
        document = yaml.safe_load(pipeline_text(broker, topic))
        document["lake"] = lake
        document["stores"] = {f"s3://{store.bucket}": access_to(store)}
        document["dead_letters"] = {"stop_above": "90%"}
        document["ingest"] = {**document.get("ingest", {}), "checkpoint_interval": 2}
        text = yaml.safe_dump(document, sort_keys=False)
        shell.write("clicks.yaml", text.replace("'true'", "true"))
        reach(store)
        yield shell, shell("run", "clicks.yaml", "--available-now", "-o", "json"), lake
    shell.close()


@pytest.mark.spec("C8", "K3")
def test_a_run_fills_a_lake_in_a_store(used: tuple[Shell, Done, str]) -> None:
    shell, done, lake = used
    assert done.code == 0, done.err
    said = done.json
    assert said["tables"]["bronze.clicks"]["totals"]["rows"] == GOOD
    assert Path(said["logs"]).is_relative_to(shell.folder), "logs stay on this machine"
    status = place(f"{lake}/_raylake/status/clicks.json").read_text(encoding="utf-8")
    assert '"state": "done"' in status


@pytest.mark.parametrize("level", ["log", "data", "broker", "all"])
def test_verify_balances_in_a_store(used: tuple[Shell, Done, str], level: str) -> None:
    shell = used[0]
    done = shell.here("verify", "clicks.yaml", "--level", level, "-o", "json")
    assert done.code == 0, done.out + done.err
    assert done.json["ok"] is True
    assert (done.json["totals"]["rows"], done.json["totals"]["dead"]) == (GOOD, POISON)


def test_what_operating_commands_read_lies_in_the_store(used: tuple[Shell, Done, str]) -> None:
    shell = used[0]
    for command in (
        "status",
        "dlq stats",
        "dlq show",
        "watermark show",
        "doctor",
        "explain",
        "logs",
    ):
        done = shell.here(*command.split(), "clicks.yaml")
        assert done.code == 0, f"{command}: {done.out}{done.err}"
        assert "Traceback" not in done.err


def test_the_stores_secret_is_nowhere_in_what_was_written(
    used: tuple[Shell, Done, str], store: StoreInfo
) -> None:
    shell, _, lake = used
    secret = store.secret_access_key.encode()
    for path in shell.folder.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    root = place(lake)
    for below in root.tree():  # type: ignore[union-attr]
        assert secret not in (root / below).read_bytes(), below


def test_a_wrong_key_is_refused_at_the_start_by_name(
    used: tuple[Shell, Done, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "another")
    done = used[0]("run", "clicks.yaml", "--available-now", "-o", "json")
    assert done.code == 2
    assert "secret_access_key does not belong to access_key_id" in done.out
