from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from raylake.config.kafka import Security
from raylake.errors import ConfigError
from raylake.kafka.certificates import Authority
from raylake.kafka.connection import Connection

PASSWORD = "hidden"


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """An authority's certificate, and a client's with its key."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.certificate())
    for name in ("mine", "other"):
        key, certificate = authority.issue(name)
        (tmp_path / f"{name}.key").write_bytes(key)
        (tmp_path / f"{name}.crt").write_bytes(certificate)
    return tmp_path


def section(**more: Any) -> Security:
    user = {"mechanism": "SCRAM-SHA-512", "username": "me", "password": "env:KAFKA_PASSWORD"}
    return Security.model_validate({"protocol": "SASL_SSL", **user, **more})


def test_security_is_mapped_and_its_references_are_resolved(
    monkeypatch: pytest.MonkeyPatch, pem: Path
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    connection = Connection("h:1", section(ca=str(pem / "ca.pem"), check_hostname=False))
    settings = connection.settings()
    assert settings["security_protocol"] == "SASL_SSL"
    assert settings["sasl_mechanism"] == "SCRAM-SHA-512"
    assert settings["sasl_plain_username"] == "me"
    assert settings["sasl_plain_password"] == PASSWORD
    context = settings["ssl_context"]
    assert context.check_hostname is False
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [one["subject"] for one in context.get_ca_certs()]
    assert PASSWORD not in repr(connection)


def test_host_names_are_checked_unless_it_is_said_otherwise(pem: Path) -> None:
    security = Security.model_validate({"protocol": "SSL", "ca": str(pem / "ca.pem")})
    context = Connection("h:1", security).settings()["ssl_context"]
    assert context.check_hostname is True
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_user_name_with_signs_of_scram_is_escaped_for_scram_only(
    monkeypatch: pytest.MonkeyPatch, pem: Path
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    names = []
    for mechanism in ("SCRAM-SHA-256", "PLAIN"):
        security = section(mechanism=mechanism, username="a=b,c", ca=str(pem / "ca.pem"))
        names.append(Connection("h:1", security).settings()["sasl_plain_username"])
    assert names == ["a=3Db=2Cc", "a=b,c"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca": "nowhere.pem"}, "kafka.security.ca: .*nowhere.pem: No such file"),
        ({"ca": "mine.key"}, "kafka.security.ca: .* holds no certificate"),
        ({"certificate": "mine.crt", "key": "nowhere.key"}, "kafka.security.key: .*No such file"),
        ({"certificate": "mine.crt", "key": "other.key"}, "kafka.security.key: .*is not the key"),
        ({"certificate": "mine.crt", "key": "locked.key"}, "kafka.security.key: .*key_password"),
    ],
)
def test_a_wrong_file_of_tls_is_named(pem: Path, files: dict[str, str], message: str) -> None:
    key = serialization.load_pem_private_key((pem / "mine.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(PASSWORD.encode())
    form = serialization.PrivateFormat.PKCS8
    (pem / "locked.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    security = {"protocol": "SSL", **{name: str(pem / file) for name, file in files.items()}}
    with pytest.raises(ConfigError, match=message):
        Connection("h:1", Security.model_validate(security)).settings()


def test_the_password_of_a_key_is_a_reference(monkeypatch: pytest.MonkeyPatch, pem: Path) -> None:
    key = serialization.load_pem_private_key((pem / "mine.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(PASSWORD.encode())
    form = serialization.PrivateFormat.PKCS8
    (pem / "mine.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    given = {"certificate": str(pem / "mine.crt"), "key": str(pem / "mine.key")}
    security = Security.model_validate(
        {"protocol": "SSL", **given, "key_password": "env:KEY_PASSWORD"}
    )
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    assert Connection("h:1", security).settings()["ssl_context"]
    monkeypatch.setenv("KEY_PASSWORD", "wrong")
    with pytest.raises(ConfigError, match="key_password") as caught:
        Connection("h:1", security).settings()
    assert "wrong" not in str(caught.value)


def test_a_token_is_read_again_at_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    security = Security.model_validate(
        {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": "env:KAFKA_TOKEN"}
    )
    provider = Connection("h:1", security).settings()["sasl_oauth_token_provider"]
    for value in ("first", "second"):
        monkeypatch.setenv("KAFKA_TOKEN", value)
        assert provider.token() == value


def test_several_addresses_are_split() -> None:
    assert Connection("a:1, b:2,[::1]:3").hosts() == [("a", 1), ("b", 2), ("::1", 3)]


@pytest.mark.parametrize("bad", ["", "host", "host:", ":9092", "host:port", "a:1,,b:2"])
def test_an_address_that_is_not_host_and_port_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Connection(bad).hosts()
