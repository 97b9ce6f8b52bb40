"""A submitted job knows Ray's id of it."""

from __future__ import annotations

import json

import pytest

from jobs.running import submission_id
from raylake.client.cluster import SUBMITTED_ENV


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (None, None),
        ("", None),
        ("no json", None),
        (json.dumps({"runtime_env": {}, "metadata": None}), None),
        (json.dumps({"metadata": {"job_submission_id": "raylake-a-1"}}), "raylake-a-1"),
    ],
)
def test_ray_tells_it_in_the_jobs_metadata(told: str | None, wanted: str | None) -> None:
    assert submission_id({} if told is None else {SUBMITTED_ENV: told}) == wanted
