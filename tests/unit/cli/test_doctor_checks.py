"""What doctor says of files and variables, each finding with its fix."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from raylake.client import checks, pipeline_checks
from raylake.client.checks import Check, machine_checks, memory_bytes
from raylake.client.observer_checks import observer_checks
from raylake.client.pipeline_checks import pipeline_checks as checks_of
from raylake.client.ray_checks import ray_checks
from raylake.config import load, load_bytes
from raylake.spark.jars import jar_folder, pinned_jars


def named(found: list[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


def token_check(home: Path, **environ: str) -> Check | None:
    # A store's address has no host and port that would be connected to.
    found = list(ray_checks({"RAY_ADDRESS": "auto", **environ}, home))
    return named(found, "ray token")


def test_an_embedded_ray_needs_no_token(tmp_path: Path) -> None:
    found = list(ray_checks({}, tmp_path))
    assert {check.name for check in found} == {"ray version", "ray address"}
    assert all(check.state == "ok" for check in found)


def test_the_tokens_source_is_named_in_rays_own_order(tmp_path: Path) -> None:
    none = token_check(tmp_path)
    assert none is not None
    assert (none.state, "get-auth-token" in none.fix) == ("warn", True)
    kept = tmp_path / ".ray" / "auth_token"
    kept.parent.mkdir()
    kept.write_text("planted-token\n")
    kept.chmod(0o644)
    opened = token_check(tmp_path)
    assert opened is not None
    assert (opened.state, opened.fix) == ("warn", f"chmod 600 {kept}")
    kept.chmod(0o600)
    own = token_check(tmp_path)
    assert own is not None
    assert (own.state, own.found) == ("ok", f"from Ray's own file: {kept}")
    other = tmp_path / "other"
    other.write_text("  \n")
    empty = token_check(tmp_path, RAY_AUTH_TOKEN_PATH=str(other))
    assert empty is not None
    assert (empty.state, "is empty" in empty.found) == ("fail", True)
    missing = token_check(tmp_path, RAY_AUTH_TOKEN_PATH=str(tmp_path / "gone"))
    assert missing is not None
    assert missing.state == "fail"
    first = token_check(tmp_path, RAY_AUTH_TOKEN_PATH=str(other), RAY_AUTH_TOKEN="planted-token")
    assert first is not None
    assert (first.state, first.found) == ("ok", "from RAY_AUTH_TOKEN")
    kept_back = token_check(tmp_path, RAY_AUTH_TOKEN="planted-token", RAY_AUTH_MODE="disabled")
    assert kept_back is not None
    assert kept_back.state == "warn"
    for check in (opened, own, empty, missing, first, kept_back):
        assert "planted-token" not in check.found + check.fix


def test_jars_are_looked_for_where_they_are_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environ = {"RAYLAKE_CACHE": str(cache)}
    found = list(checks._jars(environ))
    assert named(found, "jars of Kafka").state == "warn"
    assert "dev up" in named(found, "jars of Kafka").fix
    jar = cache / f"kafka-{checks.KAFKA_VERSION}" / "kafka_2.13-4.1.0.jar"
    delta = [cache / jar_folder() / jar.filename for jar in pinned_jars()]
    for one in (jar, *delta):
        one.parent.mkdir(parents=True, exist_ok=True)
        one.touch()
    assert {check.state for check in checks._jars(environ)} == {"ok"}


def test_a_containers_limit_counts_as_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(checks, "_CGROUP_FILES", (str(tmp_path / "none"), str(limit)))
    limit.write_text("max\n")
    whole = memory_bytes()
    assert whole > 10_000_000
    limit.write_text("10000000\n")
    assert memory_bytes() == 10_000_000
    assert checks._memory().state == "warn"


PIPELINE = (
    "pipeline: orders\nlake: {lake}\nkafka: {{bootstrap: 'localhost:9092'}}\n"
    "bronze: {{orders: {{topics: [orders]}}}}\ningest: {{consumers: 1, http: off}}\n"
)


def pipeline(folder: Path, more: str = "") -> list[Check]:
    file = folder / "orders.yaml"
    file.write_text(PIPELINE.format(lake=folder / "lake") + more)
    return list(checks_of(load(file)))


def test_a_lake_that_is_not_there_yet_is_fine_and_nothing_is_left(tmp_path: Path) -> None:
    found = pipeline(tmp_path)
    assert {check.state for check in found} == {"ok"}, found
    assert "creates it" in named(found, "table bronze.orders").found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.yaml"]


def test_a_lake_that_everybody_may_write_is_told(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    lake.chmod(0o777)
    check = named(pipeline(tmp_path), "rights on the lake")
    assert (check.state, check.fix) == ("warn", f"chmod o-w {lake}")
    lake.chmod(0o775)
    assert named(pipeline(tmp_path), "rights on the lake").state == "ok"


def test_a_tables_features_are_named(tmp_path: Path) -> None:
    table = tmp_path / "lake" / "bronze" / "orders"
    write_deltalake(table, pa.table({"id": [1]}))
    fine = named(pipeline(tmp_path), "table bronze.orders")
    assert fine.state == "ok"
    assert "version 0, protocol" in fine.found
    log = table / "_delta_log" / f"{1:020d}.json"
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": [],
        "writerFeatures": ["rowTracking", "domainMetadata"],
    }
    log.write_text(json.dumps({"protocol": protocol}) + "\n")
    refused = named(pipeline(tmp_path), "table bronze.orders")
    assert (refused.state, refused.exit_code) == ("fail", 5)
    assert "domainMetadata" in refused.found
    assert refused.fix


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "lake" / "bronze" / "orders"
    table.mkdir(parents=True)
    assert named(pipeline(tmp_path), "table bronze.orders").state == "ok"
    (table / "notes.txt").write_text("mine")
    refused = named(pipeline(tmp_path), "table bronze.orders")
    assert (refused.state, refused.exit_code) == ("fail", 5)


def test_secrets_are_tried_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("planted-secret")
    secret.chmod(0o644)
    text = PIPELINE.replace("9092'}}", "9092', security: {{protocol: SASL_SSL, mechanism: PLAIN, ")
    text = text.replace(
        "PLAIN, \n", f"PLAIN, username: 'env:NOBODY', password: 'file:{secret}'}}}}}}}}\n"
    )
    file = tmp_path / "orders.yaml"
    file.write_text(text.format(lake=tmp_path / "lake"))
    monkeypatch.delenv("NOBODY", raising=False)
    found = list(checks_of(load(file)))
    opened = named(found, f"secret file:{secret}")
    assert (opened.state, opened.fix) == ("warn", f"chmod 600 {secret}")
    assert (named(found, "secret env:NOBODY").state) == "fail"
    secret.chmod(0o600)
    monkeypatch.setenv("NOBODY", "planted-secret")
    again = list(checks_of(load(file)))
    assert {named(again, name).state for name in (opened.name, "secret env:NOBODY")} == {"ok"}
    assert "planted-secret" not in repr(found) + repr(again)


def test_a_pipeline_that_does_not_fit_is_told_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_checks, "memory_bytes", lambda: 2 * checks.GIB)
    small = named(pipeline(tmp_path), "memory for this pipeline")
    assert small.state == "ok"
    monkeypatch.setattr(pipeline_checks, "memory_bytes", lambda: checks.GIB)
    large = named(pipeline(tmp_path), "memory for this pipeline")
    assert (large.state, "ingest.buffer" in large.fix) == ("warn", True)


def test_every_finding_has_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ports", "_java"):  # they start what a unit test must not
        monkeypatch.setattr(checks, name, lambda *_: Check("left out", "ok", ""))
    environ = {"RAYLAKE_CACHE": str(tmp_path), "RAYLAKE_RAY_DIR": f"/tmp/{'x' * 80}"}
    found = [*machine_checks(environ, tmp_path), *ray_checks({}, tmp_path), *pipeline(tmp_path)]
    assert [check for check in found if check.state != "ok" and not check.fix] == []
    assert named(found, "ray folder").state == "fail"


def test_libraries_of_metrics_and_spans_are_looked_for_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = b"""
pipeline: p
lake: /lake
kafka: {bootstrap: localhost:9092}
bronze: {one: {topics: [one]}}
"""
    plain = load_bytes(text, path="p.yaml", environ={}).config
    more = b"metrics: {cloudwatch: {}}"
    sent = load_bytes(text + more, path="p.yaml", environ={}).config
    assert list(observer_checks(plain, {})) == []
    (cloudwatch,) = observer_checks(sent, {})
    assert (cloudwatch.name, cloudwatch.state) == ("metrics.cloudwatch", "ok")
    monkeypatch.setattr("raylake.client.observer_checks.find_spec", lambda _: None)
    (cloudwatch,) = observer_checks(sent, {})
    assert (cloudwatch.state, "raylake[cloudwatch]" in cloudwatch.fix) == ("warn", True)
    (tracing,) = observer_checks(plain, {"OTEL_TRACES_EXPORTER": "console"})
    assert (tracing.state, "console" in tracing.found) == ("ok", True)
    (tracing,) = observer_checks(plain, {"OTEL_TRACES_EXPORTER": "console, carrier_pigeon"})
    assert (tracing.state, "carrier_pigeon" in tracing.found) == ("warn", True)
