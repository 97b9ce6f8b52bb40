"""The jars that Spark needs for Delta tables: pinned by checksum, fetched once into the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from raylake.artifacts import Jar, JarSet, cache_folder
from raylake.errors import RayLakeError
from raylake.kafka.java import Java
from raylake.spark.errors import JarsMissing

OWN_ENV: Final = "RAYLAKE_SPARK_JARS"
"""A folder that holds the jars already, as an image may; nothing is fetched then."""


def pinned_jars() -> tuple[Jar, ...]:
    """The jars of Delta for Spark."""
    text = files("raylake.spark").joinpath("spark_artifacts.json").read_text()
    return tuple(Jar.pinned(name, sha256) for name, sha256 in json.loads(text)["jars"].items())


def delta_jars(java: Java, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The jars' files, fetched on first use.

    Raises:
        JarsMissing: They are not there and cannot be had, or are other files than the pinned ones.
    """
    wanted = JarSet(
        jar_folder(), "the jars of Delta for Spark", pinned_jars(), f"{OWN_ENV} to a folder"
    )
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
            f"Spark has no Delta: {said}",
            hint=f"let it fetch them once where the Maven repository is reachable (see "
            f"RAYLAKE_MAVEN_BASE), or put {', '.join(jar.filename for jar in wanted.jars)} in a "
            f"folder and name it in {OWN_ENV}",
        ) from error
    return tuple(folder / jar.filename for jar in wanted.jars)


def jar_folder() -> str:
    """The name of their folder in the cache."""
    first = pinned_jars()[0]
    return f"spark-delta-{first.version}"
