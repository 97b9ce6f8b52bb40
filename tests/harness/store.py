"""The S3-compatible store of the tests: one for all workers and runs that are under way at once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from raylake.config.stores import StoreAccess
from raylake.storage.access import forget_clients, use_stores
from raylake.storage.dev import DevStore, StoreInfo
from tests.harness.shared import shared
from tests.harness.store_proxy import StoreProxy, store_proxy

KEY_VARIABLE = "RAYLAKE_TEST_STORE_KEY"


def access_to(info: StoreInfo, **other: Any) -> dict[str, Any]:
    """An entry of the section ``stores`` for the store of the tests."""
    return {
        "endpoint": info.endpoint,
        "access_key_id": info.access_key_id,
        "secret_access_key": f"env:{KEY_VARIABLE}",
        "allow_http": "true",
        **other,
    }


def reach(info: StoreInfo, **other: Any) -> None:
    """Let this process reach the store like this."""
    entry = {**access_to(info, **other), "allow_http": True}
    use_stores({f"s3://{info.bucket}": StoreAccess.model_validate(entry)})


@pytest.fixture(scope="session")
def store() -> Iterator[StoreInfo]:
    """A store that runs."""
    dev = DevStore(instance="tests")
    with shared("tests-store", dev.up, lambda _: dev.down()) as info:
        yield info


class _Careless(DevStore):
    """One that takes requests as they come: their signatures are not looked at."""

    environment: ClassVar[dict[str, str]] = {}


@pytest.fixture
def careless_store() -> Iterator[StoreInfo]:
    """A store of this test alone, in front of which a proxy may change what was signed."""
    dev = _Careless(instance=f"careless-{os.getpid()}")
    yield dev.up()
    dev.down()


@pytest.fixture
def store_lake(store: StoreInfo, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A lake of this test alone in the store, which this process reaches."""
    monkeypatch.setenv(KEY_VARIABLE, store.secret_access_key)
    reach(store)
    yield f"s3://{store.bucket}/{uuid.uuid4().hex[:12]}"
    use_stores({})


@pytest.fixture
def proxy(
    store: StoreInfo, store_lake: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreProxy]:
    """A proxy through which this process reaches the store; it gives up after 2 s."""
    del store_lake
    monkeypatch.setattr("raylake.storage.access.REQUEST_TIMEOUT_S", 2)
    with store_proxy(store.port) as one:
        reach(store, endpoint=one.endpoint)
        yield one
        forget_clients()
