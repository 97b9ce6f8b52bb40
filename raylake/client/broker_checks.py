"""What ``raylake doctor`` looks at of Kafka: brokers, topics and their leaders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from raylake.client.checks import Check, failed
from raylake.config import Loaded, TopicPattern
from raylake.errors import RayLakeError
from raylake.kafka.client import Cluster


def broker_checks(loaded: Loaded) -> Iterator[Check]:
    """The brokers of a pipeline file and its topics."""
    kafka = loaded.config.kafka
    with Cluster(kafka.bootstrap, kafka.security, kafka.connect_timeout_s) as cluster:
        try:
            everything = set(cluster.topics(pattern=".*"))
        except RayLakeError as error:
            yield failed("broker", error)
            return
        yield Check("broker", "ok", f"{kafka.bootstrap} answers")
        wanted: set[str] = set()
        for name, table in loaded.config.bronze.items():
            if isinstance(table.topics, TopicPattern):
                found = [topic for topic in everything if table.topics.matches(topic)]
                wanted.update(found)
                fix = "" if found else "correct the pattern, or create a topic"
                state: Literal["ok", "warn"] = "ok" if found else "warn"
                yield Check(f"topics of bronze.{name}", state, f"{len(found)} match", fix)
                continue
            missing = [topic for topic in table.topics if topic not in everything]
            wanted.update(topic for topic in table.topics if topic in everything)
            if missing:
                place = loaded.origins.get(f"bronze.{name}.topics", "")
                found_text = f"not there: {', '.join(missing)} ({place})"
                fix = "correct the name, or create the topic"
                yield Check(f"topics of bronze.{name}", "fail", found_text, fix, 2)
            else:
                yield Check(f"topics of bronze.{name}", "ok", ", ".join(table.topics))
        yield _leaders(cluster, sorted(wanted))


def _leaders(cluster: Cluster, topics: list[str]) -> Check:
    try:
        infos = cluster.topics(topics).values() if topics else ()
        sources = [source for info in infos for source in info.sources()]
        if sources:
            cluster.earliest(sources)
    except RayLakeError as error:
        return failed("advertised listeners", error)
    return Check("advertised listeners", "ok", f"the leaders of {len(sources)} partitions answer")
