"""What is wrong with a store's configuration is said at the start, in its words."""

from __future__ import annotations

from typing import Any

import pytest

from raylake.client.runs import status_document
from raylake.clock import SystemClock
from raylake.config.secrets import SecretRef
from raylake.config.stores import StoreAccess
from raylake.delta.dead_letters import dead_letter_spec
from raylake.delta.identity import OwnerIdentity
from raylake.delta.opening import open_or_create
from raylake.errors import ConfigError, DependencyUnreachable, RayLakeError
from raylake.storage.access import use_stores
from raylake.storage.dev import StoreInfo
from raylake.storage.objects import StoreDenied
from raylake.storage.place import place
from raylake.storage.reach import require_stores
from tests.harness.store import access_to, reach
from tests.harness.store_proxy import StoreProxy

REFUSED: list[tuple[str, dict[str, Any], type[RayLakeError], str, str]] = [
    ("key's name", {"access_key_id": "nobody"}, ConfigError, "does not know this acc", "stores"),
    ("key", {"secret_access_key": "env:WRONG_KEY"}, ConfigError, "does not belong to", "stores"),
    ("no key", {"secret_access_key": "env:UNSET_KEY"}, ConfigError, "UNSET_KEY is not set", "node"),
    ("endpoint", {"endpoint": "http://127.0.0.1:1"}, DependencyUnreachable, "nobody", "endpoint"),
    ("host", {"endpoint": "http://store.invalid"}, DependencyUnreachable, "nobody", "endpoint"),
]


@pytest.mark.spec("C8")
@pytest.mark.parametrize(
    ("other", "kind", "message", "hint"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_a_store_that_cannot_be_used_is_refused_at_the_start(
    store: StoreInfo,
    store_lake: str,
    monkeypatch: pytest.MonkeyPatch,
    other: dict[str, Any],
    kind: type[RayLakeError],
    message: str,
    hint: str,
) -> None:
    monkeypatch.setenv("WRONG_KEY", "hunter2-hunter2")
    reach(store, **other)
    identity = OwnerIdentity.of_this_process("orders", "run-1")
    spec = dead_letter_spec(f"{store_lake}/dead_letters/orders")
    for attempt in (
        lambda: require_stores([store_lake]),
        lambda: open_or_create(spec, identity, SystemClock()),
        lambda: status_document(place(f"{store_lake}/_raylake/status/orders.json")),
    ):
        with pytest.raises(kind, match=message) as raised:
            attempt()
        assert hint in raised.value.hint
        assert "hunter2" not in str(raised.value)
        assert type(raised.value) is kind


@pytest.mark.spec("C8")
def test_each_address_has_the_access_of_its_own(
    store: StoreInfo, store_lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Side by side in one process; the longest address that fits wins."""
    monkeypatch.setenv("WRONG_KEY", "hunter2-hunter2")
    right = StoreAccess.model_validate({**access_to(store), "allow_http": True})
    wrong = right.model_copy(update={"secret_access_key": SecretRef.parse("env:WRONG_KEY")})
    closed = f"{store_lake}/bronze/payments"
    use_stores({f"s3://{store.bucket}": right, closed: wrong})
    clock = SystemClock()
    identity = OwnerIdentity.of_this_process("orders", "run-1")
    open_or_create(dead_letter_spec(f"{store_lake}/bronze/orders"), identity, clock)
    (place(f"{store_lake}/bronze/payments-2") / "x").exists()
    with pytest.raises(StoreDenied):
        (place(closed) / "x").exists()
    with pytest.raises(RayLakeError, match=r"signature|privileges|denied|Forbidden"):
        open_or_create(dead_letter_spec(closed), identity, clock)


def test_a_bucket_that_is_not_there(store: StoreInfo, store_lake: str) -> None:
    use_stores({})
    reach(StoreInfo(**{**_plain(store), "bucket": "nowhere"}))
    with pytest.raises(ConfigError, match=r"s3://nowhere at .*: there is no such bucket"):
        require_stores([store_lake.replace("s3://lake", "s3://nowhere")])


def _plain(store: StoreInfo) -> dict[str, Any]:
    return {name: getattr(store, name) for name in store.__slots__}


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (400, "AuthorizationHeaderMalformed", ConfigError, "in another region"),
        (301, "PermanentRedirect", ConfigError, "in another region"),
        (403, "AccessDenied", ConfigError, "these keys may not"),
        (400, "ExpiredToken", ConfigError, "session_token has expired"),
        (503, "SlowDown", DependencyUnreachable, "503 Service Unavailable, SlowDown"),
    ],
)
def test_what_a_store_answers_is_said_in_the_words_of_the_configuration(
    store_lake: str,
    proxy: StoreProxy,
    status: int,
    code: str,
    kind: type[RayLakeError],
    message: str,
) -> None:
    with (
        proxy.fault("answer", method="GET", status=status, code=code),
        pytest.raises(RayLakeError, match=message) as raised,
    ):
        require_stores([store_lake])
    assert type(raised.value) is kind
