"""The section ``stores``: what fits an address, what is refused, and what never shows."""

from __future__ import annotations

import json
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from raylake.config.secrets import SecretRef
from raylake.config.stores import StoreAccess, access_to
from raylake.errors import ConfigError
from raylake.storage.access import (
    bucket_of,
    client_of,
    delta_options,
    stores_from_json,
    use_stores,
    used_stores,
)
from tests.unit.config.loading import load_text

HEAD = """\
pipeline: p
lake: s3a://lake/x/
kafka: {bootstrap: 'localhost:9092'}
bronze: {a: {topics: [a]}}
"""


def test_a_section_is_taken_with_normalised_addresses() -> None:
    loaded = load_text(
        HEAD
        + "stores: {'s3a://lake/': {endpoint: 'http://h:9000', allow_http: true,"
        + " access_key_id: me, secret_access_key: 'env:KEY'}}\n",
        environ={"KEY": "hunter2"},
    )
    (address,) = loaded.config.stores
    assert address == "s3://lake"
    shown = repr(loaded) + loaded.config.model_dump_json() + str(pickle.dumps(loaded.config))
    assert "hunter2" not in shown
    assert pickle.loads(pickle.dumps(loaded.config)) == loaded.config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{./lake: {}}", "is not the address of a store"),
        ("{ftp://x: {}}", "ftp:// is not a store that is known"),
        ("{'s3://lake': {account: x}}", "account says nothing to a s3:// store"),
        ("{'gs://lake': {region: x}}", "region says nothing to a gs:// store"),
        ("{'s3://lake': {access_key_id: x}}", "a key is both"),
        ("{'s3://lake': {secret_access_key: AKIA-secret}}", "a secret is a reference"),
        ("{'s3://lake': {endpoint: 'http://h:1'}}", "http:// would send the data without TLS"),
        ("{'s3://lake': {endpoint: 'h:1'}}", "is not a URL"),
        ("{'s3://lake': {endpoint: 'https://a:b@h'}}", "holds no credentials"),
        ("{'s3://lake': {regoin: x}}", "regoin"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(section: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(f"{HEAD}stores: {section}\n")
    said = str(raised.value)
    assert message in said
    assert ":5:" in said
    assert "AKIA-secret" not in said


def test_the_longest_address_that_fits_wins() -> None:
    key, other = SecretRef.parse("env:ONE"), SecretRef.parse("env:TWO")
    one = StoreAccess(
        region="one",
        access_key_id="1",
        secret_access_key=key,
        session_token=SecretRef.parse("env:T"),
    )
    two = StoreAccess(access_key_id="2", secret_access_key=other)
    stores = {"s3://lake": one, "s3://lake/bronze/payments": two}
    both = StoreAccess(region="one", access_key_id="2", secret_access_key=other)
    assert access_to("s3://lake/bronze/orders", stores) == one
    assert access_to("s3://lake/bronze/payments", stores) == both
    assert access_to("s3://lake/bronze/payments/_delta_log", stores) == both
    assert access_to("s3://lake/bronze/payments-eu", stores) == one
    assert access_to("s3://other/x", stores) == StoreAccess()
    assert bucket_of("abfss://box@account.dfs.core.windows.net/a/b").count("/") == 2


def test_a_child_gets_references_and_resolves_them_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    access = StoreAccess.model_validate(
        {"access_key_id": "me", "secret_access_key": "env:KEY", "region": "eu-1"}
    )
    use_stores({"s3://lake": access})
    try:
        told = used_stores()
        assert "hunter2" not in str(told)
        assert stores_from_json(told) == {"s3://lake": access}
        options = delta_options("s3://lake/bronze/orders")
        assert options["aws_secret_access_key"] == "hunter2"
        assert options["aws_region"] == "eu-1"
    finally:
        use_stores({})


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("s3://lake", {"region": "eu-1", "access_key_id": "me", "secret_access_key": "env:KEY"}),
        ("az://box", {"account": "acc", "account_key": "env:KEY"}),
        ("abfss://box@acc.dfs.core.windows.net", {"account_key": "env:KEY"}),
        ("gs://lake", {"service_account": "env:GOOGLE"}),
    ],
)
def test_the_client_of_each_store_takes_what_the_section_says(
    address: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server to try it on: its client opens with these options."""
    monkeypatch.setenv("KEY", "a2V5a2V5")
    monkeypatch.setenv("GOOGLE", json.dumps({"type": "service_account", **_service_account()}))
    use_stores({address: StoreAccess.model_validate(given)})
    try:
        assert client_of(f"{address}/bronze/orders") is client_of(f"{address}/bronze/payments")
    finally:
        use_stores({})


def test_what_a_client_does_not_take_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAS", "hunter2")
    access = StoreAccess.model_validate({"account": "acc", "sas_token": "env:SAS"})
    use_stores({"az://box": access})
    try:
        with pytest.raises(ConfigError, match="az://box cannot be opened") as raised:
            client_of("az://box/x")
        assert "hunter2" not in str(raised.value)
    finally:
        use_stores({})


def _service_account() -> dict[str, str]:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {"client_email": "a@b", "private_key_id": "x", "private_key": key.decode()}
