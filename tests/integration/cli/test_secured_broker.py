"""From ``dev up --secure`` to a table over TLS and SCRAM, by the commands that a user types."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raylake.kafka.dev import DevBroker
from tests.harness.broker import LiveBroker
from tests.integration.cli.conftest import Shell

RECORDS = 500
POISON = 3


@pytest.fixture
def instance() -> Iterator[str]:
    name = f"cli-secured-{uuid.uuid4().hex[:8]}"
    yield name
    DevBroker(instance=name).down(wipe=True)


def filled(bootstrap: str, instance: str) -> str:
    live = LiveBroker(bootstrap, DevBroker(instance=instance))
    topic = live.create_topic("guarded", partitions=2)
    producer = live.producer()
    for number in range(RECORDS):
        producer.send(topic, json.dumps({"id": number}).encode(), partition=number % 2)
    for number in range(POISON):
        producer.send(topic, b"poison", partition=number % 2)
    producer.close()
    live.close()
    return topic


def with_security(text: str, **more: Any) -> str:
    """The pipeline file with parts of ``kafka.security`` changed."""
    document = yaml.safe_load(text)
    document["kafka"]["security"] |= more
    return yaml.safe_dump(document)


@pytest.mark.long
@pytest.mark.spec("A9", "K1", "K3")
@pytest.mark.timeout(400)
def test_a_whole_run_over_tls_and_scram(joined_shell: Shell, instance: str) -> None:
    shell = joined_shell
    started = shell("dev", "up", "--secure", "--instance", instance, "--output", "json")
    assert started.code == 0, started
    topic = filled(started.json["broker"]["bootstrap"], instance)
    printed = shell("dev", "up", "--instance", instance)
    kafka = started.json["kafka"]["SCRAM-SHA-512"]
    assert yaml.safe_dump({"kafka": kafka}, sort_keys=False, width=1000) in printed.out

    security = json.dumps(kafka["security"])
    drafted = ("init", "--bootstrap", kafka["bootstrap"], "--topic", topic)
    draft = shell.here(*drafted, "--security", security, "--pipeline", "guarded")
    assert draft.code == 0, draft
    assert yaml.safe_load(draft.out)["kafka"] == kafka
    shell.write("guarded.yaml", draft.out)
    password = Path(kafka["security"]["password"].removeprefix("file:")).read_text()

    said = [
        shell.here("validate", "guarded.yaml"),
        shell.here("preview", "guarded.yaml", "--output", "json"),
        shell.here("doctor", "guarded.yaml"),
        shell("run", "guarded.yaml", "--available-now"),
        shell.here("verify", "guarded.yaml", "--level", "all"),
    ]
    assert [done.code for done in said] == [0] * len(said), said
    assert sum(table["rows"] for table in said[1].json["tables"]) == RECORDS
    assert sum(table["dead"] for table in said[1].json["tables"]) == POISON
    assert not any(password in done.out + done.err for done in [started, printed, draft, *said])

    # What refuses us is said by each command that asks the broker, with the same words.
    wrong = shell.folder / "wrong.password"
    wrong.write_text("not-the-password")
    wrong.chmod(0o600)
    shell.write("wrong.yaml", with_security(draft.out, password=f"file:{wrong}"))
    folder = Path(kafka["security"]["ca"]).parent
    guest = {"username": "guest", "password": f"file:{folder}/guest.password"}
    shell.write("guest.yaml", with_security(draft.out, **guest))
    for file, why in (
        ("wrong.yaml", "refused the credentials of user 'raylake' by SCRAM-SHA-512"),
        ("guest.yaml", f"user 'guest' has no right on topic '{topic}'"),
    ):
        commands = [("preview", file)]
        if file == "wrong.yaml":
            commands += [("run", file, "--available-now"), ("doctor", file)]
            commands += [("verify", file, "--level", "all")]
        for command in commands:
            done = shell(*command) if command[0] == "run" else shell.here(*command)
            flat = " ".join((done.out + done.err).split())
            assert done.code == 1, (command, done)
            assert why in flat, (command, flat)
            assert "not-the-password" not in flat
