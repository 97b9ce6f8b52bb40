from __future__ import annotations

import pytest

from raylake.config.kafka import Security
from raylake.errors import ConfigError
from raylake.kafka.connection import Connection


def test_security_is_mapped_and_its_references_are_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hidden")
    security = Security.model_validate(
        {
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username": "me",
            "password": "env:KAFKA_PASSWORD",
            "ca": "/etc/ca.pem",
            "check_hostname": False,
        }
    )
    connection = Connection("h:1", security)
    settings = connection.settings()
    assert settings["security_protocol"] == "SASL_SSL"
    assert settings["sasl_mechanism"] == "SCRAM-SHA-512"
    assert settings["sasl_plain_username"] == "me"
    assert settings["sasl_plain_password"] == "hidden"
    assert settings["ssl_cafile"] == "/etc/ca.pem"
    assert settings["ssl_check_hostname"] is False
    assert "ssl_keyfile" not in settings
    assert "hidden" not in repr(connection)


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
