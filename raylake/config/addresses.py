"""Where things lie: one spelling per place, so that two names of a table are one table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from raylake.config.findings import Invalid, did_you_mean
from raylake.errors import ConfigError

if TYPE_CHECKING:
    from raylake.config.models import Pipeline

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SAME: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss"}
_STORES: Final = ("s3", "gs", "az", "abfss")
NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
MAX_NAME: Final = 128


def normalise_table_address(address: str) -> str:
    """The one spelling of a table's or lake's address.

    ``s3a`` and ``s3n`` are ``s3``; there is no trailing or doubled slash; a local address
    (``file://`` or a path) is absolute, with links resolved and no scheme. A relative path is taken
    from the current folder. The result normalises to itself.

    Raises:
        Invalid: The scheme is unknown, the address holds credentials, a query, ``..`` or control
            characters, or a bucket is missing.
    """
    text = _printable(address)
    match = _SCHEME.match(text)
    if match is None:
        return _local(text)
    scheme = match[1].lower()
    scheme = _SAME.get(scheme, scheme)
    if scheme == "file":
        return _file_url(text)
    if scheme not in _STORES:
        raise Invalid(f"{scheme}:// is not a store that is known", did_you_mean(scheme, _STORES))
    host, _, key = text[match.end() :].partition("/")
    if "@" in host and (scheme != "abfss" or ":" in host):
        raise Invalid("an address must not hold credentials", "give them by reference")
    if not host or "?" in text or "#" in text:
        raise Invalid("an address in a store is scheme://bucket/folder", "for example s3://lake/x")
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Invalid("'..' is not allowed in an address of a store")
    return "/".join([f"{scheme}://{host}", *parts])


def _file_url(text: str) -> str:
    try:
        url = urlsplit(text)
    except ValueError:
        raise Invalid("this is not a file URL", "write file:///folder or a plain path") from None
    if url.netloc not in ("", "localhost"):
        raise Invalid("file://host/… names another machine", "write file:///folder")
    if url.query or url.fragment or not url.path:
        raise Invalid("this is not a file URL", "write file:///folder or a plain path")
    return _local(_printable(unquote(url.path)))


def _printable(text: str) -> str:
    if not text or text != text.strip() or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise Invalid(
            "an address is a path or a URL, without control characters or spaces at its ends"
        )
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise Invalid("an address is valid Unicode text")
    return text


def _local(path: str) -> str:
    # POSIX lets a path begin with exactly two slashes and realpath keeps them.
    try:
        resolved = os.path.realpath(Path(path).expanduser())
    except (RuntimeError, OSError) as error:
        raise Invalid(f"{path!r} cannot be resolved: {error}") from None
    return "/" + resolved.lstrip("/")


def is_local(address: str) -> bool:
    """Whether a normalised address lies on a local disk."""
    return _SCHEME.match(address) is None


def check_name(name: str, what: str = "a name") -> str:
    """The name, when it may become part of a path, a transaction id and an actor's name.

    Raises:
        Invalid: It is empty, too long, or has a character that is not on the allow-list.
    """
    if len(name) > MAX_NAME:
        raise Invalid(f"{what} has at most {MAX_NAME} characters, this one has {len(name)}")
    if not re.fullmatch(NAME, name):
        raise Invalid(
            f"{name!r} is not {what}",
            "letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_'",
        )
    return name


def table_path(config: Pipeline, table: str, topic: str | None = None) -> str:
    """The normalised address of a table.

    Args:
        config: The pipeline.
        table: ``layer.key``, the key being the one of the pipeline file, or the name of a table
            that a fan-out made (``bronze.<rendered>``).
        topic: The topic, for a fan-out table.

    Raises:
        ConfigError: The table is not declared, the topic is missing or makes no allowed name.
    """
    layer, _, name = table.partition(".")
    sections: dict[str, Mapping[str, Any]] = {
        "bronze": config.bronze,
        "silver": config.silver,
        "gold": config.gold,
    }
    if layer not in sections:
        raise ConfigError(f"{table} is not a table", hint="write bronze.NAME, silver.NAME, gold.…")
    try:
        check_name(name, "a table's name")
        return _declared_path(config, sections[layer], (layer, name), topic)
    except Invalid as error:
        finding = error.findings[0]
        raise ConfigError(f"{table}: {finding.message}", hint=finding.hint) from None


def _declared_path(
    config: Pipeline, section: Mapping[str, Any], table: tuple[str, str], topic: str | None
) -> str:
    layer, name = table
    spec = section.get(name)
    if spec is None and not (layer == "bronze" and any(t.fans_out for t in config.bronze.values())):
        raise Invalid("this table is not declared", did_you_mean(name, section))
    if spec is not None and layer == "bronze":
        name = spec.target_name(name, topic)
    if spec is not None and spec.path is not None:
        path: str = spec.path if topic is None else spec.path.replace("{topic}", topic)
        return normalise_table_address(path)
    return f"{_root(config)}/{layer}/{name}"


def _root(config: Pipeline) -> str:
    return normalise_table_address(config.lake).rstrip("/")


def dead_letter_path(config: Pipeline) -> str:
    """The normalised address of the pipeline's dead-letter table."""
    if config.dead_letters.path is not None:
        return normalise_table_address(config.dead_letters.path)
    return f"{_root(config)}/dead_letters/{config.pipeline}"


def written_addresses(config: Pipeline) -> list[str]:
    """The addresses below which a run writes; those of fan-outs up to what is filled in."""
    paths = [table.path.partition("{")[0] for table in config.bronze.values() if table.path]
    paths += [table.path for table in config.silver.values() if table.path]
    paths += [table.path for table in config.gold.values() if table.path]
    if config.dead_letters.also.files is not None:
        paths.append(config.dead_letters.also.files.path)
    tables = [normalise_table_address(path) for path in paths]
    return [_root(config), dead_letter_path(config), *tables]


def status_path(config: Pipeline) -> str:
    """The address of the pipeline's status document."""
    return f"{_root(config)}/_raylake/status/{config.pipeline}.json"


def transform_status_path(config: Pipeline) -> str:
    """The address of the status document of the pipeline's derived tables."""
    return f"{_root(config)}/_raylake/status/{config.pipeline}.transform.json"


def maintenance_status_path(config: Pipeline) -> str:
    """The address of the status document of the upkeep of the pipeline's tables."""
    return f"{_root(config)}/_raylake/status/{config.pipeline}.maintain.json"


def quarantine_path(config: Pipeline) -> str:
    """The normalised address of the pipeline's quarantine table."""
    return f"{_root(config)}/quarantine/{config.pipeline}"


def quality_path(config: Pipeline) -> str:
    """The normalised address of the table with the history of the pipeline's rules."""
    return f"{_root(config)}/_quality/{config.pipeline}"
