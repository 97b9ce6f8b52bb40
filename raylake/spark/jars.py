"""The jars that Spark needs for Delta tables: pinned by checksum, fetched once into the cache.

Delta's for every session. For tables in S3 there are S3A, Hadoop's file system, and the five parts
of the AWS SDK that it loads: 6 MB of the 280 that hadoop-aws asks for as one bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from raylake.artifacts import Jar, JarSet, cache_folder
from raylake.errors import RayLakeError
from raylake.kafka.java import Java
from raylake.spark.errors import JarsMissing

OWN_ENV: Final = "RAYLAKE_SPARK_JARS"
"""A folder that holds the jars already, as an image may; nothing is fetched then."""


def pinned_jars() -> tuple[Jar, ...]:
    """The jars of Delta for Spark."""
    return _pinned("jars")


def pinned_store_jars() -> tuple[Jar, ...]:
    """The jars by which Spark reaches S3, made for the Hadoop that pyspark brings."""
    return _pinned("s3_jars")


def delta_jars(java: Java, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The jars' files, fetched on first use.

    Raises:
        JarsMissing: They are not there and cannot be had, or are other files than the pinned ones.
    """
    return _files(_set(jar_folder(), "the jars of Delta for Spark", pinned_jars()), java, environ)


def store_jars(java: Java, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The same for S3.

    Raises:
        JarsMissing: As :func:`delta_jars`.
    """
    found = _set(store_jar_folder(), "the jars of S3 for Spark", pinned_store_jars())
    return _files(found, java, environ)


def store_jars_there(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether nothing needs to be fetched for them."""
    own = environ.get(OWN_ENV)
    folder = Path(own) if own else cache_folder(environ) / store_jar_folder()
    return all((folder / jar.filename).is_file() for jar in pinned_store_jars())


def jar_folder() -> str:
    """The name of the folder of Delta's in the cache."""
    return f"spark-delta-{pinned_jars()[0].version}"


def store_jar_folder() -> str:
    """The name of the folder of those for S3."""
    return f"spark-s3-{pinned_store_jars()[0].version}"


def _pinned(name: str) -> tuple[Jar, ...]:
    text = files("raylake.spark").joinpath("spark_artifacts.json").read_text()
    found: Mapping[str, Any] = json.loads(text)[name]
    return tuple(Jar.pinned(name, sha256) for name, sha256 in found.items())


def _set(folder: str, what: str, jars: tuple[Jar, ...]) -> JarSet:
    return JarSet(folder, what, jars, f"{OWN_ENV} to a folder")


def _files(wanted: JarSet, java: Java, environ: Mapping[str, str]) -> tuple[Path, ...]:
    own = environ.get(OWN_ENV)
    try:
        if own:
            folder = Path(own)
            wanted.verify(folder)
        else:
            folder = wanted.fetched(cache_folder(environ), java, environ)
    except (RayLakeError, OSError) as error:
        said = error.message if isinstance(error, RayLakeError) else str(error)
        raise JarsMissing(
            f"{wanted.what} are missing: {said}",
            hint=f"let it fetch them once where the Maven repository is reachable (see "
            f"RAYLAKE_MAVEN_BASE), or put {', '.join(jar.filename for jar in wanted.jars)} in a "
            f"folder and name it in {OWN_ENV}",
        ) from error
    return tuple(folder / jar.filename for jar in wanted.jars)
