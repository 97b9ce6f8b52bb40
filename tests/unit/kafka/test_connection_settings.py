from __future__ import annotations

from dataclasses import dataclass

import pytest

from raylake.errors import ConfigError
from raylake.kafka.connection import Connection


@dataclass(frozen=True)
class Reference:
    kind: str
    value: str

    def resolve(self) -> str:
        return self.value


@dataclass(frozen=True)
class Security:
    protocol: str = "SASL_SSL"
    mechanism: str = "SCRAM-SHA-512"
    username: Reference = Reference("env", "me")
    password: Reference = Reference("env", "secret")
    ca_file: str | None = "/etc/ca.pem"
    check_hostname: bool = False


def test_security_is_mapped_and_its_references_are_resolved() -> None:
    settings = Connection("h:1", Security()).settings()
    assert settings["security_protocol"] == "SASL_SSL"
    assert settings["sasl_mechanism"] == "SCRAM-SHA-512"
    assert settings["sasl_plain_username"] == "me"
    assert settings["sasl_plain_password"] == "secret"
    assert settings["ssl_cafile"] == "/etc/ca.pem"
    assert settings["ssl_check_hostname"] is False
    assert "ssl_keyfile" not in settings


def test_a_secret_is_not_in_the_repr() -> None:
    assert "secret" not in repr(Connection("h:1", "env:PASSWORD"))


def test_several_addresses_are_split() -> None:
    assert Connection("a:1, b:2,[::1]:3").hosts() == [("a", 1), ("b", 2), ("::1", 3)]


@pytest.mark.parametrize("bad", ["", "host", "host:", ":9092", "host:port", "a:1,,b:2"])
def test_an_address_that_is_not_host_and_port_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Connection(bad).hosts()
