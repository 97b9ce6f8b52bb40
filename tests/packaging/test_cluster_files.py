"""The files of Ray's cluster launcher, filled in and carried out by Ray's own code (SPEC K2)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import (
    _resource_based_utilization_scorer,
    get_nodes_for,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from raylake.config.spark import LEAST_MEMORY_BYTES, Spark
from raylake.spark.resources import Executor, host_resources
from tests.packaging.test_lock import PROJECT

ROOT = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "deploy/cluster-gcp.yaml", "deploy/cluster-local.yaml")
CLOUDS = FILES[:2]


def written(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def filled_in(name: str) -> dict[str, Any]:
    """As `ray up` has it before it asks a cloud for anything."""
    found: dict[str, Any] = prepare_config(written(name))
    return found


@pytest.mark.spec("K2")
@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file_as_it_is_and_filled_in(name: str) -> None:
    validate_config({"cluster_synced_files": [], **written(name)})
    validate_config(filled_in(name))


def _type_of_a_number(config: dict[str, Any]) -> None:
    config["max_workers"] = "five"


def _unknown_key(config: dict[str, Any]) -> None:
    config["max_worker"] = 5


def _unknown_key_of_docker(config: dict[str, Any]) -> None:
    config["docker"]["imagine"] = "raylake"


def _half_a_cpu(config: dict[str, Any]) -> None:
    config["available_node_types"]["ingest"]["resources"]["CPU"] = 0.5


def _no_such_head(config: dict[str, Any]) -> None:
    config["head_node_type"] = "heads"


def _more_than_all(config: dict[str, Any]) -> None:
    config["available_node_types"]["ingest"]["min_workers"] = 6


@pytest.mark.parametrize(
    "wrong",
    [
        _type_of_a_number,
        _unknown_key,
        _unknown_key_of_docker,
        _half_a_cpu,
        _no_such_head,
        _more_than_all,
    ],
)
@pytest.mark.parametrize("name", CLOUDS)
def test_what_is_wrong_is_refused(name: str, wrong: Callable[[dict[str, Any]], None]) -> None:
    config = copy.deepcopy(filled_in(name))
    wrong(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(config)


@pytest.mark.parametrize("name", FILES)
def test_nodes_install_nothing_and_say_nothing_to_strangers(name: str) -> None:
    config = filled_in(name)
    commands = ("setup_commands", "head_setup_commands", "worker_setup_commands")
    assert [config[one] for one in commands] == [[], [], []], "Ray's defaults install another Ray"
    image = config["docker"]["image"]
    assert image.rpartition(":")[2] == PROJECT["version"]
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    (folder,) = config["file_mounts"]
    assert f"--env=RAY_AUTH_TOKEN_PATH={folder}/auth_token" in config["docker"]["run_options"]
    (head,) = [one for one in config["head_start_ray_commands"] if "--head" in one]
    assert "--dashboard-host=127.0.0.1" in head.split()
    assert "auth_token=" not in (ROOT / name).read_text()


def _scored(resources: dict[str, float], demands: list[dict[str, float]], _type: str) -> Any:
    empty = NodeAvailabilitySummary(node_availabilities={})
    return _resource_based_utilization_scorer(resources, demands, node_availability_summary=empty)


@pytest.mark.spec("K2")
@pytest.mark.parametrize("name", CLOUDS)
def test_the_autoscaler_finds_a_node_for_each_thing_that_is_asked_for(name: str) -> None:
    types = filled_in(name)["available_node_types"]
    executor = Executor.of(Spark.model_validate({"cores": 2, "memory": "8GiB"}))
    gib = float(2**30)

    def launched(*demands: dict[str, float]) -> dict[str, int]:
        """By type, beside the head alone."""
        found, left = get_nodes_for(types, {"head": 1}, "head", 5, list(demands), _scored)
        assert left == [], "no type offers this"
        return dict(found)

    assert launched(*[{"CPU": 1.0}] * 8) == {"ingest": 2}, "eight consumers"
    assert launched(host_resources({"spark": 1.0})) == {"spark": 1}, "Spark's host"
    assert launched(executor.bundle, executor.bundle) == {"spark": 1}, "Spark's executors"
    assert launched({"memory": 16 * gib}) == {"spark": 1}, "delta-rs on a whole table"


@pytest.mark.parametrize("name", CLOUDS)
def test_executors_have_room_on_the_nodes_for_spark_alone(name: str) -> None:
    least = Executor(1.0, float(LEAST_MEMORY_BYTES))
    types = filled_in(name)["available_node_types"]
    assert types["spark"]["resources"]["CPU"] <= types["ingest"]["resources"]["CPU"]
    rooms = {kind: least.room(one["resources"]) for kind, one in types.items()}
    assert rooms["head"] == rooms["ingest"] == 0, "Spark refuses executors on other machines"
    assert rooms["spark"] >= 2
    assert types["spark"]["max_workers"] == 1
    assert types["ingest"]["min_workers"] >= 1


@pytest.mark.spec("K2")
def test_ray_launches_each_type_in_what_speaks_the_api_of_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / ".ssh").mkdir()
    with mock_aws():
        launched = _launched(filled_in("cluster.yaml"))
    assert {one["InstanceType"] for one in launched} == {"m5.large", "m5.xlarge", "m5.2xlarge"}
    for one in launched:
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert [group["GroupName"] for group in one["SecurityGroups"]] == ["ours"]


def _launched(config: dict[str, Any]) -> list[dict[str, Any]]:
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    iam, ec2 = boto3.client("iam"), boto3.client("ec2", region_name=config["provider"]["region"])
    for one in ("raylake-head", "raylake-lake"):
        iam.create_instance_profile(InstanceProfileName=one)
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    ours = ec2.create_security_group(GroupName="ours", Description="ours", VpcId=network)["GroupId"]
    for kind in config["available_node_types"].values():
        kind["node_config"]["SecurityGroupIds"] = [ours]
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-type": "worker", "ray-user-node-type": name}
        provider.create_node(kind["node_config"], tags, 1)
    # What Ray would have made takes SSH from everywhere.
    groups = {one["GroupName"] for one in ec2.describe_security_groups()["SecurityGroups"]}
    assert groups == {"ours", "default"}
    found = ec2.describe_instances()["Reservations"]
    return [dict(one) for reservation in found for one in reservation["Instances"]]
