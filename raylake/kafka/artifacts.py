"""The jars of the local Kafka broker.

The list (``kafka_artifacts.json``) holds each jar's Maven coordinates and SHA-256;
``RAYLAKE_KAFKA_HOME`` names an unpacked Kafka to use instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from raylake.artifacts import Jar, JarSet, cache_folder, file_lock
from raylake.errors import ConfigError
from raylake.kafka.java import Java

__all__ = ["KAFKA_VERSION", "cache_folder", "file_lock", "kafka_jars", "pinned_jars"]

KAFKA_VERSION = "4.1.0"


def pinned_jars() -> list[Jar]:
    """The jars that make up the broker."""
    text = files("raylake.kafka").joinpath("kafka_artifacts.json").read_text()
    return [Jar.pinned(name, sha256) for name, sha256 in json.loads(text)["jars"].items()]


def kafka_jars(cache: Path, java: Java, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the broker's jars, filled when it is not there yet.

    Two processes may call this at once. If it fails, the cache is as it was.

    Raises:
        ConfigError: Nothing here can fetch the jars, or RAYLAKE_KAFKA_HOME is wrong.
        DependencyUnreachable: The repository did not deliver them.
    """
    own = environ.get("RAYLAKE_KAFKA_HOME")
    if own:
        return _unpacked(Path(own))
    wanted = JarSet(
        f"kafka-{KAFKA_VERSION}",
        "the local broker's jars",
        tuple(pinned_jars()),
        "RAYLAKE_KAFKA_HOME to an unpacked Kafka 4.x",
    )
    return wanted.fetched(cache, java, environ)


def _unpacked(home: Path) -> Path:
    folder = home / "libs" if (home / "libs").is_dir() else home
    if not list(folder.glob("kafka_2.1*.jar")):
        raise ConfigError(
            f"RAYLAKE_KAFKA_HOME={home} holds no Kafka: no kafka_2.1*.jar in {folder}",
            hint="point it at an unpacked Kafka 4.x, the folder that has libs/",
        )
    return folder
