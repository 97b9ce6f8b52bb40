"""Prints the manifests of deploy/kuberay anew: ``python -m tests.harness.manifests``."""

from __future__ import annotations

from pathlib import Path

from raylake.client.kuberay import as_yaml, cluster, manifests
from raylake.client.submission import Submission
from raylake.config import load

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kuberay"


def printed() -> dict[str, str]:
    """The files' texts by their names."""
    one = Submission(load(FOLDER / "clicks.yaml", environ={}), "", "", variables={})
    return {
        "clicks-rayjob.yaml": as_yaml(manifests(one)),
        "raycluster.yaml": as_yaml([cluster()]),
    }


if __name__ == "__main__":
    for name, text in printed().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
