"""Whether our schema of Kubernetes objects agrees with KubeRay's own definitions of its resources.

``python -m tests.harness.crd_check FOLDER``, the folder being ``ray-operator/config/crd/bases`` of
a copy of KubeRay. Each field of ours has to be there with its type, and what is required there is
required here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).parents[1] / "packaging" / "kubernetes.schema.yaml"
FILES = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}


def schema() -> dict[str, Any]:
    """Ours."""
    found: dict[str, Any] = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return found


def differences(folder: Path) -> Iterator[str]:
    """Where ours is not what the definitions say."""
    ours = schema()
    for kind, file in FILES.items():
        versions = yaml.safe_load((folder / file).read_text(encoding="utf-8"))["spec"]["versions"]
        (theirs,) = [one for one in versions if one["name"] == "v1"]
        spec = theirs["schema"]["openAPIV3Schema"]["properties"]["spec"]
        yield from _within(ours, ours["$defs"][kind]["properties"]["spec"], spec, kind)


def _within(
    root: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], at: str
) -> Iterator[str]:
    while "$ref" in mine:
        mine = root["$defs"][mine["$ref"].rsplit("/", 1)[1]]
    either = theirs.get("x-kubernetes-int-or-string") and mine.get("type") in ("integer", "string")
    if "type" in mine and mine["type"] != theirs.get("type") and not either:
        yield f"{at}: {mine['type']} here, {theirs.get('type')} there"
        return
    if "enum" in mine and set(mine["enum"]) - set(theirs.get("enum", mine["enum"])):
        yield f"{at}: {mine['enum']} here, {theirs['enum']} there"
    known = theirs.get("properties", {})
    if mine.get("type") == "object" and known:
        for name in set(theirs.get("required", ())) - set(mine.get("required", ())):
            yield f"{at}.{name}: required there"
    for name, one in mine.get("properties", {}).items():
        inner = known.get(name, theirs.get("additionalProperties"))
        if inner is None:
            yield f"{at}.{name}: not there"
        else:
            yield from _within(root, one, inner, f"{at}.{name}")
    if "items" in mine:
        yield from _within(root, mine["items"], theirs.get("items", {}), f"{at}[]")


if __name__ == "__main__":
    found = list(differences(Path(sys.argv[1])))
    print("\n".join(found) or "agrees")
    sys.exit(bool(found))
