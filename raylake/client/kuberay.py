"""A pipeline on Kubernetes: the objects that KubeRay makes a cluster and a job of.

A RayJob says what :mod:`raylake.client.submission` submits: the same command line, variables and
metadata. The pipeline file lies in a ConfigMap, secrets in Secrets of the user's own. Fields are
those of KubeRay's ``ray.io/v1`` (its release 1.7); validated by ``tests/packaging``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import yaml

from raylake import __version__
from raylake.client.submission import DRAIN_MARGIN_S, Submission
from raylake.config.addresses import is_local, written_addresses
from raylake.config.secrets import references
from raylake.errors import ConfigError
from raylake.spark.resources import PLACE

IMAGE: Final = f"raylake:{__version__}"
"""What ``deploy/Containerfile`` is built as, unless a registry's name is given."""
CONFIG: Final = "/etc/raylake"
"""The folder of the pipeline file in a pod."""
TOKEN_SECRET: Final = "raylake-ray-token"  # noqa: S105 - a Secret's name
"""The Secret whose key ``auth_token`` is the clusters' token."""
USER: Final = 1000
HEALTH_PORT: Final = 52365
"""Of Ray's agent on each node; ``/api/healthz`` is public there, also with token authentication."""
RESTARTS: Final = 3
IDLE_S: Final = 300
READY_WITHIN_S: Final = 1800
"""Image pulls and new machines among it."""
MAX_CONFIG_BYTES: Final = 900_000
"""Kubernetes takes objects of 1 MiB."""
MAX_NAME: Final = 47
"""KubeRay's own limit for a RayJob."""
SMALL_MEMORY: Final = "256Mi"
"""Less than Spark's least heap: what asks for memory goes to nodes that offer it."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A kind of node.

    Attributes:
        name: Its name in the cluster.
        cpu: Cores of a pod.
        memory: Of a pod, as Kubernetes writes it.
        offers: What Ray may plan with.
        most: Greatest number of pods; the head is one.
        least: Number of pods that are always there.
    """

    name: str
    cpu: str
    memory: str
    offers: Mapping[str, str] = field(default_factory=dict)
    most: int = 1
    least: int = 0


HEAD: Final = _Group("head", "2", "8Gi", {"CPU": "0", "memory": SMALL_MEMORY})
WORKERS: Final = (
    _Group("ingest", "4", "16Gi", {"CPU": "4", "memory": SMALL_MEMORY}, most=4, least=1),
    # One: Spark's executors stay on its driver's machine. No more CPUs offered than by the others,
    # or the autoscaler takes it for consumers.
    _Group("spark", "8", "32Gi", {"CPU": "4", "memory": "24Gi", PLACE: "1"}),
)
"""A consumer takes a CPU; what works on whole tables takes memory, Spark CPUs, too."""


def manifests(one: Submission, image: str = IMAGE) -> list[dict[str, Any]]:
    """The ConfigMap and the RayJob of a pipeline.

    Args:
        one: What would be submitted; without a run's id.
        image: With RayLake in it, of this version.

    Raises:
        ConfigError: The pipeline cannot run in pods as it is written.
    """
    _refuse(one)
    pipeline = one.loaded.config.pipeline
    name, keys = _object_name(pipeline), _keys(one)
    secrets = {
        reference.name for reference in references(one.loaded.config) if reference.kind == "env"
    }
    env = [_secret_variable(f"{name}-secrets", variable) for variable in sorted(secrets)]
    items = [{"key": key, "path": path} for key, path in keys.items()]
    volume = {"name": "pipeline", "configMap": {"name": name, "items": items}}
    once = {"shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": IDLE_S}
    spec = {
        "entrypoint": shlex.join(one.entrypoint(f"{CONFIG}/{one.loaded.path.name}")),
        "runtimeEnvYAML": _yaml({"env_vars": one.variables_there()}),
        "metadata": one.metadata(),
        # No shell between this and Ray.
        "submissionMode": "HTTPMode",
        "backoffLimit": RESTARTS,
        "preRunningDeadlineSeconds": READY_WITHIN_S,
        **(once if one.available_now else {"shutdownAfterJobFinishes": False}),
        "rayClusterSpec": _cluster_spec(image, env, volume, _grace_s(one)),
    }
    texts = {key: _text(one, path) for key, path in keys.items()}
    if sum(len(text.encode()) for text in texts.values()) > MAX_CONFIG_BYTES:
        raise ConfigError(
            f"pipeline {pipeline!r} and its schema files have more than {MAX_CONFIG_BYTES} bytes, "
            "which no ConfigMap holds",
            hint="put the schema files into the image and name them by absolute paths",
        )
    config_map = {**_head_of("v1", "ConfigMap", name), "data": texts}
    return [config_map, {**_head_of("ray.io/v1", "RayJob", name), "spec": spec}]


def cluster(image: str = IMAGE) -> dict[str, Any]:
    """A RayCluster that stands by itself, for ``raylake submit --address``."""
    return {**_head_of("ray.io/v1", "RayCluster", "raylake"), "spec": _cluster_spec(image)}


def as_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """The objects as ``kubectl apply -f`` takes them."""
    return "---\n".join(_yaml(document) for document in documents)


def _refuse(one: Submission) -> None:
    if one.take_over:
        raise ConfigError(
            "--take-over in a manifest would take over at each restart",
            hint="leave it out: a restart waits for an owner that may be alive",
        )
    for address in written_addresses(one.loaded.config):
        if is_local(address):
            raise ConfigError(
                f"{address} is a folder of one machine, and the pods are on several",
                hint="use s3://, gs:// or abfss:// for the lake and for each `path`",
            )


def _object_name(pipeline: str) -> str:
    """A name that Kubernetes takes; another pipeline has another one."""
    wanted = f"raylake-{pipeline}"
    name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if name == wanted and len(name) <= MAX_NAME:
        return name
    told = hashlib.sha256(pipeline.encode()).hexdigest()[:6]
    return f"{name[: MAX_NAME - 7].rstrip('-')}-{told}"


def _keys(one: Submission) -> dict[str, str]:
    """The paths of the files by their keys in the ConfigMap."""
    keys: dict[str, str] = {}
    for number, path in enumerate(one.files()):
        key = re.sub(r"[^-._a-zA-Z0-9]", "_", path)
        keys[key if key not in keys else f"{key}.{number}"] = path
    return keys


def _text(one: Submission, path: str) -> str:
    try:
        return one.files()[path].read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot go into a ConfigMap: {error}",
            hint="it has to be a text file in UTF-8",
        ) from error


def _grace_s(one: Submission) -> int:
    return math.ceil(one.loaded.config.ingest.drain_timeout_s + DRAIN_MARGIN_S)


def _head_of(api: str, kind: str, name: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "raylake", "app.kubernetes.io/version": __version__}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}}


def _cluster_spec(
    image: str,
    env: Iterable[Mapping[str, Any]] = (),
    volume: Mapping[str, Any] | None = None,
    grace_s: int = 60,
) -> dict[str, Any]:
    def template(group: _Group, kind: str) -> dict[str, Any]:
        spec = {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_s,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(group, kind, image, env, volume)],
        }
        if kind == "worker":
            spec["automountServiceAccountToken"] = False
        if volume is not None:
            spec["volumes"] = [volume]
        return {"metadata": {"labels": {"app.kubernetes.io/name": "raylake"}}, "spec": spec}

    workers = [
        {
            "groupName": group.name,
            "replicas": group.least,
            "minReplicas": group.least,
            "maxReplicas": group.most,
            "rayStartParams": {},
            "resources": dict(group.offers),
            "template": template(group, "worker"),
        }
        for group in WORKERS
    ]
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token", "secretName": TOKEN_SECRET},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": IDLE_S,
            "upscalingMode": "Default",
            "securityContext": _locked(),
            "resources": _resources("500m", "1Gi"),
        },
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {},
            "resources": dict(HEAD.offers),
            "template": template(HEAD, "head"),
        },
        "workerGroupSpecs": workers,
    }


def _container(
    group: _Group,
    kind: str,
    image: str,
    env: Iterable[Mapping[str, Any]],
    volume: Mapping[str, Any] | None,
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": f"ray-{kind}",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}, *env],
        "resources": _resources(group.cpu, group.memory),
        "securityContext": _locked(),
        "readinessProbe": _probe(failures=10),
        "livenessProbe": _probe(failures=60),
    }
    if kind == "head":
        ports = {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080}
        made["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    if volume is not None:
        mount = {"name": volume["name"], "mountPath": CONFIG, "readOnly": True}
        made["volumeMounts"] = [mount]
    return made


def _probe(failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/api/healthz", "port": HEALTH_PORT},
        "initialDelaySeconds": 10,
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _locked() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _resources(cpu: str, memory: str) -> dict[str, Any]:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": cpu, "memory": memory},
    }


def _secret_variable(secret: str, name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}


class _Dumper(yaml.SafeDumper):
    """Keeps the lines of a text that has several."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _lines)


def _yaml(document: Any) -> str:
    # What stands there twice is written twice, not once and as an anchor.
    plain = json.loads(json.dumps(document))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
