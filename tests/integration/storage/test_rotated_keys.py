"""Keys of a store that are rotated while it is in use: the old ones are refused from then on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from deltalake.exceptions import DeltaError

from raylake.config.stores import StoreAccess
from raylake.delta.checkpoint import CheckpointResult
from raylake.delta.checkpointer import Checkpointer
from raylake.delta.log_table import LogTable
from raylake.errors import DependencyUnreachable
from raylake.storage import access
from raylake.storage.access import reached, use_stores
from raylake.storage.dev import DevStore, StoreInfo
from raylake.storage.dev_server import USER
from raylake.storage.objects import StoreDenied, StorePath
from raylake.storage.place import place
from tests.integration.storage.test_owner_on_a_store import Table


class Keys:
    """The key of a store's user, and the files in which this process finds it."""

    def __init__(self, info: StoreInfo, folder: Path) -> None:
        self.info = info
        self.folder = folder
        self.write()

    def entry(self) -> dict[str, Any]:
        return {
            "endpoint": self.info.endpoint,
            "access_key_id": f"file:{self.folder / 'id'}",
            "secret_access_key": f"file:{self.folder / 'key'}",
            "allow_http": True,
        }

    def write(self) -> None:
        """Put the key that holds now to where the references point."""
        (self.folder / "id").write_text(self.info.access_key_id)
        (self.folder / "key").write_text(self.info.secret_access_key)

    def rotate(self) -> None:
        """Make another key and delete this one, by the store's own interface."""
        old = self.info
        users = self._users()
        made = users.create_access_key(UserName=USER)["AccessKey"]
        self.info = replace(
            old, access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"]
        )
        self._users().delete_access_key(UserName=USER, AccessKeyId=old.access_key_id)

    def _users(self) -> Any:
        return boto3.client(
            "iam",
            endpoint_url=self.info.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.info.access_key_id,
            aws_secret_access_key=self.info.secret_access_key,
            # The first key of a local store is shorter than those of AWS.
            config=Config(parameter_validation=False),
        )


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    """A store of this test alone."""
    dev = DevStore(instance=f"rotated-{os.getpid()}")
    try:
        made = Keys(dev.up(), tmp_path)
        use_stores({f"s3://{made.info.bucket}": StoreAccess.model_validate(made.entry())})
        yield made
    finally:
        use_stores({})
        dev.down()


@pytest.fixture
def lake(keys: Keys) -> str:
    return f"s3://{keys.info.bucket}/lake"


@pytest.mark.spec("C8")
def test_an_owner_goes_on_when_the_keys_of_its_store_were_rotated(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFUSED_AGAIN_S", 0.0)
    table = Table(lake)
    table.owner.commit([table.unit(0, 5)])
    for times in range(1, 3):
        keys.rotate()
        keys.write()
        old = reached(lake).client
        table.owner.commit([table.unit(5 * times, 5 * times + 5)])
        assert reached(lake).client is not old
    assert table.owner.states().popitem()[1].next == 15
    checkpointer = Checkpointer(table.path, interval_commits=1)
    checkpointer.start(table.owner.version)
    assert isinstance(checkpointer.wait(60), CheckpointResult), "a process of its own"
    assert place(table.path).exists()


def test_an_open_handle_of_delta_rs_is_opened_anew_with_the_new_keys(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFUSED_AGAIN_S", 0.0)
    table = Table(lake)
    handle = LogTable(place(table.path))
    table.owner.commit([table.unit(0, 5)])
    keys.rotate()
    with pytest.raises((DeltaError, OSError)):
        handle.update_incremental()
    keys.write()
    handle.update_incremental()
    assert handle.version() == table.owner.version


def test_a_table_is_opened_with_the_keys_in_use_while_there_are_no_others(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(lake)
    handle = LogTable(place(table.path))
    monkeypatch.setattr(access, "LOOK_AGAIN_S", 0.0)
    (keys.folder / "key").unlink()
    assert LogTable(place(table.path)).version() == table.owner.version
    table.owner.commit([table.unit(0, 5)])
    handle.update_incremental()
    assert handle.version() == table.owner.version


def test_an_owner_whose_keys_are_refused_before_there_are_new_ones_waits_for_them(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFUSED_AGAIN_S", 0.0)
    table = Table(lake)
    unit, later = table.unit(0, 5), table.unit(5, 10)
    table.owner.commit([unit])
    keys.rotate()
    with pytest.raises(DependencyUnreachable, match="403"):
        table.owner.commit([later])
    (keys.folder / "key").unlink()
    with pytest.raises(DependencyUnreachable, match="403"):
        table.owner.commit([later])
    keys.write()
    assert table.owner.commit([later])[0].status == "committed"


def test_every_request_finds_keys_that_were_rotated(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "REFUSED_AGAIN_S", 0.0)
    path = StorePath(f"{lake}/a/b")
    path.put(b"1")
    requests = {
        "stat": path.stat,
        "read": path.read_bytes,
        "names": path.parent.names,
        "tree": path.parent.tree,
        "folders": path.parent.parent.folders,
        "put": lambda: path.put(b"2"),
        "create": lambda: (path.parent / "c").create(b"3"),
        "open": lambda: path.open_input().read(),
        "exists": path.exists,
        "unlink": path.unlink,
    }
    for name, request in requests.items():
        keys.rotate()
        with pytest.raises(StoreDenied):
            request()
        keys.write()
        assert request() is not False, name
    assert (path.parent / "c").read_bytes() == b"3"


def test_references_are_not_read_for_each_request_that_is_refused(
    keys: Keys, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = StorePath(f"{lake}/a")
    path.put(b"1")
    keys.rotate()
    monkeypatch.setattr(access, "REFUSED_AGAIN_S", 3600.0)
    keys.write()
    for _ in range(3):
        with pytest.raises(StoreDenied):
            path.stat()
    monkeypatch.setattr(access, "LOOK_AGAIN_S", 0.0)
    path.stat()
