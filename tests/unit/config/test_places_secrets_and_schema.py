"""One spelling of an address, secrets resolved where used, a shipped schema that is current."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from raylake.config import (
    SecretRef,
    dead_letter_path,
    json_schema,
    load,
    normalise_table_address,
    status_path,
    table_path,
)
from raylake.config.positions import parse
from raylake.config.schema import SHIPPED, schema_text
from raylake.errors import ConfigError
from tests.unit.config.loading import SMALLEST, bronze, load_text

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("s3a://b/x/", "s3://b/x"),
        ("s3n://b//x//y/", "s3://b/x/y"),
        ("S3://b", "s3://b"),
        ("gs://b/./x", "gs://b/x"),
        ("abfss://c@account.dfs.core.windows.net/x", "abfss://c@account.dfs.core.windows.net/x"),
        ("file:///a/b/", "/a/b"),
        ("file:/a", None),
        ("file://localhost/a%20b", "/a b"),
        ("/a//b/../c/", "/a/c"),
        ("//a/b", "/a/b"),
        ("/", "/"),
    ],
)
def test_one_spelling(address: str, same: str | None) -> None:
    normal = normalise_table_address(address)
    assert normal == (same if same is not None else os.path.realpath(address))
    assert normalise_table_address(normal) == normal


def test_links_and_relative_paths_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert normalise_table_address("link/t/") == os.path.realpath(tmp_path / "real" / "t")


@pytest.mark.parametrize(
    "address",
    [
        *("", " ", "x ", "a\0b", "a\nb", "ftp://a/b", "s3://", "s3://b/../c", "s3://k:s@b/x"),
        *("s3://b/x?y", "file://host/x", "file://", "file:///a%00b"),
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        normalise_table_address(address)


def test_where_things_lie() -> None:
    text = SMALLEST.replace("./lake", "/lake") + (
        "bronze:\n  a: {topics: [x]}\n  b: {topics: [y], path: /else/b/}\n"
        "  c: {topics: [z], table: renamed}\n  f: {topics: [t1, t.2], table: 'raw_{topic}'}\n"
        "  g: {topics: [u], table: '{topic}', path: '/g/{topic}'}\n"
        "silver: {s: {from: bronze.a, mode: append}}\n"
    )
    config = load_text(text).config
    assert table_path(config, "bronze.a") == "/lake/bronze/a"
    assert table_path(config, "bronze.b") == "/else/b"
    assert table_path(config, "bronze.c") == "/lake/bronze/renamed"
    assert table_path(config, "bronze.f", "t.2") == "/lake/bronze/raw_t.2"
    assert table_path(config, "bronze.raw_t1") == "/lake/bronze/raw_t1"
    assert table_path(config, "bronze.g", "u") == "/g/u"
    assert table_path(config, "silver.s") == "/lake/silver/s"
    assert dead_letter_path(config) == "/lake/dead_letters/p"
    assert status_path(config) == "/lake/_raylake/status/p.json"
    for table, topic in (("bronze.f", None), ("bronze.f", "../x"), ("gold.x", None), ("a", None)):
        with pytest.raises(ConfigError):
            table_path(config, table, topic)
    with pytest.raises(ConfigError, match="name"):
        table_path(config, "bronze.../../x")


def test_dead_letters_may_lie_elsewhere() -> None:
    config = load_text(bronze("topics: [a]") + "dead_letters: {path: s3a://b/dead/}\n").config
    assert dead_letter_path(config) == "s3://b/dead"


def test_a_secret_from_a_variable() -> None:
    ref = SecretRef.parse("env:P")
    assert ref.resolve({"P": "hunter2"}) == "hunter2"
    assert "hunter2" not in repr(ref) + str(ref) + str(pickle.dumps(ref))
    with pytest.raises(ConfigError, match="env:P"):
        ref.resolve({})


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    assert SecretRef.parse(f"file:{file}").resolve() == "hunter2"
    with pytest.raises(ConfigError, match="cannot be read"):
        SecretRef.parse(f"file:{file}x").resolve()
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        SecretRef.parse(f"file:{file}").resolve()
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="empty"):
        SecretRef.parse(f"file:{file}").resolve()


def test_a_secret_from_a_profile(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("kafka: hunter2\n")
    environ = {"RAYLAKE_PROFILES": str(profiles)}
    profiles.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SecretRef.parse("profile:kafka").resolve(environ)
    profiles.chmod(0o600)
    assert SecretRef.parse("profile:kafka").resolve(environ) == "hunter2"
    with pytest.raises(ConfigError, match="no entry other"):
        SecretRef.parse("profile:other").resolve(environ)


@pytest.mark.parametrize("text", ["hunter2", "env:", "env:1X", "file:x", "vault:x", "profile:", 5])
def test_what_is_no_reference_is_not_repeated(text: object) -> None:
    with pytest.raises(ValueError, match="reference") as caught:
        SecretRef.parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_configuration_with_secrets_shows_references_only() -> None:
    security = "{protocol: SASL_SSL, mechanism: PLAIN, username: env:U, password: env:P}"
    text = bronze("topics: [a]").replace("9092'}", f"9092', security: {security}}}")
    loaded = load_text(text, environ={"P": "hunter2", "U": "me"})
    assert loaded.values()["kafka.security.password"] == "env:P"
    assert loaded.config.kafka.security is not None
    assert loaded.config.kafka.security.username == SecretRef("env", "U")
    shown = repr(loaded) + loaded.config.model_dump_json() + str(pickle.dumps(loaded.config))
    assert "hunter2" not in shown
    assert pickle.loads(pickle.dumps(loaded.config)) == loaded.config


def test_the_shipped_schema_is_the_models() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(), (
        "write it anew: python -c 'from raylake.config.schema import *; "
        "SHIPPED.write_text(schema_text())'"
    )
    jsonschema.Draft202012Validator.check_schema(json_schema())


def _problems(data: Any) -> list[str]:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return [e.json_path for e in jsonschema.Draft202012Validator(shipped).iter_errors(data)]


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_examples_load_and_fit_the_schema(example: Path) -> None:
    assert load(example, environ={}).config
    assert _problems(parse(example.read_bytes()).data) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("bronze", "orders", "commit_interval"), 5),
        (("bronze", "orders", "format"), "jsn"),
        (("bronze", "orders", "nope"), 1),
        (("silver", "orders", "mode"), "upsrt"),
        (("kafka",), {}),
        (("format",), 2),
        (("maintenance", "budget", "cpu"), 25),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(path: tuple[str, ...], value: object) -> None:
    data = copy.deepcopy(parse((EXAMPLES / "orders.yaml").read_bytes()).data)
    assert _problems(data) == []
    here = data
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    assert _problems(data)
    with pytest.raises(ConfigError):
        load_text(json.dumps(data), path="p.json")


def test_values_are_written_with_the_units_that_the_file_takes() -> None:
    text = (
        f"{SMALLEST}bronze:\n  t: {{topics: [a], start: {{timestamp: 2025-01-31T08:00:00.5Z}}, "
        "event_time: {column: ts, lateness: 0s}, schema: {ts: timestamp}, keep_value: true}\n"
        "retry: {broker: {initial: 1500ms}}\n"
    )
    loaded = load_text(text)
    written = loaded.written()
    assert written["kafka.connect_timeout"] == "10s"
    assert written["bronze.t.target_file_size"] == "128MiB"
    assert written["dead_letters.stop_above"] == "20%"
    assert written["retry.broker.initial"] == "1500ms"
    assert written["bronze.t.start.timestamp"] == "2025-01-31T08:00:00.500000Z"
    assert written["bronze.t.keep_value"] == "true"
    assert written.keys() >= loaded.values().keys()
    for key, said in written.items():
        plain = loaded.values().get(key)
        if isinstance(plain, int | float) and said != str(plain):
            assert load_text(text, overrides={key: said}).values() == loaded.values(), key
