"""A planted secret is used, and stands nowhere: no log, commit, document, label or command line."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from raylake.kafka.dev import DevBroker
from tests.harness.broker import LiveBroker
from tests.harness.collector import Collector, collector
from tests.harness.gateway import Gateway, gateway
from tests.harness.repeater import Repeater, repeater
from tests.integration.cli.conftest import Shell

USER = "planted-user"
GOOD = 60
STATE = """
import ray, sys
ray.init(address=sys.argv[1], namespace="raylake", log_to_driver=False)
from ray._private.state import state
print(state.actor_table(None), state.job_table(), state.node_table())
"""


@dataclass
class Guarded:
    """A broker with a second listener that wants a password."""

    live: LiveBroker
    bootstrap: str
    password: str


class _Guarded(DevBroker):
    """A local broker with one listener more, whose only user has this password."""

    def __init__(self, instance: str, password: str) -> None:
        super().__init__(instance=instance)
        self._password = password
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.guarded_port = probe.getsockname()[1]

    def _properties(self, port: int, controller_port: int, listeners: dict[str, int]) -> str:
        shown = f"PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{self.guarded_port}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        more = {
            "listeners": f"{shown},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": shown,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "SASL:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f"{module} required "
            f'user_{USER}="{self._password}";',
        }
        # Of two lines with one key the last one counts.
        lines = [f"{key}={value}" for key, value in more.items()]
        return super()._properties(port, controller_port, listeners) + "\n".join([*lines, ""])


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    password = secrets.token_hex(16)
    dev = _Guarded(f"sasl-{uuid.uuid4().hex[:8]}", password)
    live = LiveBroker(dev.up().bootstrap, dev)
    yield Guarded(live, f"127.0.0.1:{dev.guarded_port}", password)
    live.close()
    dev.down(wipe=True)


@pytest.fixture
def ray_dir() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="rs-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def holders(needle: bytes, *folders: Path) -> list[str]:
    """The files that hold these bytes."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and needle in path.read_bytes():
                found.append(str(path.relative_to(folder)))
    return found


def spellings(secret: str) -> list[bytes]:
    """The secret as it is, and as base64 spells it, on its own or in SASL's answer."""
    whole = base64.b64encode(f"\0{USER}\0{secret}".encode())
    return [secret.encode(), base64.b64encode(secret.encode())[:-4], whole[20:-4]]


def running() -> str:
    """Names, titles and arguments of all processes."""
    lines = []
    for one in psutil.process_iter(["name", "cmdline"]):
        lines.append(f"{one.info['name']} {' '.join(one.info['cmdline'] or ())}")
    return "\n".join(lines)


def state_of(address: str) -> str:
    """What Ray's own state says of actors, jobs and nodes."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", STATE, address],
        # Without it Ray looks for a cluster on loopback at another address of this machine.
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@dataclass
class Observers:
    """The places that metrics and spans go to, and what lets the run in there."""

    gateway: Gateway
    cloudwatch: Repeater
    spans: Collector
    secrets: dict[str, str]

    @property
    def section(self) -> str:
        """``metrics`` of the pipeline file."""
        return (
            f"metrics:\n  push_gateway: {{url: '{self.gateway.url}', interval: 300ms, "
            "token: 'env:PLANTED_GATEWAY', allow_password_without_tls: true}\n"
            f"  cloudwatch: {{endpoint: '{self.cloudwatch.url}', region: eu-west-1, "
            "interval: 300ms, access_key_id: planted-id, secret_access_key: 'env:PLANTED_KEY', "
            "session_token: 'env:PLANTED_SESSION'}\n"
        )

    def were_asked(self) -> None:
        """All of them were sent something with what lets the run in."""
        assert self.gateway.pushes
        assert self.secrets["PLANTED_SESSION"] in self.cloudwatch.values("x-amz-security-token")
        bearer = f"Bearer {self.secrets['PLANTED_COLLECTOR']}"
        assert {request["authorization"] for request in self.spans.headers} == {bearer}
        assert self.spans.of("raylake.commit")


@pytest.fixture
def observers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observers]:
    names = ("PLANTED_GATEWAY", "PLANTED_KEY", "PLANTED_SESSION", "PLANTED_COLLECTOR")
    planted = {name: secrets.token_hex(16) for name in names}
    with gateway() as pushed, repeater() as cloudwatch, collector() as spans:
        pushed.authorization = f"Bearer {planted['PLANTED_GATEWAY']}"
        headers = {
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{planted['PLANTED_COLLECTOR']}"
        }
        for name, value in {**planted, **spans.environment, **headers}.items():
            monkeypatch.setenv(name, value)
        yield Observers(pushed, cloudwatch, spans, planted)


@pytest.mark.spec("A9", "J1", "J3", "K1")
@pytest.mark.timeout(400)
def test_a_planted_password_is_used_and_found_nowhere(
    guarded: Guarded,
    observers: Observers,
    shell: Shell,
    ray_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = guarded.live.create_topic("planted")
    producer = guarded.live.producer()
    for number in range(GOOD):
        producer.send(topic, json.dumps({"id": number}).encode())
    producer.send(topic, b"poison")
    producer.flush()
    producer.close()
    shell.write(
        "planted.yaml",
        f"pipeline: planted\nlake: ./lake\nkafka:\n  bootstrap: {guarded.bootstrap}\n"
        "  connect_timeout: 5s\n"
        "  security: {protocol: SASL_PLAINTEXT, mechanism: PLAIN, "
        f"username: {USER}, password: 'env:PLANTED', allow_password_without_tls: true}}\n"
        f"bronze:\n  planted: {{topics: [{topic}], schema: {{id: long}}, commit_interval: 300ms}}\n"
        f"ingest: {{consumers: 1}}\ndead_letters: {{stop_above: 90%}}\n{observers.section}",
    )
    monkeypatch.setenv("RAYLAKE_RAY_DIR", str(ray_dir))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("PLANTED", guarded.password)
    said = [
        shell.here("validate", "planted.yaml", "-o", "json"),
        shell.here("explain", "planted.yaml"),
    ]
    said.append(shell.here("explain", "planted.yaml", "--output", "json"))

    run = shell.start("run", "planted.yaml")
    document = shell.until_committed("planted", GOOD + 1)
    listings = [running(), state_of(document["job"]["address"]), json.dumps(document)]
    assert "raylake/planted" in listings[1], "the actors are not listed: this shows nothing"
    said.append(shell.here("status", "planted.yaml", "--output", "json"))
    said.append(shell.here("dlq", "show", "planted.yaml", "--output", "json"))
    assert holders(topic.encode(), ray_dir, shell.folder), "nothing is found: this shows nothing"
    everywhere = [ray_dir, shell.folder, shell.folder.with_name(f"{shell.folder.name}-said")]
    for secret in (guarded.password, *observers.secrets.values()):
        for spelling in spellings(secret):
            assert holders(spelling, *everywhere) == []
    said.append(shell("stop", "planted.yaml"))
    said.append(shell.end(run))
    said.append(shell.here("verify", "planted.yaml", "--output", "json"))
    assert [done.code for done in said] == [0] * len(said), said
    observers.were_asked()

    # A login that fails: its errors, tracebacks and what is kept of the session hold it neither.
    observers.gateway.authorization = "somebody else"
    wrong = secrets.token_hex(16)
    monkeypatch.setenv("PLANTED", wrong)
    refused = shell("run", "planted.yaml", "--available-now", "--output", "json")
    assert refused.code != 0
    assert "kafka.security" in refused.out
    refusals = json.dumps(shell.status("planted")["pushes"])
    assert "who are you" in refusals
    assert "SignatureDoesNotMatch" in refusals
    for secret in (guarded.password, wrong, *observers.secrets.values()):
        for spelling in spellings(secret):
            assert holders(spelling, *everywhere) == []
            text = spelling.decode()
            assert not any(text in listing for listing in listings)
            assert not any(text in done.out + done.err for done in [*said, refused])
