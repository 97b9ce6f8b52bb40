"""``raylake doctor`` before a real broker with rights, and on ports of this machine."""

from __future__ import annotations

import secrets
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from raylake.kafka.dev import DevBroker
from tests.harness.broker import LiveBroker
from tests.integration.cli.conftest import Shell, until

USER = "looking"
OTHER_PORT = 1
"""Where no broker listens."""


class _Guarding(DevBroker):
    """A local broker with an authorizer, a listener that wants a password, and a hidden one."""

    def __init__(self, instance: str, password: str) -> None:
        super().__init__(instance=instance)
        self._password = password
        sockets = [socket.socket() for _ in "ab"]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        self.guarded_port, self.hidden_port = (int(s.getsockname()[1]) for s in sockets)
        for one in sockets:
            one.close()

    def _properties(self, port: int, controller_port: int, *more: Any) -> str:
        shown = f"PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{self.guarded_port}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        settings = {
            "listeners": f"{shown},HIDDEN://127.0.0.1:{self.hidden_port},"
            f"CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"{shown},HIDDEN://127.0.0.1:{OTHER_PORT}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "HIDDEN:PLAINTEXT,SASL:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f"{module} required "
            f'user_{USER}="{self._password}";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        # Of two lines with one key the last one counts.
        lines = [f"{key}={value}" for key, value in settings.items()]
        return super()._properties(port, controller_port, *more) + "\n".join([*lines, ""])


@dataclass
class Guarded:
    """A broker at which a user has the rights that it was given."""

    live: LiveBroker
    dev: _Guarding
    password: str

    def let(self, topic: str, operation: ACLOperation) -> None:
        pattern = ResourcePattern(ResourceType.TOPIC, topic)
        right = ACL(f"User:{USER}", "*", operation, ACLPermissionType.ALLOW, pattern)
        self.live.admin.create_acls([right])


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    password = secrets.token_hex(16)
    dev = _Guarding(f"acl-{uuid.uuid4().hex[:8]}", password)
    live = LiveBroker(dev.up().bootstrap, dev)
    yield Guarded(live, dev, password)
    live.close()
    dev.down(wipe=True)


def checks(shell: Shell, file: str, *more: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = shell.here("doctor", file, *more, "-o", "json")
    assert done.out, done.err
    return done.code, {one["name"]: one for one in done.json["checks"]}


@pytest.mark.spec("K1", "A9")
@pytest.mark.timeout(300)
def test_doctor_names_the_right_that_is_missing_and_the_one_too_much(
    guarded: Guarded, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = guarded.live.create_topic("rights")
    monkeypatch.setenv("PLANTED", guarded.password)
    shell.write(
        "rights.yaml",
        "pipeline: rights\nlake: ./lake\nkafka:\n"
        f"  bootstrap: 127.0.0.1:{guarded.dev.guarded_port}\n  connect_timeout: 5s\n"
        "  security: {protocol: SASL_PLAINTEXT, mechanism: PLAIN, "
        f"username: {USER}, password: 'env:PLANTED', allow_password_without_tls: true}}\n"
        f"bronze:\n  rights: {{topics: [{topic}]}}\n",
    )
    title = "topics of bronze.rights"
    code, found = checks(shell, "rights.yaml")
    assert code != 0
    assert found[title]["state"] == "fail"
    assert "rights.yaml:" in found[title]["found"]
    assert found[title]["fix"]

    def after(operation: ACLOperation, name: str, state: str) -> dict[str, dict[str, str]]:
        """A right takes a moment until every part of the broker knows it."""
        guarded.let(topic, operation)

        def seen() -> dict[str, dict[str, str]] | None:
            found = checks(shell, "rights.yaml")[1]
            return found if found.get(name, {}).get("state") == state else None

        answer: dict[str, dict[str, str]] = until(seen, f"{name} is {state}", 60)
        return answer

    described = after(ACLOperation.DESCRIBE, title, "ok")
    assert described["topic rights"]["state"] == "fail"
    assert "READ" in described["topic rights"]["found"]
    assert "kafka-acls" in described["topic rights"]["fix"]
    enough = after(ACLOperation.READ, "topic rights", "ok")
    assert enough["least rights"]["state"] == "ok"
    much = after(ACLOperation.WRITE, "least rights", "warn")
    assert "WRITE" in much["least rights"]["found"]
    assert "DELETE" not in much["least rights"]["found"]
    assert guarded.password not in repr(much)


@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_doctor_names_addresses_that_cannot_be_reached_and_ports_that_are_taken(
    guarded: Guarded, shell: Shell
) -> None:
    topic = guarded.live.create_topic("plain")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shell.write(
            "plain.yaml",
            f"pipeline: plain\nlake: ./lake\nkafka: {{bootstrap: '{guarded.live.bootstrap}', "
            f"connect_timeout: 5s}}\nbronze: {{plain: {{topics: [{topic}]}}}}\n"
            f"ingest: {{http: '127.0.0.1:{port}'}}\n",
        )
        code, found = checks(shell, "plain.yaml")
    assert code == 0, found
    assert found["port of ingest.http"]["state"] == "warn"
    assert str(port) in found["port of ingest.http"]["found"]
    assert found["advertised listeners"]["state"] == "ok"
    assert guarded.live.bootstrap in found["advertised listeners"]["found"]
    assert found["topic rights"]["state"] == found["leaders"]["state"] == "ok"
    assert "least rights" not in found, "nobody is asked who they are"
    hidden = f"kafka.bootstrap=127.0.0.1:{guarded.dev.hidden_port}"
    code, found = checks(shell, "plain.yaml", "--set", hidden)
    assert code == 4
    failing = [one for one in found.values() if one["state"] == "fail"]
    assert any(f"127.0.0.1:{OTHER_PORT}" in one["found"] for one in failing), failing
    assert any("advertised.listeners" in one["fix"] for one in failing), failing
