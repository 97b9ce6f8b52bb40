"""deploy/kuberay holds what `raylake submit` prints, and fits KubeRay's definitions (SPEC K2)."""

from __future__ import annotations

import copy
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from raylake.cli.main import main
from raylake.client.kuberay import MAX_CONFIG_BYTES, MAX_NAME, manifests
from raylake.client.submission import Submission
from raylake.config import load
from raylake.errors import ConfigError, Fenced, Refused
from tests.harness.crd_check import schema
from tests.harness.manifests import printed
from tests.packaging.test_lock import PINS, PROJECT

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
FILES = ("clicks-rayjob.yaml", "raycluster.yaml", "transform-cronjob.yaml")
_VALIDATOR = jsonschema.Draft202012Validator(schema())
_PIPELINE = """
pipeline: {name}
lake: s3://bucket/lake
kafka:
  bootstrap: broker:9093
  security: {{protocol: SASL_SSL, mechanism: PLAIN, username: env:WHO, password: env:WORD}}
bronze: {{a: {{topics: [a]}}}}
"""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [one for name in FILES for one in documents(name) if one["kind"] == kind]
    return found


def cluster_specs() -> list[dict[str, Any]]:
    return [of_kind("RayCluster")["spec"], of_kind("RayJob")["spec"]["rayClusterSpec"]]


def submission(folder: Path, text: str = "", name: str = "clicks", **more: Any) -> Submission:
    file = folder / "clicks.yaml"
    file.write_text(_PIPELINE.format(name=name) + text)
    return Submission(load(file, environ={}), "", "", variables={}, **more)


@pytest.mark.spec("K2")
@pytest.mark.parametrize("name", FILES)
def test_the_manifests_hold_fields_of_the_definitions_and_no_others(name: str) -> None:
    found = documents(name)
    assert found
    for one in found:
        _VALIDATOR.validate(one)


def _put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def put(document: dict[str, Any]) -> None:
        *way, last = path
        for step in way:
            document = document[step]
        document[last] = value

    return put


_CLUSTER = ("spec", "rayClusterSpec")
_HEAD = (*_CLUSTER, "headGroupSpec", "template", "spec")


@pytest.mark.parametrize(
    "wrong",
    [
        _put("3", "spec", "backoffLimit"),
        _put(3, "spec", "backofLimit"),
        _put(60, "spec", "ttlSecondsAfterFinished"),
        _put("raylake_clicks", "metadata", "name"),
        _put(1, "spec", "metadata", "raylake.version"),
        _put("always", *_CLUSTER, "autoscalerOptions", "upscalingMode"),
        _put(0, *_HEAD, "securityContext", "runAsUser"),
        _put({"cpu": "1"}, *_HEAD, "containers", 0, "resources", "limits"),
        _put([{"name": "A", "valueFrom": "b"}], *_HEAD, "containers", 0, "env"),
        _put("one", *_CLUSTER, "workerGroupSpecs", 0, "minReplicas"),
    ],
)
def test_what_kuberay_would_refuse_is_refused(wrong: Callable[[dict[str, Any]], None]) -> None:
    job = copy.deepcopy(of_kind("RayJob"))
    wrong(job)
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(job)


@pytest.mark.spec("K2")
def test_the_job_is_what_submit_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    file = FOLDER / "clicks.yaml"
    assert main(["submit", str(file), "--dry-run", "--output", "kuberay"]) == 0
    printed = capsys.readouterr().out
    assert printed == (FOLDER / "clicks-rayjob.yaml").read_text(encoding="utf-8")
    spec = of_kind("RayJob")["spec"]
    one = Submission(load(file, environ={}), "http://head:8265", "", variables={})
    words = one.entrypoint()
    assert [word.removeprefix("/etc/raylake/") for word in shlex.split(spec["entrypoint"])] == words
    assert spec["metadata"] == one.metadata()
    told = yaml.safe_load(spec["runtimeEnvYAML"])
    assert told == {"env_vars": one.variables_there()}
    assert of_kind("ConfigMap")["data"] == {"clicks.yaml": file.read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", printed())
def test_what_is_printed_is_committed_as_it_is(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == printed()[name]


@pytest.mark.spec("K2")
def test_rays_own_autoscaler_reads_the_groups() -> None:
    for spec in cluster_specs():
        named = {"metadata": {"name": "raylake", "namespace": "prod"}, "spec": spec}
        config = _derive_autoscaling_config_from_ray_cr(named)
        types = config["available_node_types"]
        offered = {name: one["resources"] for name, one in types.items()}
        mib = 2**20
        assert offered == {
            "headgroup": {"CPU": 0, "memory": 256 * mib},
            "ingest": {"CPU": 4, "memory": 256 * mib},
            "spark": {"CPU": 4, "memory": 24 * 1024 * mib, "spark": 1},
        }
        limits = {name: (one["min_workers"], one["max_workers"]) for name, one in types.items()}
        assert limits == {"headgroup": (0, 0), "ingest": (1, 4), "spark": (0, 1)}


def test_versions_are_those_of_the_lock() -> None:
    for spec in cluster_specs():
        assert spec["rayVersion"] == PINS["ray"]
    texts = "".join((FOLDER / name).read_text(encoding="utf-8") for name in FILES)
    images = re.findall(r"image: (\S+)", texts)
    assert len(images) == 7
    assert set(images) == {f"raylake:{PROJECT['version']}"}
    assert set(re.findall(r"app.kubernetes.io/version: ([\d.]+)", texts)) == {PROJECT["version"]}


def test_secrets_are_references_in_each_pod(tmp_path: Path) -> None:
    one = submission(tmp_path)
    config_map, job = manifests(one)
    cluster_spec = job["spec"]["rayClusterSpec"]
    groups = [cluster_spec["headGroupSpec"], *cluster_spec["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        found = {each["name"]: each.get("valueFrom") for each in container["env"]}
        for name in ("WHO", "WORD"):
            wanted = {"secretKeyRef": {"name": "raylake-clicks-secrets", "key": name}}
            assert found[name] == wanted
    assert cluster_spec["authOptions"] == {"mode": "token", "secretName": "raylake-ray-token"}
    assert "WORD" in config_map["data"]["clicks.yaml"], "as the reference that it is"


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("clicks", "raylake-clicks"),
        ("click_stream", "raylake-click-stream-"),
        ("Clicks", "raylake-clicks-"),
        ("c" * 128, "raylake-ccc"),
        ("_", "raylake-"),
    ],
)
def test_names_fit_kubernetes_and_stay_apart(tmp_path: Path, pipeline: str, name: str) -> None:
    found = manifests(submission(tmp_path, name=pipeline))
    for one in found:
        _VALIDATOR.validate(one)
    made = found[1]["metadata"]["name"]
    assert made.startswith(name)
    assert len(made) <= MAX_NAME
    assert (made == name) == (pipeline == "clicks")


def test_a_run_up_to_now_leaves_no_cluster(tmp_path: Path) -> None:
    _, job = manifests(submission(tmp_path, available_now=True))
    _VALIDATOR.validate(job)
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "--available-now" in shlex.split(job["spec"]["entrypoint"])


def test_schema_files_go_along_below_their_folders(tmp_path: Path) -> None:
    (tmp_path / "schemas" / "v 1").mkdir(parents=True)
    (tmp_path / "schemas" / "v 1" / "b.json").write_text('{"x": "long"}')
    text = 'bronze: {b: {topics: [b], schema: "schemas/v 1/b.json"}}\n'
    file = tmp_path / "clicks.yaml"
    file.write_text(_PIPELINE.format(name="clicks").partition("bronze:")[0] + text)
    config_map, job = manifests(Submission(load(file, environ={}), "", ""))
    _VALIDATOR.validate(config_map)
    volume = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"][0]
    paths = {one["path"]: config_map["data"][one["key"]] for one in volume["configMap"]["items"]}
    assert paths == {"clicks.yaml": file.read_text(), "schemas/v 1/b.json": '{"x": "long"}'}


def test_what_cannot_run_in_pods_is_refused(tmp_path: Path) -> None:
    one = submission(tmp_path)
    with pytest.raises(ConfigError, match="take-over"):
        manifests(Submission(one.loaded, "", "", take_over=True))
    on_disk = load(tmp_path / "clicks.yaml", environ={}, overrides={"lake": "/lake"})
    with pytest.raises(ConfigError, match="the pods are on several"):
        manifests(Submission(on_disk, "", ""))
    (tmp_path / "clicks.yaml").write_bytes(b"# \xe9\n" + (tmp_path / "clicks.yaml").read_bytes())
    with pytest.raises(ConfigError, match="UTF-8"):
        manifests(one)


def test_more_than_a_config_map_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ConfigMap holds"):
        manifests(submission(tmp_path, "# " + "x" * MAX_CONFIG_BYTES))


def test_manifests_are_printed_and_never_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(submission(tmp_path).loaded.path)
    assert main(["submit", file, "--output", "kuberay"]) == ConfigError.exit_code
    assert "--dry-run" in capsys.readouterr().err
    assert main(["submit", file, "--dry-run", "-okuberay", "--image", "mine:1"]) == 0
    assert "image: mine:1" in capsys.readouterr().out


@pytest.mark.spec("K7")
def test_the_cron_job_calls_a_command_that_there_is_and_knows_its_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = of_kind("CronJob")["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    program, *arguments = container["command"]
    assert program == "raylake"
    assert main(arguments) == ConfigError.exit_code
    assert "the file cannot be read" in capsys.readouterr().err, "nothing else is wrong"
    (rule,) = [
        one["onExitCodes"] for one in job["podFailurePolicy"]["rules"] if "onExitCodes" in one
    ]
    assert rule["containerName"] == container["name"]
    assert set(rule["values"]) == {kind.exit_code for kind in (ConfigError, Refused, Fenced)}, (
        "a dependency that was away may come back"
    )


@pytest.mark.spec("K7")
@pytest.mark.parametrize("code", [0, 1, 2, 4, 5, 6])
def test_the_guides_airflow_task_tries_again_what_may_heal(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class AgainError(Exception):
        pass

    class NeverError(AgainError):
        pass

    tasks: list[Callable[[], None]] = []

    def task(**_: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
        return lambda function: lambda: tasks.append(function)

    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr("subprocess.run", run)
    names = SimpleNamespace(AirflowException=AgainError, AirflowFailException=NeverError)
    sdk = SimpleNamespace(dag=lambda **_: lambda function: function, task=task)
    for name, module in (("airflow", sdk), ("airflow.sdk", sdk), ("airflow.exceptions", names)):
        monkeypatch.setitem(sys.modules, name, module)
    guide = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.+?)```", guide, flags=re.DOTALL)
    exec(example, {"__name__": "dag"})
    (transform,) = tasks
    raised: type[BaseException] | None = None
    try:
        transform()
    except AgainError as error:
        raised = type(error)
    assert raised is {0: None, 1: AgainError, 4: AgainError}.get(code, NeverError)
    program, *arguments = commands[0]
    assert program == "raylake"
    assert main(arguments) == ConfigError.exit_code
    assert "the file cannot be read" in capsys.readouterr().err
