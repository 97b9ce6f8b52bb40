"""Keys that are changed while a process runs: what cannot be used leaves those that it has."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from raylake.config.secrets import PROFILES_VARIABLE, SecretRef
from raylake.config.stores import StoreAccess
from raylake.errors import ConfigError
from raylake.storage import access
from raylake.storage.access import delta_options, reached, use_stores


@pytest.fixture(autouse=True)
def _always_looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(access, "LOOK_AGAIN_S", 0.0)
    yield
    use_stores({})


def _account_key(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def _service_account(name: str) -> str:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps(
        {
            "type": "service_account",
            "client_email": f"{name}@b",
            "private_key_id": "x",
            "private_key": key.decode(),
        }
    )


@pytest.mark.parametrize(
    ("address", "given", "good"),
    [
        ("gs://lake", {"service_account": "env:KEY"}, _service_account),
        ("az://box", {"account": "acc", "account_key": "env:KEY"}, _account_key),
    ],
)
def test_a_changed_key_that_no_client_takes_leaves_the_one_in_use(
    address: str,
    given: dict[str, str],
    good: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("KEY", first := good("one"))
    use_stores({address: StoreAccess.model_validate(given)})
    before = reached(address)
    monkeypatch.setenv("KEY", "!hunter2!")
    for _ in range(3):
        assert reached(address) is before
        assert first in delta_options(address).values()
    (said,) = caplog.messages
    assert f"{address}: the keys in use stay: {address} cannot be opened" in said
    assert "hunter2" not in said
    monkeypatch.setenv("KEY", second := good("two"))
    assert reached(address) is not before
    assert second in delta_options(address).values()
    assert second not in repr(reached(address))


def test_a_key_that_is_gone_leaves_the_one_in_use_for_every_reader_of_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    key = tmp_path / "key"
    key.write_text("hunter2")
    given = {"region": "eu-1", "access_key_id": "me", "secret_access_key": f"file:{key}"}
    use_stores({"s3://lake": StoreAccess.model_validate(given)})
    before = reached("s3://lake/a")
    for times in range(1, 3):
        key.unlink()
        assert delta_options("s3://lake/b")["aws_secret_access_key"] == "hunter2"
        assert reached("s3://lake/a") is before
        assert len(caplog.messages) == times, "told once each time that it goes"
        key.write_text("hunter2")
        assert reached("s3://lake/a") is before
    assert "hunter2" not in repr(before)


def test_a_file_error_of_a_secret_is_never_one_of_an_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    given = {"region": "eu-1", "access_key_id": "me", "secret_access_key": "env:KEY"}
    use_stores({"s3://lake": StoreAccess.model_validate(given)})
    before = reached("s3://lake")

    def gone(self: SecretRef, environ: object = None) -> str:
        del environ
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(SecretRef, "resolve", gone)
    assert reached("s3://lake") is before
    access.forget_clients()
    with pytest.raises(ConfigError, match="s3://lake cannot be opened: env:KEY"):
        reached("s3://lake")


def test_profiles_that_are_replaced_right_after_they_were_read_are_judged_as_they_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = tmp_path / "profiles.yaml"
    read = SecretRef._read

    def then_gone(self: SecretRef, path: Path, **more: Any) -> str:
        text = read(self, path, **more)
        path.unlink()
        return text

    monkeypatch.setattr(SecretRef, "_read", then_gone)
    profiles.write_text("key: hunter2\n")
    profiles.chmod(0o600)
    variables = {PROFILES_VARIABLE: str(profiles)}
    assert SecretRef.parse("profile:key").resolve(variables) == "hunter2"
