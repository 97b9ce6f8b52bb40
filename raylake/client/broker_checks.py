"""What ``raylake doctor`` looks at of Kafka: brokers, their addresses, topics, rights."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Literal

from raylake.client.checks import Check, failed
from raylake.config import Loaded, TopicPattern
from raylake.config.bronze import BronzeTable
from raylake.errors import DependencyUnreachable, RayLakeError
from raylake.kafka.client import Cluster

CONNECT_TIMEOUT_S = 3.0
NEEDED = frozenset({"READ", "DESCRIBE"})
TOO_MUCH = frozenset({"WRITE", "DELETE", "ALTER", "ALTER_CONFIGS", "CREATE"})


def broker_checks(loaded: Loaded) -> Iterator[Check]:
    """The brokers of a pipeline file, its topics, and what its user may do with them."""
    kafka = loaded.config.kafka
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        try:
            everything = set(cluster.topics(pattern=".*"))
        except RayLakeError as error:
            yield failed("broker", error)
            return
        yield Check("broker", "ok", f"{kafka.bootstrap} answers")
        yield _advertised(cluster)
        wanted: set[str] = set()
        for name, table in loaded.config.bronze.items():
            found, check = _topics(cluster, name, table, everything)
            if check.state == "fail":
                place = loaded.origins.get(f"bronze.{name}.topics", "")
                found_text = f"{check.found} ({place})"
                check = Check(check.name, "fail", found_text, check.fix, check.exit_code)
            yield check
            wanted.update(found)
        if wanted:
            yield _leaders(cluster, sorted(wanted))
            yield from _rights(cluster, sorted(wanted), secured=kafka.security is not None)


def _topics(
    cluster: Cluster, name: str, table: BronzeTable, everything: set[str]
) -> tuple[list[str], Check]:
    title = f"topics of bronze.{name}"
    if isinstance(table.topics, TopicPattern):
        found = [topic for topic in everything if table.topics.matches(topic)]
        fix = "" if found else "correct the pattern, create a topic, or grant Describe on it"
        state: Literal["ok", "warn"] = "ok" if found else "warn"
        return found, Check(title, state, f"{len(found)} match", fix)
    missing = [topic for topic in table.topics if topic not in everything]
    found = [topic for topic in table.topics if topic in everything]
    if not missing:
        return found, Check(title, "ok", ", ".join(table.topics))
    try:
        # Asked by name, a broker says which is not there and which is not this user's.
        cluster.topics(missing)
    except RayLakeError as error:
        return found, failed(title, error)
    return [*found, *missing], Check(title, "ok", ", ".join(table.topics))


def _advertised(cluster: Cluster) -> Check:
    """A broker that answers may send its clients to addresses that only it can reach."""
    addresses = cluster.brokers()
    hidden = {f"{h}:{p}": why for h, p in addresses if (why := _refused(h, p))}
    if hidden:
        found = ", ".join(f"{address} ({why})" for address, why in hidden.items())
        fix = (
            "set the brokers' advertised.listeners to addresses that clients reach, "
            "or make these reachable from here"
        )
        code = DependencyUnreachable.exit_code
        return Check("advertised listeners", "fail", f"not reachable: {found}", fix, code)
    names = ", ".join(f"{host}:{port}" for host, port in addresses)
    return Check("advertised listeners", "ok", f"{names} can be reached")


def _refused(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _leaders(cluster: Cluster, topics: list[str]) -> Check:
    try:
        sources = [s for info in cluster.topics(topics).values() for s in info.sources()]
        cluster.earliest(sources)
    except RayLakeError as error:
        return failed("leaders", error)
    return Check("leaders", "ok", f"those of {len(sources)} partitions answer")


def _rights(cluster: Cluster, topics: list[str], *, secured: bool) -> Iterator[Check]:
    try:
        rights = topic_rights(cluster, topics)
    except RayLakeError as error:
        yield failed("topic rights", error)
        return
    lacking = {topic: NEEDED - allowed for topic, allowed in rights.items() if NEEDED - allowed}
    if lacking:
        found = "; ".join(f"{t}: no {', '.join(sorted(ops))}" for t, ops in lacking.items())
        fix = "kafka-acls --add --allow-principal User:NAME --operation Read --topic TOPIC"
        yield Check("topic rights", "fail", found, fix)
        return
    yield Check("topic rights", "ok", f"Read and Describe on {len(rights)} topics")
    more = sorted({op for allowed in rights.values() for op in allowed & TOO_MUCH})
    if secured and more:
        fix = "a user of its own with Read and Describe on the topics is enough"
        yield Check("least rights", "warn", f"may also {', '.join(more)}", fix)
    elif secured:
        yield Check("least rights", "ok", "nothing that changes a topic is allowed")


def topic_rights(cluster: Cluster, topics: list[str]) -> dict[str, frozenset[str]]:
    """What this user may do with each topic, by Kafka's names (``READ``, ``DESCRIBE``, …).

    A broker without an authorizer allows everything; topics of one that does not tell are left out.

    Raises:
        Terminal: The user may not even describe one of them.
    """
    told = {str(t["name"]): t.get("authorized_operations") for t in cluster.described(topics)}
    return {topic: frozenset(found) for topic, found in told.items() if found is not None}
