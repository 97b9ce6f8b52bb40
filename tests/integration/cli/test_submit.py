"""``raylake submit`` on a real cluster with token authentication and the Jobs API (SPEC K1)."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package

from raylake import faults
from raylake.client.submission import Submission
from raylake.config import load
from raylake.storage.dev import KEY as STORE_KEY
from raylake.storage.dev import StoreInfo
from tests.harness.broker import LiveBroker
from tests.harness.jobs_cluster import JobsCluster
from tests.harness.store import access_to
from tests.integration.cli.conftest import GOOD, POISON, Shell, pipeline_text, until
from tests.integration.cli.test_planted_secret import holders

TOTAL = GOOD + POISON
DRAIN_DELAY_S = 6.0
"""Longer than the three seconds that Ray waits unless it is told to wait longer."""


@pytest.fixture(scope="module")
def cluster(jobs_cluster: JobsCluster) -> JobsCluster:
    return jobs_cluster


@pytest.fixture
def submitting(shell: Shell, cluster: JobsCluster, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell that knows the cluster's token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.live.token)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    return shell


def job_of(shell: Shell, file: str, cluster: JobsCluster) -> dict[str, Any]:
    done = shell.here("status", file, "--address", cluster.url, "-o", "json")
    assert done.code == 0, done.err
    found: dict[str, Any] = done.json["job"]
    return found


def asked(cluster: JobsCluster, path: str) -> str:
    """What the cluster's own API answers, as text."""
    command = [sys.executable, "-c", _ASK, cluster.url + path, cluster.live.token]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


_ASK = """
import sys, urllib.request
wanted = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]})
print(urllib.request.urlopen(wanted, timeout=30).read().decode())
"""


@pytest.mark.long
@pytest.mark.spec("K1")
@pytest.mark.timeout(400)
def test_the_printed_line_works_as_printed(
    submitting: Shell, cluster: JobsCluster, broker: LiveBroker, topic: str
) -> None:
    shell = submitting
    shell.write("clicks.yaml", pipeline_text(broker, topic, "printed"))
    shell.write("secret.txt", cluster.password)
    command = ("submit", "clicks.yaml", "--address", cluster.url, "--available-now", "--dry-run")
    dry = shell(*command)
    assert dry.code == 0, dry.err
    assert cluster.live.token not in dry.out
    assert '"printed"' not in asked(cluster, "/api/jobs/"), "a dry run submitted something"
    bin_folder = Path(sys.executable).parent
    typed = subprocess.run(
        ["bash", "-c", dry.out],
        cwd=shell.folder.parent,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    done = until(lambda: _ended(job_of(shell, "clicks.yaml", cluster)), "the job has ended")
    assert done["state"] == "SUCCEEDED", done
    assert '"printed"' in asked(cluster, "/api/jobs/"), "this shows nothing"
    assert shell.status("printed")["job"]["submission_id"] == done["submission_id"]
    account = shell.here("verify", "clicks.yaml", "-o", "json")
    assert account.code == 0, account.out
    assert f"Ray job: {done['submission_id']}" in shell.here("status", "clicks.yaml").out


@pytest.mark.long
@pytest.mark.spec("K2")
@pytest.mark.timeout(400)
def test_a_printed_manifest_runs_when_it_is_sent_as_kuberay_sends_it(
    submitting: Shell,
    cluster: JobsCluster,
    broker: LiveBroker,
    topic: str,
    store: StoreInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By HTTP, with the ConfigMap laid into a folder as its volume would be."""
    shell = submitting
    monkeypatch.setenv("LAKE_KEY", STORE_KEY)
    lake = f"s3://{store.bucket}/{topic}"
    entry = {**access_to(store), "secret_access_key": "env:LAKE_KEY", "allow_http": True}
    stores = f"stores: {json.dumps({lake: entry})}\n"
    text = pipeline_text(broker, topic, "manifest").replace("lake: ./lake", f"lake: {lake}")
    shell.write("clicks.yaml", text + stores)
    dry = shell("submit", "clicks.yaml", "--available-now", "--dry-run", "--output", "kuberay")
    assert dry.code == 0, dry.err
    config_map, job = yaml.safe_load_all(dry.out)
    mounted = shell.folder / "mounted"
    mounted.mkdir()
    for name, content in config_map["data"].items():
        (mounted / name).write_text(content)
    spec = job["spec"]
    pod = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert [one["name"] for one in pod["env"] if "valueFrom" in one] == ["LAKE_KEY"]
    body = {
        "entrypoint": spec["entrypoint"].replace("/etc/raylake", str(mounted)),
        "runtime_env": yaml.safe_load(spec["runtimeEnvYAML"]),
        "metadata": spec["metadata"],
        "submission_id": "rayjob-manifest",
    }
    request = urllib.request.Request(f"{cluster.url}/api/jobs/", json.dumps(body).encode())
    request.add_header("x-ray-authorization", f"Bearer {cluster.live.token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["submission_id"] == "rayjob-manifest"
    done = until(lambda: _ended(job_of(shell, "clicks.yaml", cluster)), "the job has ended")
    assert done["state"] == "SUCCEEDED", done
    account = shell.here("verify", "clicks.yaml", "-o", "json")
    assert account.code == 0, account.out
    probe = cluster.agent_url + pod["readinessProbe"]["httpGet"]["path"]
    with urllib.request.urlopen(probe, timeout=30) as healthy:
        assert healthy.status == 200, "a probe has no token"


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["state"] in ("SUCCEEDED", "FAILED", "STOPPED") else None


@pytest.mark.spec("K1", "A11")
@pytest.mark.timeout(400)
def test_failure_39_40_a_submitted_run_is_one_and_drains_for_longer_than_ray_would_wait(
    submitting: Shell, cluster: JobsCluster, broker: LiveBroker, topic: str
) -> None:
    shell = submitting
    shell.write("clicks.yaml", pipeline_text(broker, topic, "lasting"))
    first = shell("submit", "clicks.yaml", "--address", cluster.url, "-o", "json")
    assert first.code == 0, first.err
    submitted = first.json["submission_id"]
    again = shell("submit", "clicks.yaml", "--address", cluster.url, "-o", "json")
    assert again.code == 0, again.err
    assert (again.json["state"], again.json["submission_id"]) == ("ATTACHED", submitted)
    shell.until_committed("lasting", TOTAL)
    assert job_of(shell, "clicks.yaml", cluster)["state"] == "RUNNING"

    # What is fetched now is committed by the drain, which takes its time.
    faults.arm(cluster.faults, "owner.before_commit", action="delay", delay_s=DRAIN_DELAY_S)
    producer = broker.producer()
    producer.send(topic, b'{"id": 1, "at": "2025-01-01T00:00:00Z"}', partition=0)
    producer.flush()
    producer.close()
    until(lambda: faults.fired(cluster.faults), "the commit is held up")
    stopped = shell("stop", "clicks.yaml", "--address", cluster.url, "-o", "json")
    assert stopped.code == 0, stopped.err
    document = shell.status("lasting")
    assert document["state"] == "stopped"
    assert document["job"]["submission_id"] == submitted
    assert job_of(shell, "clicks.yaml", cluster)["state"] in ("STOPPED", "SUCCEEDED")
    account = shell.here("verify", "clicks.yaml", "-o", "json")
    assert account.code == 0, account.out
    ends = document["tables"]["bronze.clicks"]["partitions"].values()
    assert sum(one["next"] - one["origin"] for one in ends) == TOTAL + 1


@pytest.mark.spec("K1")
@pytest.mark.timeout(400)
def test_what_goes_wrong_has_a_name_and_the_secret_is_nowhere(
    submitting: Shell, cluster: JobsCluster, broker: LiveBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = submitting
    monkeypatch.setenv("PLANTED", cluster.password)
    security = (
        "  connect_timeout: 2s\n  security: {protocol: SASL_PLAINTEXT, mechanism: PLAIN, "
        "username: planted-user, password: 'env:PLANTED', allow_password_without_tls: true}\n"
    )
    text = pipeline_text(broker, "nothing", "planted")
    shell.write("planted.yaml", text.replace("bronze:\n", security + "bronze:\n"))
    said = [shell("submit", "planted.yaml", "--address", cluster.url, "--dry-run")]
    said.append(shell("submit", "planted.yaml", "--address", cluster.url, "-o", "json"))
    assert said[-1].code == 0, said[-1].err
    failed = until(lambda: _ended(job_of(shell, "planted.yaml", cluster)), "the job has ended")
    # A listener of another kind is no outage: no try would help.
    assert (failed["state"], failed["exit_code"]) == ("FAILED", 1), failed
    assert broker.bootstrap in "".join(failed["said"])
    said.append(shell.here("status", "planted.yaml", "--address", cluster.url))
    said.append(shell.here("doctor", "planted.yaml"))
    jobs = asked(cluster, "/api/jobs/")
    assert "raylake.pipeline" in jobs, "the jobs are not listed: this shows nothing"
    everything = [jobs, *(done.out + done.err for done in said)]
    assert not any(cluster.password in one for one in everything)
    assert holders(b"planted", Path(cluster.live.folder)), "nothing is found: this shows nothing"
    assert holders(cluster.password.encode(), Path(cluster.live.folder), shell.folder) == []


@pytest.mark.long
@pytest.mark.spec("K1")
@pytest.mark.timeout(400)
def test_a_secret_that_resolves_here_and_not_on_the_node_is_2_and_named(
    submitting: Shell, cluster: JobsCluster, broker: LiveBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = submitting
    monkeypatch.setenv("ONLY_HERE", cluster.password)
    security = (
        "  security: {protocol: SASL_PLAINTEXT, mechanism: PLAIN, username: u, "
        "password: 'env:ONLY_HERE', allow_password_without_tls: true}\n"
    )
    text = pipeline_text(broker, "nothing", "elsewhere")
    shell.write("elsewhere.yaml", text.replace("bronze:\n", security + "bronze:\n"))
    submitted = shell("submit", "elsewhere.yaml", "--address", cluster.url)
    assert submitted.code == 0, submitted.err
    failed = until(lambda: _ended(job_of(shell, "elsewhere.yaml", cluster)), "the job has ended")
    assert (failed["state"], failed["exit_code"]) == ("FAILED", 2), failed
    said = "".join(failed["said"])
    assert "env:ONLY_HERE cannot be resolved" in said
    assert cluster.password not in said


@pytest.mark.spec("K1")
def test_a_wrong_token_or_address_is_4_and_says_which(
    submitting: Shell,
    cluster: JobsCluster,
    broker: LiveBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell = submitting
    shell.write("clicks.yaml", pipeline_text(broker, "nothing", "refused"))
    nobody = shell("submit", "clicks.yaml", "--address", "http://127.0.0.1:1")
    assert nobody.code == 4
    assert "127.0.0.1:1" in nobody.err
    none = shell("submit", "clicks.yaml")
    assert none.code == 2
    assert "--address" in none.err
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    wrong = shell("submit", "clicks.yaml", "--address", cluster.url)
    assert wrong.code == 4, wrong.err
    assert "token" in wrong.err
    assert wrong.err.count("Traceback") == 0


def test_only_what_is_needed_is_packed(tmp_path: Path) -> None:
    """By Ray's own packing; the lake, other files and what .gitignore says do not matter."""
    folder = tmp_path / "work"
    for name in ("lake/bronze/x.parquet", "notes.txt", "schemas/a b.yaml", "schemas/other.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("id: long\n")
    file = folder / "my [clicks].yaml"
    file.write_text(
        "pipeline: clicks\nlake: /lake\nkafka: {bootstrap: 'localhost:9092'}\n"
        "bronze: {clicks: {topics: [clicks], schema: 'schemas/a b.yaml'}}\n"
    )
    one = Submission(load(file), "http://127.0.0.1:1", "r")
    target = tmp_path / "packed.zip"
    excludes = one.runtime_env()["excludes"]
    create_package(str(folder), target, include_gitignore=False, excludes=excludes)
    with zipfile.ZipFile(target) as packed:
        files = sorted(name for name in packed.namelist() if not name.endswith("/"))
    assert files == ["my [clicks].yaml", "schemas/a b.yaml"]
