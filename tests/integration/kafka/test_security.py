"""Each way into a secured broker, and each reason for which it stays shut, by its name."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka.admin import ACLOperation, ResourceType

from raylake.config.kafka import Security
from raylake.errors import AccessDenied, ConfigError
from raylake.ingest.unit import SourcePartition
from raylake.kafka.client import Cluster
from raylake.kafka.columnar import ColumnarFetcher
from raylake.kafka.connection import Connection
from raylake.kafka.dev import DevBroker
from raylake.kafka.dev_security import (
    GUEST,
    MECHANISMS,
    USER,
    DevSecurity,
    allowed,
    unsigned_token,
)
from raylake.kafka.port import FetchSettings, Position
from tests.harness.secured import SecuredBroker, secured_broker
from tests.harness.typed import Type
from tests.harness.waiting import until

pytestmark = pytest.mark.spec("A9")
RECORDS = 4000
SOON_S = 5.0
"""Half of ``connect_timeout``: what time does not heal is not waited for."""


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredBroker]:
    with secured_broker() as made:
        yield made


@pytest.fixture(scope="module")
def topic(secured: SecuredBroker) -> str:
    """Two partitions; answers are of many TLS records, and of sizes that fit none."""
    name = secured.live.create_topic(partitions=2)
    producer = secured.live.producer(batch_size=300_000, linger_ms=50)
    for number in range(RECORDS):
        producer.send(name, value=value_of(number), partition=number % 2)
    producer.close()
    return name


def value_of(number: int) -> bytes:
    return b"%08d" % number + b"x" * (number * 37 % 1500)


def cluster(connection: Connection) -> Cluster:
    return Cluster(connection.bootstrap, connection.security, connection.connect_timeout_s)


def read_all(connection: Connection, topic: str, settings: FetchSettings | None = None) -> set[Any]:
    with cluster(connection) as asked:
        sources = asked.topics([topic])[topic].sources()
        ends = asked.latest(sources)
    found: list[bytes] = []
    fetcher = ColumnarFetcher(connection, settings)
    try:
        fetcher.assign(dict.fromkeys(sources, Position(0)))
        deadline_s = time.monotonic() + 60
        while any(fetcher.positions()[one].offset < end for one, end in ends.items()):
            assert time.monotonic() < deadline_s
            for batch in fetcher.fetch(0.5):
                found += batch.records.column("value").to_pylist()
    finally:
        fetcher.close()
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("mechanism", [*MECHANISMS, None])
def test_the_fetcher_reads_with_each_mechanism_and_with_a_certificate(
    secured: SecuredBroker, topic: str, mechanism: str | None
) -> None:
    assert read_all(secured.connection(mechanism), topic) == set(map(value_of, range(RECORDS)))


@pytest.mark.parametrize("fetch_bytes", [70_001, 333_333, 32 * 2**20])
def test_answers_of_any_size_arrive_whole_over_tls(
    secured: SecuredBroker, topic: str, fetch_bytes: int
) -> None:
    settings = FetchSettings(
        fetch_max_bytes=fetch_bytes, max_partition_fetch_bytes=fetch_bytes, max_records=701
    )
    found = read_all(secured.connection(), topic, settings)
    assert found == set(map(value_of, range(RECORDS)))


def refused(ask: Callable[[], object], message: str, *secrets: str) -> AccessDenied:
    """The error of a question that is refused, soon; it holds no secret and says what to do."""
    began_s = time.monotonic()
    with pytest.raises(AccessDenied, match=message) as caught:
        ask()
    assert time.monotonic() - began_s < SOON_S
    assert caught.value.hint
    assert not any(secret in f"{caught.value}{caught.value.context}" for secret in secrets)
    return caught.value


def both_ways(connection: Connection, topic: str, message: str, *secrets: str) -> None:
    """The cluster's questions and the fetcher are refused for the same reason."""
    with cluster(connection) as asked:
        refused(lambda: asked.topics([topic]), message, *secrets)
    fetcher = ColumnarFetcher(connection)
    try:
        fetcher.assign({SourcePartition(topic, "AAAAAAAAAAAAAAAAAAAAAA", 0): Position(0)})
        refused(lambda: fetch_on(fetcher), message, *secrets)
    finally:
        fetcher.close()


def fetch_on(fetcher: ColumnarFetcher) -> None:
    deadline_s = time.monotonic() + 2 * SOON_S
    while time.monotonic() < deadline_s:
        assert fetcher.fetch(0.5) == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_named_as_that(
    secured: SecuredBroker,
    topic: str,
    mechanism: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SECURED", "planted-secret")
    caplog.set_level(logging.DEBUG)
    connection = secured.connection(mechanism, password="env:SECURED")
    message = f"refused the credentials of user 'raylake' by {mechanism}"
    both_ways(connection, topic, message, "planted-secret", secured.security.password(USER))
    assert "kafka.net.manager" in caplog.text
    assert "planted-secret" not in caplog.text


def test_a_token_that_has_expired_is_named_as_that(
    secured: SecuredBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = unsigned_token(USER, lives_s=-3600)
    monkeypatch.setenv("SECURED", token)
    connection = secured.connection("OAUTHBEARER", token="env:SECURED")
    both_ways(connection, topic, "refused the token of kafka.security.token", token)


def test_a_password_that_is_put_right_lets_the_same_object_in(
    secured: SecuredBroker, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    with cluster(secured.connection(password=f"file:{file}")) as asked:
        refused(lambda: asked.topics([topic]), "refused the credentials")
        file.write_text(secured.security.password(USER))
        assert topic in asked.topics([topic])


def test_a_mechanism_that_the_broker_lacks_is_named_with_those_that_it_has(
    secured: SecuredBroker, topic: str
) -> None:
    message = r"has no SASL mechanism SCRAM-SHA-512; it has PLAIN, while"
    both_ways(secured.connection(listener="FEW"), topic, message)


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        ("EXPIRED", "certificate of the broker at .* has expired"),
        ("ELSEWHERE", r"is for another host name \(.*127.0.0.1"),
        ("STRANGER", r"signed by an authority that is not in .*ca\.pem"),
    ],
)
def test_a_certificate_that_must_not_be_taken_is_named_before_a_password_is_sent(
    secured: SecuredBroker, topic: str, listener: str, message: str
) -> None:
    both_ways(secured.connection("PLAIN", listener=listener), topic, message)


def test_the_name_alone_can_be_left_unchecked_and_nothing_else(
    secured: SecuredBroker, topic: str
) -> None:
    elsewhere = secured.connection("PLAIN", listener="ELSEWHERE", check_hostname=False)
    assert len(read_all(elsewhere, topic)) == RECORDS
    stranger = secured.connection("PLAIN", listener="STRANGER", check_hostname=False)
    both_ways(stranger, topic, "signed by an authority")


def test_an_authority_that_the_system_does_not_know_is_named(
    secured: SecuredBroker, topic: str
) -> None:
    message = "signed by an authority that is not in this system's list"
    both_ways(secured.connection(ca=None), topic, message)


def test_a_client_without_or_with_a_strange_certificate_is_told_so(
    secured: SecuredBroker, topic: str
) -> None:
    folder = secured.security.folder
    none = secured.connection(None, certificate=None, key=None)
    both_ways(none, topic, "wants a client's certificate")
    files = {name: str(folder / f"stranger.{name}.pem") for name in ("certificate", "key")}
    strange = secured.connection(None, **files)
    both_ways(strange, topic, r"does not take the client's certificate .*stranger\.certificate")


def test_a_listener_of_the_other_kind_is_named(secured: SecuredBroker, topic: str) -> None:
    with Cluster(secured.info.address("SASL_SSL"), None, 2.0) as asked:
        refused(lambda: asked.topics([topic]), "speaks TLS, but kafka.security does not")
    tls = secured.connection()
    with Cluster(secured.info.bootstrap, tls.security, 2.0) as asked:
        refused(lambda: asked.topics([topic]), "does not speak TLS")
    certified = secured.connection(None)
    with Cluster(secured.info.address("SASL_SSL"), certified.security, 2.0) as asked:
        refused(lambda: asked.topics([topic]), "wants credentials by SASL, and .* gives none")
    both = {name: getattr(certified.security, name) for name in ("certificate", "key")}
    with cluster(secured.connection(listener="SSL", **both)) as asked:
        refused(lambda: asked.topics([topic]), "takes no SASL")


def test_a_topic_without_a_right_is_named_with_the_user(secured: SecuredBroker, topic: str) -> None:
    with cluster(secured.connection(user=GUEST)) as asked:
        error = refused(
            lambda: asked.topics([topic]), f"user 'guest' has no right on topic '{topic}'"
        )
        assert "kafka-acls --add" in error.hint


def test_a_topic_that_may_be_described_and_not_read_is_named(secured: SecuredBroker) -> None:
    name = secured.live.create_topic()
    secured.let_guest(ACLOperation.DESCRIBE, name)
    connection = secured.connection("SCRAM-SHA-256", GUEST)
    with cluster(connection) as asked:
        sources = asked.topics([name])[name].sources()
    fetcher = ColumnarFetcher(connection)
    try:
        fetcher.assign(dict.fromkeys(sources, Position(0)))
        refused(lambda: fetch_on(fetcher), f"user 'guest' has no right on topic '{name}'")
    finally:
        fetcher.close()


def test_a_group_without_a_right_is_named(secured: SecuredBroker) -> None:
    name = secured.live.create_topic()
    secured.let_guest(ACLOperation.DESCRIBE, name)
    with cluster(secured.connection(user=GUEST)) as asked:
        sources = asked.topics([name])[name].sources()
        message = "user 'guest' has no right on group 'billing'"
        refused(lambda: asked.group(sources, "billing"), message)


def test_the_members_of_a_group_are_not_taken_for_none_without_a_right(
    secured: SecuredBroker,
) -> None:
    """Also where the coordinator is known from a time when there was a right."""
    message = "user 'guest' has no right on group 'billing'"
    acl = allowed(GUEST, ResourceType.GROUP, "billing", ACLOperation.READ)
    with cluster(secured.connection(user=GUEST)) as asked:
        refused(lambda: asked.group_members("billing"), message)
        secured.live.admin.create_acls([acl])
        until(lambda: asked_for_members(asked) == 0, "the right is known")
        secured.live.admin.delete_acls([acl])
        until(lambda: asked_for_members(asked) is None, "the right is gone")
        error = refused(lambda: asked.group_members("billing"), message)
        assert "--operation Read --group 'billing'" in error.hint


def asked_for_members(asked: Cluster) -> int | None:
    """How many members the group has; None when we may not know."""
    try:
        return asked.group_members("billing")
    except AccessDenied:
        return None


def test_a_group_is_not_adopted_by_a_user_who_may_not_see_it(
    secured: SecuredBroker, tmp_path: Path, type_: Type
) -> None:
    name = secured.live.create_topic()
    secured.let_guest(ACLOperation.DESCRIBE, name)
    secured.let_guest(ACLOperation.READ, name)
    group = secured.live.commit_group(name, 0)
    connection = secured.connection(user=GUEST)
    file = tmp_path / "guest.yaml"
    security = secured.security.snippet("SCRAM-SHA-512", GUEST)
    document = {
        "pipeline": "guest",
        "lake": str(tmp_path / "lake"),
        "kafka": {"bootstrap": connection.bootstrap, "security": security},
        "bronze": {"orders": {"topics": [name], "schema": {"id": "long"}}},
    }
    file.write_text(yaml.safe_dump(document))
    order = ("adopt", str(file), "bronze.orders", "--from", "group", "--source", group)
    code, said = type_(*order)
    assert (code, said["code"]) == (1, "access_denied"), said
    assert f"user 'guest' has no right on group '{group}'" in said["message"]
    assert not (tmp_path / "lake").exists()
    acl = allowed(GUEST, ResourceType.GROUP, group, ACLOperation.READ)
    secured.live.admin.create_acls([acl])
    until(lambda: type_(*order, "--dry-run")[0] == 0, "the right is known")


def test_a_secured_instance_stays_secured_and_keeps_its_addresses_and_certificates(
    secured: SecuredBroker, topic: str
) -> None:
    ca = (secured.security.folder / "ca.pem").read_bytes()
    again = DevBroker(instance=secured.dev._instance)
    assert again.up() == secured.info
    assert again.status() == secured.info
    assert (secured.security.folder / "ca.pem").read_bytes() == ca
    for file in [*secured.security.folder.iterdir(), secured.dev._home / "server.properties"]:
        if file.name not in ("expired.pem", "elsewhere.pem") and "stranger" not in file.name:
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_running_plain_broker_is_not_turned_into_a_secured_one_behind_the_back(
    broker: Any,
) -> None:
    with pytest.raises(ConfigError, match="runs without secured listeners"):
        DevBroker(instance=broker.dev._instance, secure=True).up()


INTERRUPTED = """
import os, signal, sys
from raylake.kafka.dev import DevBroker
from raylake.kafka.dev_security import DevSecurity
DevSecurity.grant = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
DevBroker(instance=sys.argv[1], secure=True).up()
"""


@pytest.mark.spec("K3")
def test_a_start_that_was_killed_before_users_were_made_is_completed_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dev = DevBroker(instance=f"killed-{uuid.uuid4().hex[:8]}", secure=True)
    try:
        killed = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, dev._instance], timeout=120, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        left = dev.status()
        assert left is not None
        connection = Connection(
            left.address("SASL_SSL"), Security.model_validate(dev.security.snippet()), 10.0
        )
        with cluster(connection) as asked:
            refused(lambda: asked.topics(pattern=".*"), "password")
        info = dev.up()
        assert info == left, "the broker that was running"
        with cluster(connection) as asked:
            assert asked.topics(pattern=".*") == {}
        # Once is enough: rights that were taken away by hand since stay away.
        monkeypatch.setattr(DevSecurity, "grant", lambda *_: pytest.fail("granted again"))
        assert dev.up() == info
    finally:
        dev.down(wipe=True)


def test_how_a_topic_is_cleaned_up_is_told_to_who_may_know_it(
    secured: SecuredBroker, topic: str
) -> None:
    name = secured.live.create_topic(config={"cleanup.policy": "compact"})
    with cluster(secured.connection()) as asked:
        assert asked.cleanup_policies([name, topic]) == {name: "compact", topic: "delete"}
        assert asked.cleanup_policies([]) == {}
    secured.let_guest(ACLOperation.DESCRIBE, name)
    with cluster(secured.connection(user=GUEST)) as asked:
        assert asked.cleanup_policies([name]) == {name: None}
    secured.let_guest(ACLOperation.DESCRIBE_CONFIGS, name)
    with cluster(secured.connection(user=GUEST)) as asked:
        until(lambda: asked.cleanup_policies([name])[name], "the right is known")
        assert asked.cleanup_policies([name]) == {name: "compact"}
